"""Writes what the rules and nulls compute where a careless formula cancels, overflows or underflows,
with DIGITS decimal digits, from arguments that are doubles.

    python3 tails.py deviation.csv tails.csv

deviation.csv has Berk-Jones and Higher Criticism statistics of p(i) = p among m p-values, i/m being
rounded to double as the rules say: p from the smallest double up to a distance of 2^-50 from i/m.
tails.csv has a function's name, three arguments and its value. Needs mpmath.
"""

import math
import random
import sys

from mpmath import erfc, exp, expm1, log, log1p, mp, mpf, sqrt

DIGITS = 60
mp.dps = DIGITS
SMALLEST = 5e-324


def berk_jones(x, p, m):
    return m * (x * log(x / p) + (1 - x) * log((1 - x) / (1 - p)))


def hc_p(x, p, m):
    return sqrt(mpf(m)) * (x - p) / sqrt(p * (1 - p))


def hc_rank(x, p, m):
    return sqrt(mpf(m)) * (x - p) / sqrt(x * (1 - x))


def point(draw):
    """m, i and a p in (0, i/m)."""
    while True:
        m = draw.choice([2, 3, 10, 64, 100, 128, 1000, 1024])
        i = draw.randint(1, m - 1)
        kind = draw.randrange(3)
        if kind == 0:  # near i/m
            p = i / m * (1 - 2.0 ** -draw.uniform(0, 50))
        elif kind == 1:  # far below
            p = float(f"{i / m * 10 ** -draw.uniform(0, 20):.3g}")
        else:  # in the last decades
            p = max(float(f"{10 ** -draw.uniform(0, 323):.3g}"), SMALLEST)
        if 0 < p < i / m:
            return m, i, p


def deviations(file):
    print("statistic,m,i,p,value", file=file)
    for name, statistic, points in [("bj", berk_jones, 10000), ("hc_p", hc_p, 500),
                                    ("hc_rank", hc_rank, 500)]:
        draw = random.Random(8)
        for _ in range(points):
            m, i, p = point(draw)
            value = statistic(mpf(i / m), mpf(p), m)
            print(name, m, i, repr(p), mp.nstr(value, 17), sep=",", file=file)


def tails(file):
    print("function,a,b,c,value", file=file)

    def write(name, arguments, value):
        print(name, *(repr(float(a)) for a in arguments), mp.nstr(value, 17), sep=",", file=file)

    draw = random.Random(21)

    def small():
        """A number in (0, 1), its logarithm as good as uniform."""
        return float(f"{10 ** -draw.uniform(0, 300):.3g}")

    def near_one():
        return 1 - 2.0 ** -draw.uniform(1, 50)

    for _ in range(200):
        for alpha in [small(), near_one()]:
            m = draw.choice([1, 2, 64, 1024])
            # 1 - (1 - alpha)^(1/m) and, for a p-value, 1 - (1 - p)^m
            write("sidak", [alpha, m, 0], -expm1(log1p(-mpf(alpha)) / m))
            write("sidak_adjusted", [alpha, m, 0], -expm1(m * log1p(-mpf(alpha))))
        alpha, kappa = draw.choice([small(), 0.05, near_one()]), draw.choice([0.5, 0.9, near_one(), small()])
        value = (mpf(kappa) * mpf(alpha) * 3 / 64) ** (1 / (1 - mpf(kappa)))
        if value > mpf("1e-300"):
            write("ebh", [alpha, kappa, 3], value)
        # Scores are floats.
        z = draw.uniform(-40, 38)
        write("normal", [z, 0, 1], erfc(mpf(z) / sqrt(mpf(2))) / 2)
        z = draw.uniform(-60, 744)
        write("logistic", [z, 0, 1], 1 / (1 + exp(mpf(z))))


if len(sys.argv) != 3:
    sys.exit(__doc__)
for path, writer in zip(sys.argv[1:], [deviations, tails]):
    with open(path, "w", encoding="utf-8") as out:
        writer(out)
