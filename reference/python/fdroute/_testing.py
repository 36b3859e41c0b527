"""Multiple testing on p-values: fdroute's rules, also by statsmodels' names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._library import c, c_string, check
from ._null import _doubles

# Names of statsmodels' multipletests, and its other spellings, for rules of policy strings.
_METHODS = {
    "bonferroni": "bonferroni",
    "sidak": "sidak",
    "holm": "holm",
    "simes-hochberg": "hochberg",
    "hommel": "hommel",
    "fdr_bh": "bh",
    "fdr_by": "by",
    "fdr_tsbky": "bky",
}
_SPELLINGS = {
    "b": "bonferroni", "bonf": "bonferroni", "s": "sidak", "h": "holm", "sh": "simes-hochberg", "ho": "hommel",
    "fdr_i": "fdr_bh", "fdr_p": "fdr_bh", "fdri": "fdr_bh", "fdrp": "fdr_bh",
    "fdr_n": "fdr_by", "fdr_c": "fdr_by", "fdrn": "fdr_by", "fdrcorr": "fdr_by",
    "fdr_2sbky": "fdr_tsbky", "fdr_twostage": "fdr_tsbky",
}  # fmt: skip


class MultipleTests(NamedTuple):
    """What statsmodels' multipletests returns, in its order."""

    reject: NDArray[np.bool_]  #: (m) whether a hypothesis is rejected
    pvals_corrected: NDArray[np.float64]  #: (m) adjusted p-values
    alphac_sidak: float  #: 1 - (1 - alpha)^(1/m)
    alphac_bonf: float  #: alpha / m


def rejections(rule: str, p: ArrayLike) -> NDArray[np.bool_]:
    """Which hypotheses a rule ("bh:alpha=0.05", "hc:search=0.5,level=0.1") rejects by p-values (m), in any order.

    NaN counts as 1. Equal p-values are rejected together. docs/rules.md says what each rule promises.
    """
    values = _doubles(p, "p")
    rejected = np.empty(len(values), np.uint8)
    check(c.fdroute_rejections(c_string(rule), values.ctypes.data, len(values), None, rejected.ctypes.data))
    return rejected.view(np.bool_)


def adjusted(rule: str, p: ArrayLike) -> NDArray[np.float64]:
    """A rule's adjusted p-values (m): p[j] is rejected at alpha exactly when adjusted[j] <= alpha, but for rounding."""
    values = _doubles(p, "p")
    result = np.empty_like(values)
    check(c.fdroute_adjusted(c_string(rule), values.ctypes.data, len(values), result.ctypes.data))
    return result


def weighted_p_values(p: ArrayLike, prior: ArrayLike) -> NDArray[np.float64]:
    """min(1, p[j] / prior[j]), shape (m), and 1 where prior[j] is 0; prior is at least 0 and of mean 1."""
    values, weights = _doubles(p, "p"), _doubles(prior, "prior")
    if len(values) != len(weights):
        raise ValueError(f"there are {len(values)} p-values and {len(weights)} of prior")
    result = np.empty_like(values)
    check(c.fdroute_weighted_p_values(values.ctypes.data, weights.ctypes.data, len(values), result.ctypes.data))
    return result


def multipletests(p: ArrayLike, alpha: float = 0.05, *, method: str) -> MultipleTests:
    """statsmodels' multipletests for p-values (m), in any order, by fdroute's rules.

    `method`: bonferroni, sidak, holm, simes-hochberg, hommel, fdr_bh, fdr_by or fdr_tsbky, or another of
    statsmodels' spellings of these. It has no default: statsmodels' own is holm-sidak, which fdroute has not, as
    it has neither fdr_tsbh nor fdr_gbs. Two things differ: NaN counts as 1, and fdr_tsbky never rejects
    a p-value of 1. Its adjusted p-values are for this alpha. Error unless 0 < alpha < 1.
    """
    name = _SPELLINGS.get(method.lower(), method.lower())
    if name not in _METHODS:
        raise ValueError(f"unknown method {method!r}; there are {', '.join(_METHODS)}")
    rule = f"{_METHODS[name]}:alpha={float(alpha)!r}"
    values = _doubles(p, "p")
    m = max(len(values), 1)
    sidak = float(-np.expm1(np.log1p(-alpha) / m)) if 0 < alpha < 1 else float("nan")
    return MultipleTests(rejections(rule, values), adjusted(rule, values), sidak, alpha / m)
