#!/usr/bin/env python3
"""weights_table.py FOLDER: a table of ratios of perplexity from what `olmoe perplexity --json` wrote.

FOLDER holds topk_3.json ... topk_5.json, plain top-k; threshold_3.json, threshold_4.json, bh_3.json and bh_4.json, the
rules with fitted weights at a mean near 3 and 4; topk_mass_3.json and topk_mass_4.json, top-k with such. Differences of nll are
means over documents, each weighing the same, with their standard errors. Plain top-k of the same mean experts draws one
of the two k around it: its nll is the chord between theirs.
"""

import json
import math
import pathlib
import statistics
import sys


def read(file: pathlib.Path) -> tuple[float, list[float]]:
    """Mean experts, and each document's nll."""
    evaluation = json.loads(file.read_text())["evaluation"]
    losses = []
    for domain in evaluation["domains"]:
        windows = iter(domain["windows"])
        for count in domain["documents"]:
            tokens, sums = zip(*(next(windows) for _ in range(count)))
            losses.append(sum(sums) / sum(tokens))
    return evaluation["total"]["routing"]["experts"]["mean"], losses


def ratio(differences: list[float]) -> str:
    value = math.exp(statistics.mean(differences))
    return f"{value:.4f} ± {value * statistics.stdev(differences) / math.sqrt(len(differences)):.4f}"


def main() -> None:
    found = {file.stem: read(file) for file in pathlib.Path(sys.argv[1]).glob("*.json")}
    plain = {k: found[f"topk_{k}"][1] for k in (3, 4, 5)}

    def over_plain(name: str) -> list[float]:
        mean, losses = found[name]
        k = min(max(int(mean), 3), 4)
        return [x - a - (mean - k) * (b - a) for x, a, b in zip(losses, plain[k], plain[k + 1])]

    print("## Weights\n\n| configuration | experts | to plain top-k | to top-k with its own |\n|---|---:|---:|---:|")
    for k in (3, 4):
        own = over_plain(f"topk_mass_{k}")
        print(f"| `topk` | {k:.2f} | {ratio(own)} | – |")
        for rule in ("threshold", "bh"):
            policy = over_plain(f"{rule}_{k}")
            beside = ratio([a - b for a, b in zip(policy, own)])
            print(f"| `{rule}` | {found[f'{rule}_{k}'][0]:.2f} | {ratio(policy)} | {beside} |")
    print()


if __name__ == "__main__":
    main()
