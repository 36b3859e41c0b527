"""What the checks of the engines share: the policies, the rows that they print, and the table of these rows.

A row is a line of five fields between tabs: engine, policy, what was compared, the difference to the reference, and
what it may be at most. `python3 report.py FILE...` prints the rows of these files as one table. Its exit status is 0
only if every file has rows and all are within tolerance.
"""

from __future__ import annotations

import pathlib
import sys

HERE = pathlib.Path(__file__).parent


def policies() -> dict[str, str]:
    """Policy strings by name, from policies.txt."""
    lines = (HERE / "policies.txt").read_text().splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))


def row(engine: str, policy: str, compared: str, difference: float, tolerance: float) -> None:
    print("row", engine, policy, compared, repr(float(difference)), repr(float(tolerance)), sep="\t", flush=True)


def main() -> int:
    rows, failed = [], False
    for path in map(pathlib.Path, sys.argv[1:]):
        lines = [line.split("\t")[1:] for line in path.read_text().splitlines() if line.startswith("row\t")]
        failed |= not lines
        for engine, policy, compared, difference, tolerance in lines:
            within = float(difference) <= float(tolerance)  # false for NaN
            failed |= not within
            verdict = "ok" if within else "DIFFERS"
            rows.append((engine, policy, compared, f"{float(difference):.2g}", f"{float(tolerance):.2g}", verdict))
    heading = ("engine", "policy", "compared", "difference", "tolerance", "verdict")
    widths = [max(map(len, column)) for column in zip(heading, *rows)]
    for cells in (heading, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
