"""Writes ONNX graphs: as much of the format as the check beside this file needs, from the standard library and numpy.

A model is a protocol buffer: fields, each a number with a wire type, then its value. Two wire types occur here: varints,
and bytes behind their length, which hold texts, the elements of tensors, and messages within messages.
Sources: onnx.proto3 in ONNX's repository for the numbers, protobuf.dev/programming-guides/encoding for the rest.
"""

from __future__ import annotations

import numpy

TYPES = {"float32": 1, "int32": 6, "int64": 7, "float16": 10, "float64": 11}  # TensorProto.DataType


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _fields(number: int, values) -> bytes:
    return b"".join(_field(number, value) for value in values)


def _attribute(name: str, value: int | str) -> bytes:
    kind, field = (2, 3) if isinstance(value, int) else (3, 4)
    return _field(1, name) + _field(field, value) + _field(20, kind)


def node(operator: str, inputs, outputs, domain: str = "", **attributes: int | str) -> bytes:
    """A NodeProto. An attribute is a whole number or a text."""
    made = [_attribute(name, value) for name, value in attributes.items()]
    return _fields(1, inputs) + _fields(2, outputs) + _field(4, operator) + _fields(5, made) + _field(7, domain)


def value(name: str, dtype: str, shape) -> bytes:
    """A ValueInfoProto: the type and the extents of an input or output, None where an extent is not known."""
    extents = [b"" if extent is None else _field(1, extent) for extent in shape]
    return _field(1, name) + _field(2, _field(1, _field(1, TYPES[dtype]) + _field(2, _fields(1, extents))))


def tensor(name: str, array: numpy.ndarray) -> bytes:
    """A TensorProto of an array's elements, little-endian."""
    raw = numpy.ascontiguousarray(array).tobytes()
    return _fields(1, array.shape) + _field(2, TYPES[array.dtype.name]) + _field(8, name) + _field(9, raw)


def model(nodes, inputs, outputs, constants: dict[str, numpy.ndarray], opsets: dict[str, int]) -> bytes:
    """A ModelProto of one graph."""
    initializers = [tensor(name, array) for name, array in constants.items()]
    graph = _fields(1, nodes) + _field(2, "graph") + _fields(5, initializers)
    graph += _fields(11, inputs) + _fields(12, outputs)
    imports = [_field(1, domain) + _field(2, version) for domain, version in opsets.items()]
    return _field(1, 8) + _field(7, graph) + _fields(8, imports)
