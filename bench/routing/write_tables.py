#!/usr/bin/env python3
"""Writes the figures of acceptance, or of peers, into docs/benchmarks.md, between their marks.

    taskset -c 4,6 build/bench/bench/routing/acceptance --json acceptance.json 14
    bench/routing/write_tables.py acceptance.json docs/benchmarks.md
    ./bootstrap bench peers
    bench/routing/write_tables.py build/peers/peers.json docs/benchmarks.md

What stands between `<!-- NAME -->` and `<!-- end of NAME -->`, NAME being acceptance or peers, is
replaced: the machine, the compiler, the versions, the date and the tables. Figures of a run that
calls itself noisy are refused; with `--noisy` before FILE they are written, with its words.
"""

import json
import re
import sys


def where(run):
    return (
        f"{run['processor']}, {run['processors']} processors, compiler"
        f" {run['compiler']}, fdroute {run['version']}, {run['date']}, {run['turns']} turns"
    )


def acceptance(run):
    yield where(run) + ":"
    yield ""
    yield "| | ns/token | x softmax | target | spread |"
    yield "|---|---:|---:|---:|---:|"
    for case in run["cases"]:
        yield (
            f"| {case['name']} | {case['ns']:.1f} | {case['ratio']:.2f} | {case['target']} |"
            f" {100 * case['spread']:.0f} % |"
        )
    yield ""
    yield "| | times | target |"
    yield "|---|---:|---:|"
    for quotient in run["times"]:
        yield f"| {quotient['name']} | {quotient['times']:.2f} | {quotient['target']} |"


def peers(run):
    others = [name for name in ("ggml", "ggml_top_k", "torch", "torch.compile") if any(name in row for row in run["peers"])]
    versions = f"ggml {run['ggml']}" + (f", torch {run['torch']}" if "torch" in run else "")
    yield f"{where(run)}, {versions}, threads: {run['threads']}:"
    yield ""
    yield "| router, experts | tokens a call | fdroute, ns | spread |" + "".join(
        f" {name}, ns | times |" for name in others
    )
    yield "|---|---:|---:|---:|" + "---:|---:|" * len(others)
    for row in run["peers"]:
        line = f"| {row['name']}, {row['experts']} | {row['tokens']} | {row['fdroute']['ns']:.1f} |"
        line += f" {100 * row['fdroute']['spread']:.0f} % |"
        for name in others:
            if name not in row:
                line += " | |"
                continue
            times = f"{row[name]['times']:.1f}"
            missed = row[name]["times"] < row[name]["aim"]
            line += f" {row[name]['ns']:.0f} | {f'**{times}**' if missed else times} |"
        yield line


def main():
    arguments = sys.argv[1:]
    noisy = arguments[:1] == ["--noisy"]
    if noisy:
        del arguments[0]
    if len(arguments) != 2:
        sys.exit(__doc__)
    source, page = arguments
    with open(source, encoding="utf-8") as file:
        run = json.load(file)
    if run["noise"] and not noisy:
        sys.exit(f"{source}: {run['noise']}")
    table = peers if "peers" in run else acceptance
    begin, end = f"<!-- {table.__name__} -->", f"<!-- end of {table.__name__} -->"
    with open(page, encoding="utf-8") as file:
        text = file.read()
    whole = re.compile(re.escape(begin) + ".*" + re.escape(end), re.DOTALL)
    if len(whole.findall(text)) != 1:
        sys.exit(f"{page}: the marks {begin} and {end} must stand there once")
    words = [run["noise"], ""] if run["noise"] else []
    new = "\n".join([begin, "", *words, *table(run), "", end])
    with open(page, "w", encoding="utf-8") as file:
        file.write(whole.sub(lambda _: new, text))


if __name__ == "__main__":
    main()
