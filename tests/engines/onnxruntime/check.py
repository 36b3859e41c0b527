"""Checks the operator fdroute.Route in ONNX Runtime.

    python3 check.py --library libfdroute_onnxruntime.so --model DIR --reference DIR

REFERENCE/NAME.safetensors holds what `olmoe logits` recorded of `model` under a policy of policies.txt: a graph of the
operator alone routes its router logits and must give its experts, weights and counts. A graph of a whole MoE layer with
that model's weights must give what loops over the chosen experts give.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

import numpy
import onnxruntime
from safetensors.numpy import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from report import policies, row
from write_onnx import model, node, value

ENGINE = f"ONNX Runtime {onnxruntime.__version__}"
OUTPUTS = [("ids", "int64", 2), ("weights", "float32", 2), ("counts", "int32", 1)]  # name, type, axes


def session(library: pathlib.Path, nodes, inputs, outputs, constants):
    """A session of a graph: inputs as (name, type, shape), outputs as (name, type, axes), constants by name."""
    content = model(
        nodes,
        [value(name, dtype, shape) for name, dtype, shape in inputs],
        [value(name, dtype, [None] * axes) for name, dtype, axes in outputs],
        constants,
        {"": 17, "fdroute": 1},
    )
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library))
    options.log_severity_level = 4  # what fails is raised, too
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def route_node(logits: str, inputs=(), **attributes):
    return node("Route", [logits, *inputs], ["ids", "weights", "counts"], domain="fdroute", **attributes)


def check_operator(arguments, name: str, policy: str, nulls: str) -> None:
    """The operator alone, on the router logits of the bundled model: ids, counts and the bits of weights."""
    reference = load_file(arguments.reference / f"{name}.safetensors")
    different, layer = 0, 0
    while f"router_logits.{layer}" in reference:
        logits = reference[f"router_logits.{layer}"]
        routed = route_node("logits", policy=policy, nulls=nulls, layer=layer)
        inputs = [("logits", "float32", [None, logits.shape[1]])]
        run = session(arguments.library, [routed], inputs, OUTPUTS, {})
        ids, weights, counts = run.run(None, {"logits": logits})
        expected_ids = reference[f"selected_experts.{layer}"]
        used = numpy.arange(ids.shape[1]) < counts[:, None]
        different += int((counts != reference[f"expert_counts.{layer}"]).sum())
        different += int((numpy.where(used, ids, -1) != expected_ids[:, : ids.shape[1]]).sum())
        different += int((weights != reference[f"routing_weights.{layer}"][:, : ids.shape[1]]).sum())
        different += int((ids[~used] != numpy.repeat(ids[:, :1], ids.shape[1], 1)[~used]).sum())
        layer += 1
    assert layer > 0
    row(ENGINE, name, "ids, weights, counts of the operator that differ", different, 0)


def weights_of(model: pathlib.Path) -> dict[str, numpy.ndarray]:
    """The bundled model's weights; numpy has no bfloat16, which is a float's upper half."""
    content = (model / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            halves = numpy.frombuffer(content[start + begin : start + end], numpy.uint16)
            tensors[name] = (halves.astype(numpy.uint32) << 16).view(numpy.float32).reshape(entry["shape"])
    return tensors


def check_layer(arguments, name: str, policy: str, nulls: str) -> None:
    """A layer of the bundled model as a graph: router, operator, experts by Gather and MatMul."""
    tensors = weights_of(arguments.model)
    layer, experts = 1, 64

    def stacked(part: str) -> numpy.ndarray:
        prefix = f"model.layers.{layer}.mlp.experts."
        return numpy.stack([tensors[f"{prefix}{e}.{part}_proj.weight"].T for e in range(experts)])

    constants = {
        "router": numpy.ascontiguousarray(tensors[f"model.layers.{layer}.mlp.gate.weight"].T),
        "gate": stacked("gate"),
        "up": stacked("up"),
        "down": stacked("down"),
        "inner": numpy.array([1, 2]),
        "outer": numpy.array([2, 3]),
        "places": numpy.array([1, 2]),
    }
    nodes = [node("MatMul", ["x", "router"], ["logits"]), route_node("logits", policy=policy, nulls=nulls, layer=layer)]
    nodes.append(node("Unsqueeze", ["x", "inner"], ["row"]))  # (tokens, 1, 1, hidden)
    for part in ("gate", "up"):  # (tokens, places, hidden, width), then (tokens, places, 1, width)
        nodes.append(node("Gather", [part, "ids"], [f"{part}_of"]))
        nodes.append(node("MatMul", ["row", f"{part}_of"], [f"{part}_out"]))
    nodes += [
        node("Sigmoid", ["gate_out"], ["sigmoid"]),
        node("Mul", ["gate_out", "sigmoid"], ["silu"]),
        node("Mul", ["silu", "up_out"], ["activation"]),
        node("Gather", ["down", "ids"], ["down_of"]),
        node("MatMul", ["activation", "down_of"], ["out"]),  # (tokens, places, 1, hidden)
        node("Unsqueeze", ["weights", "outer"], ["factors"]),
        node("Mul", ["out", "factors"], ["weighted"]),
        node("ReduceSum", ["weighted", "places"], ["y"], keepdims=0),
    ]
    x = numpy.random.default_rng(1).standard_normal((16, constants["router"].shape[0])).astype(numpy.float32)
    inputs = [("x", "float32", [None, x.shape[1]])]
    run = session(arguments.library, nodes, inputs, [("y", "float32", 2), *OUTPUTS], constants)
    y, ids, weights, counts = run.run(None, {"x": x})
    expected = numpy.zeros_like(x, dtype=numpy.float64)
    for t in range(len(x)):
        for place in range(counts[t]):
            e = ids[t, place]
            gate, up = x[t] @ constants["gate"][e], x[t] @ constants["up"][e]
            expected[t] += float(weights[t, place]) * ((gate / (1 + numpy.exp(-gate)) * up) @ constants["down"][e])
    row(ENGINE, name, "a layer's output, largest relative", abs(y - expected).max() / abs(expected).max(), 1e-5)


def check_null_inputs(arguments, policy: str, nulls: str) -> None:
    """A null distribution by initializers is the file's; logits of three axes keep their first two."""
    tables = load_file(nulls)
    reference = load_file(arguments.reference / "bh.safetensors")
    logits = reference["router_logits.2"].reshape(4, -1, 64)
    constants = {f"null_{part}": tables[f"layer.2.{part}"].astype(numpy.float64) for part in ("score", "log_sf")}
    outputs = [(name, kind, rank + 1) for name, kind, rank in OUTPUTS]
    inputs = [("logits", "float32", [None, None, 64])]
    routed = route_node("logits", ["null_score", "null_log_sf"], policy=policy, score="log_softmax")
    run = session(arguments.library, [routed], inputs, outputs, constants)
    _, weights, counts = run.run(None, {"logits": logits})
    different = int((counts.reshape(-1) != reference["expert_counts.2"]).sum())
    different += int((weights.reshape(-1, weights.shape[-1]) != reference["routing_weights.2"]).sum())
    row(ENGINE, "bh", "weights, counts that differ, null by inputs", different, 0)


def check_half(arguments) -> None:
    """float16 logits are routed as the floats that they are."""
    logits = load_file(arguments.reference / "native.safetensors")["router_logits.0"].astype(numpy.float16)
    results = []
    for kind, values in (("float16", logits), ("float32", logits.astype(numpy.float32))):
        routed = route_node("logits", policy="topk:k=4")
        inputs = [("logits", kind, [None, 64])]
        run = session(arguments.library, [routed], inputs, OUTPUTS, {})
        results.append(run.run(None, {"logits": values}))
    different = sum(int((a != b).sum()) for a, b in zip(*results))
    row(ENGINE, "topk4", "ids, weights, counts that differ, float16", different, 0)


def check_no_tokens(arguments) -> None:
    routed = route_node("logits", policy="topk:k=4")
    run = session(arguments.library, [routed], [("logits", "float32", [None, 64])], OUTPUTS, {})
    shapes = [x.shape for x in run.run(None, {"logits": numpy.zeros((0, 64), numpy.float32)})]
    row(ENGINE, "topk4", "shapes that differ, no tokens", shapes != [(0, 4), (0, 4), (0,)], 0)


def check_refusals(arguments) -> None:
    """What is wrong in a node is refused when the session is made, with fdroute's own words."""
    refused = 0
    cases = (
        ({"policy": "topk:k=65"}, "topk"),
        ({"policy": "bh:alpha=0.05"}, "null"),
        ({"policy": "bh:alpha=0.05", "nulls": "absent.safetensors"}, "absent.safetensors"),
    )
    for attributes, words in cases:
        try:
            inputs = [("logits", "float32", [None, 64])]
            routed = route_node("logits", **attributes)
            session(arguments.library, [routed], inputs, OUTPUTS, {})
        except Exception as error:  # of onnxruntime's own classes, by kind of failure
            refused += "fdroute" in str(error) and words in str(error)
    row(ENGINE, "wrong nodes", "not refused, or without the reason", len(cases) - refused, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("library", "model", "reference"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.library = arguments.library.resolve()
    nulls = str(arguments.model / "nulls.safetensors")
    for name, policy in policies().items():
        check_operator(arguments, name, policy, nulls if "null=" not in policy else "")
    for name in ("native", "bh"):
        check_layer(arguments, name, policies()[name], nulls)
    check_null_inputs(arguments, policies()["bh"], nulls)
    check_half(arguments)
    check_no_tokens(arguments)
    check_refusals(arguments)


if __name__ == "__main__":
    main()
