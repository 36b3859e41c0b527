"""Small models of random weights as GGUF files, of shapes that OLMoE's is not: for the check beside this file."""

from __future__ import annotations

import pathlib
import random
import struct

from write_gguf import ALIGNMENT, write_file

HIDDEN, WIDTH, HEADS, EXPERTS, USED, LAYERS, VOCABULARY = 32, 24, 4, 16, 4, 3, 64

# Of an architecture: the preset that routes as llama.cpp does, and keys of its own.
SHAPES = {
    # Mixtral: a softmax over the selected experts
    "llama": (f"mixtral:num_experts_per_tok={USED}", {"rope.dimension_count": HIDDEN // HEADS}),
    # Qwen3-MoE: a softmax over all, divided by the sum of the selected
    "qwen3moe": (f"qwen3-moe:num_experts_per_tok={USED},norm_topk_prob=true", {"expert_feed_forward_length": WIDTH}),
    # dots.llm1: ranked by a sigmoid plus a bias, a dense layer first
    "dots1": (
        f"deepseek-v3:num_experts_per_tok={USED},n_group=1,topk_group=1,norm_topk_prob=true,routed_scaling_factor=2.5",
        {
            "expert_feed_forward_length": WIDTH,
            "expert_gating_func": 2,
            "expert_shared_count": 1,
            "expert_weights_norm": True,
            "expert_weights_scale": 2.5,
            "leading_dense_block_count": 1,
        },
    ),
}


def write_random(out: pathlib.Path, architecture: str) -> None:
    draw = random.Random(architecture)
    tensors = []

    def add(name: str, *extents: int, scale: float = 0.2, mean: float = 0.0) -> None:
        count = 1
        for extent in extents:
            count *= extent
        values = [draw.gauss(mean, scale) for _ in range(count)]
        tensors.append((name, list(extents), "F32", [struct.pack(f"<{count}f", *values)]))

    def add_feed_forward(prefix: str, suffix: str, *experts: int) -> None:
        for part, extents in (("gate", (HIDDEN, WIDTH)), ("up", (HIDDEN, WIDTH)), ("down", (WIDTH, HIDDEN))):
            add(f"{prefix}ffn_{part}{suffix}.weight", *extents, *experts)

    own = SHAPES[architecture][1]
    add("token_embd.weight", HIDDEN, VOCABULARY, scale=1.0)
    add("output_norm.weight", HIDDEN, mean=1.0)
    add("output.weight", HIDDEN, VOCABULARY, scale=0.4)
    for layer in range(LAYERS):
        prefix = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            add(f"{prefix}{name}.weight", HIDDEN, mean=1.0)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{prefix}{name}.weight", HIDDEN, HIDDEN)
        if architecture != "llama":
            for name in ("attn_q_norm", "attn_k_norm"):
                add(f"{prefix}{name}.weight", HIDDEN // HEADS, mean=1.0)
        if layer < own.get("leading_dense_block_count", 0):
            add_feed_forward(prefix, "")
            continue
        add(f"{prefix}ffn_gate_inp.weight", HIDDEN, EXPERTS)
        add_feed_forward(prefix, "_exps", EXPERTS)
        if "expert_shared_count" in own:
            add_feed_forward(prefix, "_shexp")
            add(f"{prefix}exp_probs_b.bias", EXPERTS)
    keys = {
        "context_length": 64,
        "embedding_length": HIDDEN,
        "block_count": LAYERS,
        "feed_forward_length": WIDTH,
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
        "expert_count": EXPERTS,
        "expert_used_count": USED,
        "vocab_size": VOCABULARY,
        **own,
    }
    general = {"general.architecture": architecture, "general.alignment": ALIGNMENT, "tokenizer.ggml.model": "no_vocab"}
    write_file(out, general | {f"{architecture}.{name}": value for name, value in keys.items()}, tensors)
