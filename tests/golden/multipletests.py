"""Writes multipletests.csv: the p-values of p_adjust.csv and statsmodels' corrected ones.

    python3 multipletests.py p_adjust.csv multipletests.csv

The tests read the file; they need neither Python nor statsmodels.
"""

import csv
import sys

import statsmodels
from statsmodels.stats.multitest import multipletests

METHODS = ["bonferroni", "sidak", "holm", "simes-hochberg", "hommel", "fdr_bh", "fdr_by"]
TWO_STAGE = [0.01, 0.05, 0.25]  # fdr_tsbky's corrected p-values depend on alpha

if len(sys.argv) != 3:
    sys.exit(__doc__)

cases = {}
with open(sys.argv[1], encoding="utf-8") as file:
    for row in csv.DictReader(line for line in file if not line.startswith("#")):
        cases.setdefault(row["case"], []).append(float(row["p"]))

with open(sys.argv[2], "w", encoding="utf-8") as file:
    print(f"# statsmodels {statsmodels.__version__}", file=file)
    print("case", "p", *METHODS, *(f"fdr_tsbky@{alpha}" for alpha in TWO_STAGE), sep=",", file=file)
    for name, p in cases.items():
        columns = [multipletests(p, method=method)[1] for method in METHODS]
        columns += [multipletests(p, alpha=alpha, method="fdr_tsbky")[1] for alpha in TWO_STAGE]
        for values in zip(p, *columns):
            print(name, *(f"{value:.17g}" for value in values), sep=",", file=file)
