"""fdroute: how many experts a token gets, by tests on its logits, for numpy arrays and torch tensors.

    import numpy as np, fdroute
    null = fdroute.Null.fit(calibration_logits, score="log_softmax", trim=8)
    ids, weights, counts = fdroute.route(logits, "bh:alpha=0.05,max_k=16", null)
    reject, adjusted, *_ = fdroute.multipletests(p, alpha=0.05, method="fdr_bh")

Everything is computed by the C library, libfdroute_c. It is looked for in the environment variable
FDROUTE_LIBRARY (a path), in this package's folder, and where the system has its libraries.
"""

from ._library import Error, FileError, NullMismatch, version
from ._null import Null
from ._route import CSR, Dense, Padded, Router, route
from ._testing import MultipleTests, adjusted, multipletests, rejections, weighted_p_values

__all__ = [
    "CSR",
    "Dense",
    "Error",
    "FileError",
    "MultipleTests",
    "Null",
    "NullMismatch",
    "Padded",
    "Router",
    "adjusted",
    "multipletests",
    "rejections",
    "route",
    "version",
    "weighted_p_values",
]
__version__ = version()
