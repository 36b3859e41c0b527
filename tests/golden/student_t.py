"""Writes upper tails and quantiles of Student's t as scipy computes them.

    python3 student_t.py student_t.csv

Columns: function (tail or quantile), argument (t or p), degrees of freedom, value.
Debian 12's python3-scipy, 1.10.1.
"""

import sys

from scipy.stats import t

with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write("function,argument,df,value\n")
    for df in (1, 2, 3, 6, 9, 10, 27, 58, 59, 134, 1000):
        for x in (0.0, 1e-6, 0.1, 0.5, 1.0, 1.645, 1.7, 2.0, 3.0, 5.0, 10.0, 40.0, -0.3, -2.5):
            file.write(f"tail,{x!r},{df},{float(t.sf(x, df))!r}\n")
        for p in (0.001, 0.05, 0.3, 0.5, 0.7, 0.9, 0.95, 0.975, 0.9964, 0.9999):
            file.write(f"quantile,{p!r},{df},{float(t.ppf(p, df))!r}\n")
