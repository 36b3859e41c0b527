"""Writes critical_statistic.csv: for a value of Higher Criticism or Berk-Jones, the probability that
the largest of the statistic over n independent uniform p-values reaches it.

    python3 critical_statistic.py critical_statistic.csv

By Bolshev's recursion, which loses all digits in floating point and none here: arithmetic with
DIGITS decimal digits. With c(1) <= ... <= c(n), A(j) = P(U(i) <= c(i) for all i <= j) of j uniforms,

    A(j) = 1 - sum over i < j of binomial(j, i) (1 - c(i+1))^(j-i) A(i).

Needs nothing but Python. Takes some minutes.
"""

import sys
from decimal import Decimal, getcontext

DIGITS = 400
getcontext().prec = DIGITS


def of_p(value, x, n):
    """The p at which sqrt(n) (x - p) / sqrt(p (1 - p)) is `value`."""
    q = value * value / n
    a, b, c = 1 + q, 2 * x + q, x * x
    return (b - (b * b - 4 * a * c).sqrt()) / (2 * a)


def of_rank(value, x, n):
    return max(Decimal(0), x - value * (x * (1 - x) / n).sqrt())


def berk_jones(value, x, n):
    """Newton's method on n K(x, p) = value, convex in p and falling below x, from the left."""
    p = x * (-value / (n * x) - 1).exp()
    for _ in range(2000):
        excess = n * (x * (x / p).ln() + (1 - x) * ((1 - x) / (1 - p)).ln()) - value
        step = excess / (n * (x - p) / (p * (1 - p)))
        p += step
        if abs(step) < Decimal(10) ** -60 * p:
            return p
    raise RuntimeError("no convergence")


def crossing_probability(bounds, n):
    """P(U(i) <= bounds[i-1] for some i)."""
    # U(i) > b(i) for all i is V(n-i+1) < 1 - b(i) for V = 1 - U; the other V are less than the
    # smallest of these bounds.
    upper = [1 - b for b in bounds][::-1]
    c = [upper[0]] * (n - len(upper)) + upper
    inside = []
    for j in range(n + 1):
        outside = Decimal(0)
        binomial = 1
        for i in range(j):
            outside += binomial * (1 - c[i]) ** (j - i) * inside[i]
            binomial = binomial * (j - i) // (i + 1)
        inside.append(1 - outside)
    return 1 - inside[n]


if len(sys.argv) != 2:
    sys.exit(__doc__)

CASES = [
    ("hc_p", of_p, ["0.5", "1.5", "3", "4.75", "10", "1e4", "1e7", "4e8", "1e150"]),
    ("hc_rank", of_rank, ["0.5", "1", "2", "2.5", "4", "7"]),
    ("bj", berk_jones, ["0.25", "1", "2", "4", "8", "30", "40", "600"]),
]

with open(sys.argv[1], "w", encoding="utf-8") as file:
    print("statistic,n,search,value,probability", file=file)
    for name, boundary, values in CASES:
        for n, searches in [(2, ["0.5"]), (5, ["0.5", "0.9"]), (16, ["0.25"]), (64, ["0.5", "0.99"]),
                            (200, ["0.1"])]:
            for search in searches:
                last = min(n - 1, int(Decimal(search) * n))
                for value in values:
                    bounds = [boundary(Decimal(value), Decimal(i) / n, n) for i in range(1, last + 1)]
                    probability = crossing_probability(bounds, n)
                    print(name, n, search, value, f"{probability:.17g}", sep=",", file=file)
