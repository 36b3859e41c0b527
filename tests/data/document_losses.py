"""Writes the nll differences of documents that tests/reference/measure/non_inferiority_test.cpp draws from.

    olmoe sweep --model reference/model --shuffles 0 --new-tokens 0 --out out
    python3 tests/data/document_losses.py out > tests/data/document_losses.csv

The first line has the mean experts of bh21's policies with max_k 16, from the most to the fewest; every other line a
document of the bundled text, and its nll under each of them less that under top-8, in nats per token.
"""

import json
import pathlib
import sys


def losses(result):
    """Mean nll of every document."""
    means = []
    for domain in result["evaluation"]["domains"]:
        windows = iter(domain["windows"])
        for n in domain["documents"]:
            sums = [next(windows) for _ in range(n)]
            means.append(sum(s for _, s in sums) / sum(t for t, _ in sums))
    return means


configs = pathlib.Path(sys.argv[1]) / "configs"
read = {path.stem: json.loads(path.read_text())["result"] for path in configs.glob("*.json")}
rows = [read[f"bh_k16_a{alpha}"] for alpha in ("020", "010", "005", "001")]
baseline = losses(read["topk_8_baseline"])
print(",".join(f"{row['evaluation']['total']['routing']['experts']['mean']:.4f}" for row in rows))
for values in zip(*map(losses, rows), baseline, strict=True):
    print(",".join(f"{value - values[-1]:.6f}" for value in values[:-1]))
