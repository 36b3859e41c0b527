#!/usr/bin/env python3
"""Writes the figures of acceptance into docs/benchmarks.md, between its marks.

    taskset -c 4,6 build/bench/bench/routing/acceptance --json acceptance.json 14
    bench/routing/write_tables.py acceptance.json docs/benchmarks.md

What stands between `<!-- acceptance -->` and `<!-- end of acceptance -->` is replaced: the machine,
the compiler, the version, the date and the tables. Figures of a run that calls itself noisy are
refused.
"""

import json
import re
import sys

BEGIN, END = "<!-- acceptance -->", "<!-- end of acceptance -->"


def tables(run):
    yield (
        f"{run['processor']}, {run['processors']} processors, compiler"
        f" {run['compiler']}, fdroute {run['version']}, {run['date']}, {run['turns']} turns:"
    )
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


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        run = json.load(file)
    if run["noise"]:
        sys.exit(f"{sys.argv[1]}: {run['noise']}")
    with open(sys.argv[2], encoding="utf-8") as file:
        text = file.read()
    whole = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.DOTALL)
    if len(whole.findall(text)) != 1:
        sys.exit(f"{sys.argv[2]}: the marks {BEGIN} and {END} must stand there once")
    new = "\n".join([BEGIN, "", *tables(run), "", END])
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(whole.sub(lambda _: new, text))


if __name__ == "__main__":
    main()
