"""Null distributions: what a score looks like if its expert is not needed."""

from __future__ import annotations

import ctypes
import math
import os
from typing import Any, Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._library import c, c_string, check

_FLOATS = (np.float64, np.float32, np.float16)


def _doubles(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{what} must have one axis, got shape {array.shape}")
    return array


def scores(logits: ArrayLike, score: str) -> NDArray[np.float64]:
    """Scores (tokens, experts) of logits (tokens, experts), in double.

    "logit": x. "log_softmax": x - log sum exp x. "zscore": (x - mean) / sd, of the token, the sd with
    divisor experts. "robust_zscore": (x - median) / (1.4826 MAD), MAD the median of |x - median|. ValueError
    for another name, for logits that are not finite, and for a token with an sd or MAD of 0.
    """
    x = np.asarray(logits)
    if x.ndim != 2 or x.dtype not in _FLOATS:
        raise ValueError(f"logits must be floats of shape (tokens, experts), got {x.dtype} {x.shape}")
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        raise ValueError("logits to fit must be finite")
    if score == "logit":
        return x
    if score == "log_softmax":
        shifted = x - x.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    if score == "zscore":
        sd = x.std(axis=1, keepdims=True)
        if (sd == 0).any():
            raise ValueError("a token's logits are all equal: it has no zscore")
        return (x - x.mean(axis=1, keepdims=True)) / sd
    if score == "robust_zscore":
        centred = x - np.median(x, axis=1, keepdims=True)
        mad = np.median(np.abs(centred), axis=1, keepdims=True)
        if (mad == 0).any():
            raise ValueError("half of a token's logits or more are equal: it has no robust_zscore")
        return centred / (1.4826022185056018 * mad)
    raise ValueError(f"unknown score {score!r}; there are logit, log_softmax, zscore and robust_zscore")


def _kernel_survival(
    body: NDArray[np.float64], above: int, bandwidth: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points up to the last of `body`, at most 1000, and the survival function there: see Null.fit."""
    per_bandwidth, reach = 64, 7 * 64
    step, end, n = bandwidth / per_bandwidth, body[-1], len(body) + above
    last = math.ceil((end - body[0]) / step + reach)
    if last > 1 << 22:
        raise ValueError("scores range over too many bandwidths; there are outliers too far for a kernel estimate")
    # Each score is shared by its two neighbours on a lattice whose point `last` is `end`.
    position = (body - end) / step + last
    below = position.astype(np.int64)
    share = position - below
    mass = (np.bincount(below, 1 - share, last + 2) + np.bincount(below + 1, share, last + 2)) / n
    kernel = np.array([0.5 * math.erfc(-d / per_bandwidth / math.sqrt(2)) for d in range(-reach, reach + 1)])
    padded = np.concatenate([np.zeros(reach), mass, np.zeros(2 * reach)])
    in_full = np.concatenate([np.cumsum(padded[::-1])[::-1], [0.0]])

    def g(i: int) -> float:
        if i > last + reach:
            return 0.0
        return padded[i : i + 2 * reach + 1] @ kernel + in_full[min(i + 2 * reach + 1, len(padded))]

    index = np.arange(last, -1, -max(1, -(-last // 999)))[::-1]
    survival = np.array([above / n + g(i) - g(2 * last - i) for i in index])
    return end + (index - last) * step, np.minimum(survival, 1.0)


def _survival_table(sample: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and ln P(S >= score): a kernel estimate, and from the sample's last ones an exponential tail."""
    ordered = np.sort(sample)
    n = len(ordered)
    if n < 100:
        raise ValueError(f"{n} scores are too few to fit a null distribution; 100 are needed")
    tail = n // 10 if n < 1000 else max(100, n // 10_000)
    begin = ordered[n - tail - 1]
    excess = (ordered[n - tail :] - begin).mean()
    if not excess > 0:
        raise ValueError(f"the largest {tail + 1} scores are all equal: there is no tail to fit")
    iqr = ordered[3 * n // 4] - ordered[n // 4]
    spread = min(ordered.std(), iqr / 1.34) if iqr > 0 else ordered.std()
    points, survival = _kernel_survival(ordered[: n - tail], tail, 0.9 * spread * n**-0.2)
    # Where nothing changes, sums in another order may differ in the last bit.
    log_sf = np.minimum.accumulate(np.log(survival))
    return np.append(points, begin + excess), np.append(log_sf, log_sf[-1] - 1)


class Null:
    """A null distribution for one MoE layer: p = P(S >= score), made by one of the functions below.

    Immutable; threads may share it. `score` is the score it was fitted on; "" if the file says it.
    """

    def __init__(self, create: Callable[[Any], int], score: str):
        self._handle = ctypes.c_void_p()
        check(create(ctypes.byref(self._handle)))
        self.score = score

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            c.fdroute_null_destroy(self._handle)

    def __repr__(self) -> str:
        return f"<fdroute.Null of {self.score or 'a file'}>"

    @classmethod
    def fit(cls, logits: ArrayLike, score: str = "log_softmax", trim: int = 8) -> Null:
        """Fits a layer's router logits (tokens, experts) without each token's `trim` largest.

        The tail begins at the score u that leaves 1e-4 of the n scores above it, but at least 100 (a tenth if
        there are fewer than 1000): an exponential one of their mean excess. Below u, p(s) = share above u + G(s)
        - G(2u - s), where G(s) is the sum of Q((s - s_i) / h) / n over the scores s_i <= u, Q the normal survival
        function and h = 0.9 min(sd, IQR / 1.34) n^(-1/5), in at most 1000 points: as `olmoe calibrate` fits.
        Trim about as many as the model takes experts, on text that nothing is measured on (docs/nulls.md).
        ValueError unless 0 <= trim < experts, and for fewer than 100 scores.
        """
        values = scores(logits, score)
        experts = values.shape[1]
        if not 0 <= trim < experts:
            raise ValueError(f"trim must lie in 0 .. {experts - 1}, got {trim}")
        kept = np.partition(values, experts - trim - 1, axis=1)[:, : experts - trim] if trim else values
        return cls.from_log_survival(*_survival_table(kept.ravel()), score)

    @classmethod
    def from_log_survival(cls, points: ArrayLike, log_sf: ArrayLike, score: str) -> Null:
        """From points, ascending, of ln P(S >= point), which does not increase and falls at the end."""
        x, y = _doubles(points, "points"), _doubles(log_sf, "log_sf")
        if len(x) != len(y):
            raise ValueError(f"there are {len(x)} points and {len(y)} values of log_sf")
        return cls(lambda out: c.fdroute_null_create(x.ctypes.data, y.ctypes.data, len(x), c_string(score), out), score)

    @classmethod
    def load(cls, path: str | os.PathLike[str], layer: int) -> Null:
        """Layer `layer`, from 0, of a nulls file: docs/nulls.md. FileError says what it lacks."""
        return cls(lambda out: c.fdroute_null_load(os.fsencode(path), layer, out), "")

    @classmethod
    def conformal(cls, sample: ArrayLike, score: str) -> Null:
        """From scores of experts that were not needed: p is a score's rank among them (null=conformal)."""
        x = _doubles(sample, "sample")
        return cls(lambda out: c.fdroute_null_create_conformal(x.ctypes.data, len(x), c_string(score), out), score)

    @classmethod
    def per_expert(cls, nulls: Sequence[Null]) -> Null:
        """Expert j's null distribution is nulls[j] (null=per_expert)."""
        handles = (ctypes.c_void_p * len(nulls))(*[null._handle for null in nulls])
        return cls(lambda out: c.fdroute_null_create_per_expert(handles, len(nulls), out), nulls[0].score if nulls else "")

    @classmethod
    def weighted(cls, prior: ArrayLike, base: Null | None = None) -> Null:
        """p-values of expert j, by `base`, divided by prior[j]; prior (experts) is of mean 1 (prior=given).

        Without `base` the policy string names the null distribution, normal or logistic.
        """
        x = _doubles(prior, "prior")
        handle = base._handle if base else None
        return cls(
            lambda out: c.fdroute_null_create_weighted(handle, x.ctypes.data, len(x), out), base.score if base else ""
        )
