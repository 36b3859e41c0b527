"""The time that llama.cpp, routed by fdroute and by itself, and the reference `olmoe` take to decode a token.

    python3 decode.py --llama "chroot build/roots/sid /fdroute/fdroute_llama" --gguf /six.gguf \\
        --ids /fdroute/work/ids.json --olmoe build/release/reference/olmoe --model six [--rounds N] [--tokens N]

Every variant runs once in a round, by one thread, and rounds follow one another, so that what else the machine does
falls on all of them. Printed are medians over rounds: processor time a token, and its ratio to the time of llama.cpp
routing by itself in the same round. `olmoe` has no processor time of its own decoding alone: it is the difference
between a run of N + 8 tokens and one of 8, divided by N. MODEL needs a tokenizer.json; any will do. FILE.json and
FILE.gguf are paths as the program sees them. docs/llama-cpp.md has what came out.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import statistics
import subprocess

WARM = 8  # tokens that are not measured

# Options of fdroute_llama after its first ones; none: llama.cpp routes by itself.
LLAMA = {
    "llama.cpp": [],
    **{
        f"{policy} in {width}": ["--policy", policy, "--width", str(width)]
        for policy, width in (
            ("topk:k=8", 8), ("topk:k=4", 8), ("topk:k=2", 8), ("relative:t=0.6,max_k=8", 8), ("topk:k=4", 4), ("topk:k=2", 2),
        )
    },
}  # fmt: skip
OLMOE = ["topk:k=8", "topk:k=4"]


def llama(arguments, options: list[str]) -> tuple[float, float]:
    """Processor milliseconds a token, and mean experts."""
    command = [*shlex.split(arguments.llama), "--model", arguments.gguf, "--ids", arguments.ids, "--threads", "1"]
    command += ["--decode", str(arguments.tokens), *options]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    facts = dict(line.split(" ", 1) for line in lines)
    return float(facts["processor-ms/token"]), float(facts.get("experts", 8))


def olmoe(arguments, policy: str) -> tuple[float, float]:
    """llama() of the reference."""
    seconds = []
    for tokens in (WARM, WARM + arguments.tokens):
        command = [*shlex.split(arguments.olmoe), "generate", "--model", arguments.model, "--route", policy, "--json"]
        command += ["--threads", "1", "--max-new-tokens", str(tokens), "--prompt", "In the beginning"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        generation = json.loads(done.stdout)["generations"][0]
        if generation["new_tokens"] != tokens:
            raise RuntimeError(f"olmoe ended after {generation['new_tokens']} of {tokens} tokens")
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return 1000 * (seconds[1] - seconds[0]) / arguments.tokens, generation["mean_experts"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("llama", "gguf", "ids", "olmoe", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=24)
    arguments = parser.parse_args()
    runs = {name: lambda options=options: llama(arguments, options) for name, options in LLAMA.items()}
    runs |= {f"olmoe {policy}": lambda policy=policy: olmoe(arguments, policy) for policy in OLMOE}
    times: dict[str, list[float]] = {name: [] for name in runs}
    experts = {}
    for number in range(arguments.rounds):
        for name, run in runs.items():
            milliseconds, experts[name] = run()
            times[name].append(milliseconds)
            print(f"round {number + 1}: {name}: {milliseconds:.1f} ms, {experts[name]:.2f} experts", flush=True)
    print("| routed by, in places | mean experts | processor ms a token | ratio to llama.cpp |")
    print("|---|---|---|---|")
    for name, milliseconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(milliseconds, times["llama.cpp"]))
        print(f"| {name} | {experts[name]:.2f} | {statistics.median(milliseconds):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
