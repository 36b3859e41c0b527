"""Checks the routing of llama.cpp: its perplexity of a text against that of `olmoe perplexity`.

    python3 check.py --program fdroute_llama --model DIR --reference DIR --work DIR

REFERENCE/ids.json holds the text's ids, NAME.perplexity what `olmoe perplexity --window 512` printed for a policy.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from random_gguf import SHAPES, VOCABULARY, write_random
from report import policies, row

TOLERANCE = 1e-4
# Places a token: what the policy may need, and more of them, which then repeat.
WIDTHS = {"native": [8], "topk4": [4, 8], "relative": [8]}


def run(arguments, gguf: str, *options: str, ids: pathlib.Path | None = None, window: int = 512) -> dict[str, str]:
    """What the program printed, by the first word of a line."""
    command = [arguments.program.resolve(), "--model", arguments.work / gguf, "--window", str(window), *options]
    command += ["--threads", "1", "--ids", ids or arguments.reference / "ids.json"]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit status {done.returncode}")
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def expected(arguments, name: str) -> tuple[float, float]:
    """Perplexity and mean experts, from the last line: text, tokens, nll +- error, perplexity +- error, experts."""
    line = (arguments.reference / f"{name}.perplexity").read_text().splitlines()[-1]
    perplexity, experts = re.fullmatch(r"\S+ +\d+ +\S+ \+- \S+ +(\S+) \+- \S+ +(\S+)", line).groups()
    return float(perplexity), float(experts)


def check_shapes(arguments, engine: str) -> None:
    """Models of other architectures: the preset of each routes as llama.cpp does; another policy does not."""
    ids = arguments.work / "random_ids.json"
    ids.write_text(json.dumps([(7 * i * i + 3 * i) % VOCABULARY for i in range(200)]))
    for architecture, (preset, _) in SHAPES.items():
        gguf = f"{architecture}.gguf"
        write_random(arguments.work / gguf, architecture)
        own = run(arguments, gguf, ids=ids, window=64)
        got = run(arguments, gguf, "--policy", preset, ids=ids, window=64)
        difference = abs(float(got["perplexity"]) / float(own["perplexity"]) - 1)
        row(engine, preset.partition(":")[0], f"{architecture}: perplexity beside its own, relative", difference, 1e-6)
        other = run(arguments, gguf, "--policy", "topk:k=1", ids=ids, window=64)
        same = float(abs(float(other["perplexity"]) / float(own["perplexity"]) - 1) < 1e-3)
        row(engine, "topk:k=1", f"{architecture}: perplexity that is its own", same, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("program", "model", "reference", "work"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    for kind in ("f32", "bf16"):
        writer = [sys.executable, HERE / "write_gguf.py", "--model", arguments.model, "--type", kind]
        subprocess.run([*writer, "--out", arguments.work / f"{kind}.gguf"], check=True)

    own = run(arguments, "f32.gguf")
    engine = "llama.cpp " + own["llama.cpp"]
    perplexity, _ = expected(arguments, "native")
    row(engine, "its own", "perplexity, relative", abs(float(own["perplexity"]) / perplexity - 1), TOLERANCE)
    for name, policy in policies().items():
        perplexity, experts = expected(arguments, name)
        nulls = [] if "null=" in policy else ["--nulls", str(arguments.model / "nulls.safetensors")]
        for width in WIDTHS.get(name, [16]):
            got = run(arguments, "f32.gguf", "--policy", policy, "--width", str(width), *nulls)
            here = f"{name} in {width}"
            row(engine, here, "perplexity, relative", abs(float(got["perplexity"]) / perplexity - 1), TOLERANCE)
            row(engine, here, "mean experts", abs(round(float(got["experts"]), 3) - experts), 0)

    # In bf16, llama.cpp rounds activations, too: the callback must not add to that.
    own = run(arguments, "bf16.gguf")
    got = run(arguments, "bf16.gguf", "--policy", policies()["native"])
    difference = abs(float(got["perplexity"]) / float(own["perplexity"]) - 1)
    row(engine, "native, bf16", "perplexity beside its own, relative", difference, 1e-3)
    check_shapes(arguments, engine)


if __name__ == "__main__":
    main()
