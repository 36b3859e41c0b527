"""Turn an OLMoE directory in Hugging Face form into a GGUF file that llama.cpp loads as `olmoe`.

    python3 write_gguf.py --model DIR --out FILE.gguf [--type f32|f16|bf16|as-is]

Needs the standard library alone. Matrices are written as --type (default f32: then llama.cpp's sums differ from the
reference's in their order only); norms and routers are always f32. A value is converted exactly or, to f16 and bf16,
not at all: only a checkpoint of that type can be written so. The file holds no tokenizer: the program beside this one
takes ids, which `olmoe tokenize` makes.

GGUF version 3 (little-endian): the magic, counts of tensors and keys; each key with its type and value; each tensor's
name, extents (fastest first), type and offset; then the tensors, each at a multiple of 32 bytes. A tensor of shape
(rows, columns) in row-major order is the same bytes with extents columns, rows.
Source: docs/gguf.md in ggml's repository.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import struct
import sys

ALIGNMENT = 32
UINT32, FLOAT32, BOOL, STRING = 4, 6, 7, 8  # types of values
TYPES = {"F32": 0, "F16": 1, "BF16": 30}  # types of tensors, ggml_type
BYTES = {"F32": 4, "F16": 2, "BF16": 2}


class Tensors:
    """The tensors of a checkpoint: one safetensors file, or the shards that an index names."""

    def __init__(self, directory: pathlib.Path):
        index = directory / "model.safetensors.index.json"
        shards = ["model.safetensors"]
        if index.exists():
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        self.entries = {}
        for shard in shards:
            with (directory / shard).open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                self.entries[name] = (directory / shard, 8 + length, entry)

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def read(self, name: str) -> tuple[str, list[int], bytes]:
        """Type, shape and bytes."""
        path, base, entry = self.entries[name]
        begin, end = entry["data_offsets"]
        with path.open("rb") as file:
            file.seek(base + begin)
            return entry["dtype"], entry["shape"], file.read(end - begin)

    def converted(self, names: list[str], wanted: str):
        """The bytes of these tensors, one after another, as `wanted`."""
        for name in names:
            given, _, raw = self.read(name)
            yield converted(raw, given, wanted)


def converted(raw: bytes, given: str, wanted: str) -> bytes:
    if given == wanted:
        return raw
    if wanted != "F32":
        raise ValueError(f"a checkpoint in {given} is not written as {wanted}: that would round")
    if given == "BF16":  # a float's upper half
        wide = bytearray(2 * len(raw))
        wide[2::4], wide[3::4] = raw[0::2], raw[1::2]
        return bytes(wide)
    if given == "F16":
        count = len(raw) // 2
        return struct.pack(f"<{count}f", *struct.unpack(f"<{count}e", raw))
    raise ValueError(f"weights of type {given} are not known here")


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def key(name: str, value: str | bool | int | float) -> bytes:
    if isinstance(value, bool):
        return text(name) + struct.pack("<I?", BOOL, value)
    if isinstance(value, str):
        return text(name) + struct.pack("<I", STRING) + text(value)
    if isinstance(value, int):
        return text(name) + struct.pack("<II", UINT32, value)
    return text(name) + struct.pack("<If", FLOAT32, value)


def write_file(out: pathlib.Path, keys: dict, tensors: list) -> None:
    """`tensors` holds (name, extents, type's name, iterable of bytes)."""
    offset, heads, sizes = 0, b"", []
    for name, extents, stored, _ in tensors:
        size = BYTES[stored]
        for extent in extents:
            size *= extent
        heads += text(name) + struct.pack(f"<I{len(extents)}Q", len(extents), *extents)
        heads += struct.pack("<IQ", TYPES[stored], offset)
        sizes.append(size)
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    with out.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)))
        file.write(b"".join(key(name, value) for name, value in keys.items()) + heads)
        file.write(bytes(-file.tell() % ALIGNMENT))
        for (name, _, _, chunks), size in zip(tensors, sizes):
            begin = file.tell()
            for chunk in chunks:
                file.write(chunk)
            if file.tell() - begin != size:
                raise ValueError(f"{name}: {file.tell() - begin} bytes, {size} expected")
            file.write(bytes(-file.tell() % ALIGNMENT))


def keys_of(config: dict) -> dict[str, str | int | float]:
    """The metadata; ValueError for what llama.cpp's olmoe graph does not have."""
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10000.0), "rope_type": "default"}
    for setting, holds in (
        ("model_type", config["model_type"] == "olmoe"),
        ("clip_qkv", config.get("clip_qkv") is None),
        ("attention_bias", not config.get("attention_bias", False)),
        ("hidden_act", config.get("hidden_act", "silu") == "silu"),
        ("rope_scaling", config.get("rope_scaling") is None and rope.get("rope_type", "default") == "default"),
        ("norm_topk_prob", not config.get("norm_topk_prob", False)),
    ):
        if not holds:
            raise ValueError(f"llama.cpp's olmoe has no {setting} = {config.get(setting)!r}")
    heads = config["num_attention_heads"]
    return {
        "general.architecture": "olmoe",
        "general.alignment": ALIGNMENT,
        "olmoe.context_length": config["max_position_embeddings"],
        "olmoe.embedding_length": config["hidden_size"],
        "olmoe.block_count": config["num_hidden_layers"],
        "olmoe.feed_forward_length": config["intermediate_size"],
        "olmoe.attention.head_count": heads,
        "olmoe.attention.head_count_kv": config.get("num_key_value_heads") or heads,
        "olmoe.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "olmoe.rope.freq_base": float(rope["rope_theta"]),
        "olmoe.expert_count": config["num_experts"],
        "olmoe.expert_used_count": config["num_experts_per_tok"],
        "olmoe.vocab_size": config["vocab_size"],
        "tokenizer.ggml.model": "no_vocab",
    }


def names_of(config: dict, tensors: Tensors) -> list[tuple[str, list[str]]]:
    """(name in GGUF, names in the checkpoint): the experts' matrices of a layer are one tensor, one after another."""
    plain = {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
        "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate_inp": "mlp.gate",
    }  # fmt: skip
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    names = [("token_embd.weight", [embedding]), ("output_norm.weight", ["model.norm.weight"])]
    names.append(("output.weight", [head if head in tensors else embedding]))
    for layer in range(config["num_hidden_layers"]):
        ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
        names += [(f"{ours}{a}.weight", [f"{theirs}{b}.weight"]) for a, b in plain.items()]
        for part in ("gate", "up", "down"):
            names.append((
                f"{ours}ffn_{part}_exps.weight",
                [f"{theirs}mlp.experts.{e}.{part}_proj.weight" for e in range(config["num_experts"])],
            ))  # fmt: skip
    return names


def write(model: pathlib.Path, out: pathlib.Path, kind: str) -> None:
    config = json.loads((model / "config.json").read_text())
    keys = keys_of(config)
    tensors = Tensors(model)
    plan, known = [], set()
    for name, sources in names_of(config, tensors):
        for source in sources:
            if source not in tensors:
                raise ValueError(f"{model}: no tensor {source}")
        known.update(sources)
        _, _, entry = tensors.entries[sources[0]]
        extents = entry["shape"][::-1] + ([len(sources)] if len(sources) > 1 else [])
        exact = len(extents) == 1 or "ffn_gate_inp" in name
        stored = "F32" if exact else entry["dtype"] if kind == "as-is" else kind.upper()
        plan.append((name, extents, stored, tensors.converted(sources, stored)))
    unknown = tensors.entries.keys() - known
    if unknown:
        raise ValueError(f"{model}: llama.cpp's olmoe has no {min(unknown)}")
    write_file(out, keys, plan)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--type", choices=("f32", "f16", "bf16", "as-is"), default="f32")
    arguments = parser.parse_args()
    try:
        write(arguments.model, arguments.out, arguments.type)
    except (ValueError, OSError) as error:
        print(f"write_gguf: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
