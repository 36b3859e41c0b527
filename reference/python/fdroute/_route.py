"""Routing of numpy arrays and torch tensors, in place: only what comes out is allocated."""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ._library import CSRStruct, DenseStruct, LogitsStruct, PaddedStruct, c, c_string, check
from ._null import Null

_NUMPY_DTYPES = {"float32": 0, "float16": 1}  # fdroute_dtype
_TORCH_DTYPES = {"torch.float32": 0, "torch.float16": 1, "torch.bfloat16": 2}
_ID_TYPES = {"int32": 0, "int64": 1, "int16": 2, "uint8": 3}  # fdroute_id_type
_PADDINGS = {"minus_one": 0, "repeat": 1}  # fdroute_padding


class Padded(NamedTuple):
    """A row for each token: its experts, best first, then padding."""

    ids: Any  #: (..., capacity) int32 or what was asked for; -1 (255 as uint8) or the best expert as padding
    weights: Any  #: (..., capacity) float32, 0 as padding
    counts: Any  #: (...) int32, the experts that a token got


class Dense(NamedTuple):
    """A weight for each token and expert."""

    weights: Any  #: (..., experts) float32, 0 where an expert is not selected
    counts: Any  #: (...) int32


class CSR(NamedTuple):
    """Compressed rows: token t, in row-major order, has the places offsets[t] to offsets[t + 1]."""

    offsets: Any  #: (tokens + 1) int64
    ids: Any  #: (assignments) int32 or what was asked for
    weights: Any  #: (assignments) float32


class _Rows:
    """An array or tensor of logits (..., experts) as rows of one stride, not copied."""

    def __init__(self, logits: Any):
        self.torch = sys.modules.get("torch") if type(logits).__module__.partition(".")[0] == "torch" else None
        if self.torch is not None:
            self._read_tensor(logits)
        else:
            self._read_array(logits)

    def _read_tensor(self, logits: Any) -> None:
        self.dtype = self._known(_TORCH_DTYPES, str(logits.dtype))
        if logits.device.type != "cpu":
            raise ValueError(f"logits must be on the CPU, they are on {logits.device}")
        self._check_axes(tuple(logits.shape))
        try:
            rows = logits.view(-1, logits.shape[-1])
        except RuntimeError:
            raise self._no_rows(logits.stride(), "logits.contiguous()") from None
        self.tokens, self.experts = rows.shape
        self.stride, self.expert_stride = rows.stride()
        self.data, self._kept = rows.data_ptr(), rows

    def _read_array(self, logits: Any) -> None:
        if not isinstance(logits, np.ndarray):
            raise TypeError(f"logits must be a numpy array or a torch tensor, got {type(logits).__name__}")
        self.dtype = self._known(_NUMPY_DTYPES, str(logits.dtype))
        self._check_axes(logits.shape)
        rows = logits.view()
        if logits.ndim != 2:
            try:
                rows.shape = (int(np.prod(logits.shape[:-1])), logits.shape[-1])  # never copies
            except AttributeError:
                raise self._no_rows(logits.strides, "numpy.ascontiguousarray(logits)") from None
        if any(stride % rows.itemsize for stride in rows.strides) or rows.ctypes.data % rows.itemsize:
            raise ValueError("logits must be aligned: pass numpy.ascontiguousarray(logits)")
        self.tokens, self.experts = rows.shape
        self.stride, self.expert_stride = (stride // rows.itemsize for stride in rows.strides)
        self.data, self._kept = rows.ctypes.data, rows

    @staticmethod
    def _known(dtypes: dict[str, int], dtype: str) -> int:
        if dtype not in dtypes:
            raise TypeError(f"logits must be of {', '.join(dtypes)}, got {dtype}: convert them, nothing is copied here")
        return dtypes[dtype]

    def _check_axes(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 1 or shape[-1] < 1:
            raise ValueError(f"logits must have shape (..., experts), got {shape}")
        self.shape = tuple(shape[:-1])

    @staticmethod
    def _no_rows(strides: Any, remedy: str) -> ValueError:
        return ValueError(f"logits of strides {tuple(strides)} are not rows of one stride: pass {remedy}")

    def empty(self, shape: tuple[int, ...], dtype: Any) -> tuple[Any, np.ndarray]:
        """Memory of the logits' kind, and as numpy sees it."""
        array = np.empty(shape, dtype)
        return (self.torch.from_numpy(array) if self.torch is not None else array), array


def _mask_words(mask: ArrayLike, rows: _Rows) -> tuple[np.ndarray, int]:
    bits = np.asarray(mask)
    if bits.dtype != np.bool_ or bits.shape not in ((rows.experts,), rows.shape + (rows.experts,)):
        raise ValueError(f"mask must be bool of shape (experts) or that of the logits, got {bits.dtype} {bits.shape}")
    words = -(-rows.experts // 64)
    padded = np.zeros((bits.size // rows.experts, 64 * words), np.bool_)
    padded[:, : rows.experts] = bits.reshape(-1, rows.experts)
    packed = np.packbits(padded, axis=1, bitorder="little").view("<u8")
    return np.ascontiguousarray(packed, np.uint64), 0 if bits.ndim == 1 else words


def _pointer(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


class Router:
    """A policy for rows of `experts` logits: made once, checked once, used by any number of threads.

    `policy` is a policy string (docs/policies.md), `null` the null distribution if the policy reads p-values,
    `bias` (experts) the selection bias of rankings by a sigmoid. Error says what is wrong with them.
    """

    def __init__(self, policy: str, experts: int, null: Null | None = None, bias: ArrayLike | None = None):
        array = None if bias is None else np.ascontiguousarray(bias, np.float32)
        if array is not None and array.shape != (experts,):
            raise ValueError(f"bias must have shape ({experts},), got {array.shape}")
        self._handle = ctypes.c_void_p()
        handle = null._handle if null is not None else None
        check(c.fdroute_router_create(c_string(policy), experts, handle, _pointer(array), ctypes.byref(self._handle)))
        self.experts = experts
        #: The most experts that a token can get.
        self.capacity: int = c.fdroute_router_capacity(self._handle)
        #: The policy with every setting written out.
        self.policy: str = c.fdroute_router_policy(self._handle).decode()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            c.fdroute_router_destroy(self._handle)

    def __repr__(self) -> str:
        return f"<fdroute.Router {self.policy}>"

    def _read(self, logits: Any, mask: Any, skip: Any) -> tuple[_Rows, LogitsStruct, Any]:
        rows = _Rows(logits)
        if rows.experts != self.experts:
            raise ValueError(f"the router is for {self.experts} experts, the logits have {rows.experts}")
        words, mask_stride = (None, 0) if mask is None else _mask_words(mask, rows)
        skipped = None
        if skip is not None:
            skipped = np.asarray(skip, np.bool_, order="C")
            if skipped.shape != rows.shape:
                raise ValueError(f"skip must have shape {rows.shape}, got {skipped.shape}")
        view = LogitsStruct(
            rows.data, rows.dtype, rows.tokens, rows.stride, rows.expert_stride,
            _pointer(words), mask_stride, _pointer(skipped),
        )  # fmt: skip
        return rows, view, (words, skipped)

    def padded(
        self, logits: Any, *, mask: Any = None, skip: Any = None, padding: str = "minus_one", id_type: Any = np.int32
    ) -> Padded:
        """Ids, weights and counts of logits (..., experts), of any strides, that lie in the CPU's memory.

        Logits are numpy arrays of float32 or float16, or torch tensors of float32, float16 or bfloat16; they are
        not copied, and the result is of their kind. `mask`, bool (experts) or (..., experts): the experts that
        are allowed. `skip`, bool (...): tokens that get none. `padding`: "minus_one", or "repeat" for a token's
        best expert with weight 0, as blocks of fixed top-k take it. `id_type`: int32, int64, int16 or uint8.
        """
        rows, view, kept = self._read(logits, mask, skip)
        if padding not in _PADDINGS:
            raise ValueError(f"padding must be one of {', '.join(_PADDINGS)}, got {padding!r}")
        shape = rows.shape + (self.capacity,)
        ids, ids_array = rows.empty(shape, id_type)
        weights, weights_array = rows.empty(shape, np.float32)
        counts, counts_array = rows.empty(rows.shape, np.int32)
        out = PaddedStruct(
            ids_array.ctypes.data, self._id_type(ids_array), self.capacity, _PADDINGS[padding],
            weights_array.ctypes.data, counts_array.ctypes.data, None,
        )  # fmt: skip
        check(c.fdroute_route_padded(self._handle, ctypes.byref(view), ctypes.byref(out)))
        return Padded(ids, weights, counts)

    def dense(self, logits: Any, *, mask: Any = None, skip: Any = None) -> Dense:
        """Weights (..., experts), and counts; otherwise as padded()."""
        rows, view, kept = self._read(logits, mask, skip)
        weights, weights_array = rows.empty(rows.shape + (self.experts,), np.float32)
        counts, counts_array = rows.empty(rows.shape, np.int32)
        out = DenseStruct(weights_array.ctypes.data, self.experts, counts_array.ctypes.data, None)
        check(c.fdroute_route_dense(self._handle, ctypes.byref(view), ctypes.byref(out)))
        return Dense(weights, counts)

    def csr(self, logits: Any, *, mask: Any = None, skip: Any = None, id_type: Any = np.int32) -> CSR:
        """Offsets, ids and weights of all tokens, one after the other; otherwise as padded().

        ids and weights are the beginnings of arrays with room for tokens x capacity.
        """
        rows, view, kept = self._read(logits, mask, skip)
        places = rows.tokens * self.capacity
        offsets, offsets_array = rows.empty((rows.tokens + 1,), np.int64)
        ids, ids_array = rows.empty((places,), id_type)
        weights, weights_array = rows.empty((places,), np.float32)
        out = CSRStruct(
            offsets_array.ctypes.data, ids_array.ctypes.data, self._id_type(ids_array),
            weights_array.ctypes.data, places, None,
        )  # fmt: skip
        check(c.fdroute_route_csr(self._handle, ctypes.byref(view), ctypes.byref(out)))
        used = int(offsets_array[-1])
        return CSR(offsets, ids[:used], weights[:used])

    @staticmethod
    def _id_type(array: np.ndarray) -> int:
        if array.dtype.name not in _ID_TYPES:
            raise TypeError(f"id_type must be one of {', '.join(_ID_TYPES)}, got {array.dtype.name}")
        return _ID_TYPES[array.dtype.name]


_router = functools.lru_cache(maxsize=1024)(Router)


def route(logits: Any, policy: str, nulls: Null | None = None, *, form: str = "padded", **settings: Any) -> Any:
    """Routes logits (..., experts) by a policy string: Router(policy, experts, nulls).padded(logits).

    `form` is "padded", "dense" or "csr"; `settings` are that function's. Routers are made once and kept, of each
    policy, number of experts and null distribution. A token's routing depends on its own logits alone.
    """
    if form not in ("padded", "dense", "csr"):
        raise ValueError(f"form must be padded, dense or csr, got {form!r}")
    return getattr(_router(policy, _Rows(logits).experts, nulls), form)(logits, **settings)
