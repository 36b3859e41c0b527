"""Writes upper tails and quantiles of Student's t as scipy computes them.

    python3 student_t.py student_t.csv

Columns: function (tail or quantile), argument (t or p), degrees of freedom, value. Quantiles are roots of scipy's tail:
its own ppf is off by up to 3e-9.
Debian 12's python3-scipy, 1.10.1.
"""

import sys

from scipy.optimize import brentq
from scipy.stats import t


def quantile(p: float, df: int) -> float:
    """The x with P(T <= x) = p, by the tail on its side of 0."""
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -quantile(1 - p, df)
    return brentq(lambda x: t.sf(x, df) - (1 - p), 0.0, 1e6, xtol=1e-15, rtol=1e-15, maxiter=1000)


with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write("function,argument,df,value\n")
    for df in (1, 2, 3, 6, 9, 10, 27, 58, 59, 134, 1000):
        for x in (0.0, 1e-6, 0.1, 0.5, 1.0, 1.645, 1.7, 2.0, 3.0, 5.0, 10.0, 40.0, -0.3, -2.5):
            file.write(f"tail,{x!r},{df},{float(t.sf(x, df))!r}\n")
        for p in (0.001, 0.05, 0.3, 0.5, 0.7, 0.9, 0.95, 0.975, 0.9964, 0.9999):
            file.write(f"quantile,{p!r},{df},{quantile(p, df)!r}\n")
