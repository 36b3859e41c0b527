"""The C library: where it is, what its functions take, and its errors as exceptions."""

from __future__ import annotations

import ctypes
import os
import pathlib
from typing import Any

SONAME = "libfdroute_c.so.0.2"


class Error(ValueError):
    """A policy, an array or a number is not as it must be. The message is the library's own."""


class NullMismatch(Error):
    """The null distribution was fitted on another score than the policy reads."""


class FileError(Error):
    """A file is missing or does not hold what it must."""


_ERRORS = {1: Error, 2: NullMismatch, 3: FileError, 4: MemoryError}


class LogitsStruct(ctypes.Structure):
    """fdroute_logits"""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int32),
        ("tokens", ctypes.c_int64),
        ("stride", ctypes.c_int64),
        ("expert_stride", ctypes.c_int64),
        ("masks", ctypes.c_void_p),
        ("mask_stride", ctypes.c_int64),
        ("skip", ctypes.c_void_p),
    ]


class PaddedStruct(ctypes.Structure):
    """fdroute_padded"""

    _fields_ = [
        ("experts", ctypes.c_void_p),
        ("id_type", ctypes.c_int32),
        ("capacity", ctypes.c_int32),
        ("padding", ctypes.c_int32),
        ("weights", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("status", ctypes.c_void_p),
    ]


class CSRStruct(ctypes.Structure):
    """fdroute_csr"""

    _fields_ = [
        ("offsets", ctypes.c_void_p),
        ("experts", ctypes.c_void_p),
        ("id_type", ctypes.c_int32),
        ("weights", ctypes.c_void_p),
        ("places", ctypes.c_int64),
        ("status", ctypes.c_void_p),
    ]


class DenseStruct(ctypes.Structure):
    """fdroute_dense"""

    _fields_ = [
        ("weights", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("counts", ctypes.c_void_p),
        ("status", ctypes.c_void_p),
    ]


def _candidates() -> list[str]:
    given = os.environ.get("FDROUTE_LIBRARY")
    if given:
        return [given]
    beside = pathlib.Path(__file__).parent / SONAME
    return [str(beside), SONAME] if beside.exists() else [SONAME]


def _load() -> ctypes.CDLL:
    failures = []
    for path in _candidates():
        try:
            c = ctypes.CDLL(path)
            break
        except OSError as error:
            failures.append(str(error))
    else:
        raise ImportError(
            f"fdroute needs its C library, {SONAME}: install it, or name its file in FDROUTE_LIBRARY "
            f"({'; '.join(failures)})"
        )
    handle, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    i32, pointer = ctypes.c_int32, ctypes.POINTER
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "last_error": (text, []),
        "version": (text, []),
        "null_create": (i32, [handle, handle, size, text, pointer(handle)]),
        "null_load": (i32, [text, i32, pointer(handle)]),
        "null_create_conformal": (i32, [handle, size, text, pointer(handle)]),
        "null_create_per_expert": (i32, [pointer(handle), size, pointer(handle)]),
        "null_create_weighted": (i32, [handle, handle, size, pointer(handle)]),
        "null_destroy": (None, [handle]),
        "router_create": (i32, [text, i32, handle, handle, pointer(handle)]),
        "router_destroy": (None, [handle]),
        "router_capacity": (i32, [handle]),
        "router_policy": (text, [handle]),
        "route_padded": (i32, [handle, pointer(LogitsStruct), pointer(PaddedStruct)]),
        "route_csr": (i32, [handle, pointer(LogitsStruct), pointer(CSRStruct)]),
        "route_dense": (i32, [handle, pointer(LogitsStruct), pointer(DenseStruct)]),
        "rejections": (i32, [text, handle, size, handle, handle]),
        "adjusted": (i32, [text, handle, size, handle]),
        "weighted_p_values": (i32, [handle, handle, size, handle]),
    }
    c.fdroute_version.restype = text
    found = c.fdroute_version().decode()
    if not found.startswith(SONAME.partition(".so.")[2] + "."):
        raise ImportError(f"fdroute needs {SONAME}, but the library found is of version {found}")
    for name, (result, arguments) in signatures.items():
        function = getattr(c, "fdroute_" + name)
        function.restype, function.argtypes = result, arguments
    return c


c = _load()


def check(status: int) -> None:
    """Raises the exception of a fdroute_status."""
    if status != 0:
        raise _ERRORS.get(status, RuntimeError)(c.fdroute_last_error().decode())


def c_string(text: str) -> bytes:
    """A text for the C library, which would read it only up to a null character."""
    if "\0" in text:
        raise Error(f"{text!r} has a null character")
    return text.encode()


def version() -> str:
    """The C library's version, "0.2.0"."""
    return c.fdroute_version().decode()
