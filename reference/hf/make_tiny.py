"""Write the tiny random OLMoE checkpoints, with their captures, that the tests run the forward pass against.

    python3 make_tiny.py --out ../../tests/data/tiny

Each OUT/NAME/ is a complete Hugging Face directory: config.json, model.safetensors (or three shards with
model.safetensors.index.json) under the tensor names of allenai/OLMoE-1B-7B-0924, and capture.safetensors
(capture_hf.py). Weights come from fixed seeds and are written without transformers, which then reads them back: the
names, the shapes and both spellings of the config are therefore checked by transformers itself. Norm weights and
biases are not trivial, and for every feature that is a switch or a number the script checks that transformers' logits
move by more than 0.01 when it is taken away.

Run with: transformers 5.17, torch 2.11, safetensors 0.8 (about a second a checkpoint on a CPU).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import pathlib
import shutil

import torch
from safetensors.torch import save_file

import bh_reference as bh
import capture_hf

VOCAB, HIDDEN, INTERMEDIATE, HEADS, POSITIONS = 112, 32, 24, 4, 64
ROWS, LENGTH, NEW_TOKENS, CANDIDATES = 2, 12, 8, 24


@dataclasses.dataclass(frozen=True)
class Tiny:
    name: str
    seed: int
    dtype: torch.dtype
    rope: dict  # as it stands in config.json: 4.x rope_theta/rope_scaling or 5.x rope_parameters
    frequency: tuple[float, float]  # (theta, linear factor) that `rope` must come to
    experts: int = 8
    top_k: int = 2
    layers: int = 2
    kv_heads: int = HEADS
    shards: int = 1
    config: dict = dataclasses.field(default_factory=dict)  # other fields that differ from plain
    without: tuple[dict, ...] = ()  # config changes, each of which must move the logits
    score: str = "zscore"


V4 = {"rope_theta": 10000.0}
V5 = {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}
PLAIN = (10000.0, 1.0)

CHECKPOINTS = (
    Tiny("plain", 1, torch.float32, V4, PLAIN),
    Tiny(
        "norm_topk",
        2,
        torch.bfloat16,
        V5,
        PLAIN,
        experts=16,
        top_k=4,
        config={"norm_topk_prob": True},
        without=({"norm_topk_prob": False},),
    ),
    Tiny(
        "gqa",
        3,
        torch.float16,
        {"rope_theta": 500.0},
        (500.0, 1.0),
        kv_heads=2,
        without=({"rope_theta": 10000.0},),
        score="logit",
    ),
    Tiny("clip_qkv", 4, torch.bfloat16, V4, PLAIN, config={"clip_qkv": 0.5}, without=({"clip_qkv": None},)),
    Tiny("tied", 5, torch.float32, V5, PLAIN, config={"tie_word_embeddings": True}),
    Tiny("attention_bias", 6, torch.float16, V5, PLAIN, kv_heads=1, config={"attention_bias": True}, score="logit"),
    Tiny("sharded", 7, torch.bfloat16, V4, PLAIN, layers=3, shards=3),
    Tiny(
        "rope_linear_v4",
        8,
        torch.float32,
        {"rope_theta": 100.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
        (100.0, 4.0),
        without=({"rope_scaling": None}, {"rope_theta": 10000.0}),
    ),
    Tiny(
        "rope_linear_v5",
        9,
        torch.bfloat16,
        {"rope_parameters": {"factor": 2.5, "rope_theta": 100.0, "rope_type": "linear"}},
        (100.0, 2.5),
        without=(
            {"rope_parameters": {"rope_theta": 100.0, "rope_type": "default"}},
            {"rope_parameters": {"factor": 2.5, "rope_theta": 10000.0, "rope_type": "linear"}},
        ),
    ),
    Tiny(
        "thirteen_experts",
        10,
        torch.bfloat16,
        {"rope_theta": 100.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        (100.0, 2.0),
        experts=13,
        top_k=3,
        layers=3,
        config={"hidden_act": "gelu"},
        without=({"hidden_act": "silu"},),
    ),
    Tiny(
        "top1",
        11,
        torch.float16,
        V5,
        PLAIN,
        top_k=1,
        config={"hidden_act": "gelu_pytorch_tanh"},
        without=({"hidden_act": "silu"},),
    ),
    Tiny(
        "all_experts",
        12,
        torch.bfloat16,
        V4,
        PLAIN,
        experts=6,
        top_k=6,
        without=({"num_experts_per_tok": 5},),
        score="logit",
    ),
)


def config_of(tiny: Tiny) -> dict:
    config = {
        "architectures": ["OlmoeForCausalLM"],
        "model_type": "olmoe",
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": tiny.layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": tiny.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-05,
        "use_cache": True,
        "pad_token_id": 1,
        "bos_token_id": None,
        "eos_token_id": 0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "clip_qkv": None,
        "num_experts": tiny.experts,
        "num_experts_per_tok": tiny.top_k,
        "norm_topk_prob": False,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.01,
    }
    dtype = str(tiny.dtype).removeprefix("torch.")
    config |= {"dtype": dtype} if "rope_parameters" in tiny.rope else {"torch_dtype": dtype, "rope_scaling": None}
    return config | tiny.rope | tiny.config


def weights_of(tiny: Tiny) -> dict[str, torch.Tensor]:
    """Random weights, scaled so that router logits spread by 1.5, attention is peaked and experts matter."""
    generator = torch.Generator().manual_seed(tiny.seed)

    def matrix(rows: int, columns: int, gain: float) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) * (gain / math.sqrt(columns))

    def norm(size: int, low: float = 0.5, high: float = 1.5) -> torch.Tensor:
        return low + (high - low) * torch.rand(size, generator=generator)

    kv = HIDDEN // HEADS * tiny.kv_heads
    out = {"model.embed_tokens.weight": torch.randn(VOCAB, HIDDEN, generator=generator)}
    for l in range(tiny.layers):
        at = f"model.layers.{l}."
        out[at + "input_layernorm.weight"] = norm(HIDDEN)
        out[at + "post_attention_layernorm.weight"] = norm(HIDDEN)
        for name, rows in (("q", HIDDEN), ("k", kv), ("v", kv), ("o", HIDDEN)):
            out[at + f"self_attn.{name}_proj.weight"] = matrix(rows, HIDDEN, 1.0)
            if tiny.config.get("attention_bias"):
                out[at + f"self_attn.{name}_proj.bias"] = 0.5 * torch.randn(rows, generator=generator)
        out[at + "self_attn.q_norm.weight"] = norm(HIDDEN, 1.0, 2.0)
        out[at + "self_attn.k_norm.weight"] = norm(kv, 1.0, 2.0)
        out[at + "mlp.gate.weight"] = matrix(tiny.experts, HIDDEN, 1.5)
        for e in range(tiny.experts):
            out[at + f"mlp.experts.{e}.gate_proj.weight"] = matrix(INTERMEDIATE, HIDDEN, 1.5)
            out[at + f"mlp.experts.{e}.up_proj.weight"] = matrix(INTERMEDIATE, HIDDEN, 1.5)
            out[at + f"mlp.experts.{e}.down_proj.weight"] = matrix(HIDDEN, INTERMEDIATE, 2.0)
    out["model.norm.weight"] = norm(HIDDEN)
    if not tiny.config.get("tie_word_embeddings"):
        out["lm_head.weight"] = matrix(VOCAB, HIDDEN, 2.0)
    return {name: tensor.to(tiny.dtype) for name, tensor in out.items()}


def write_checkpoint(tiny: Tiny, directory: pathlib.Path) -> None:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config_of(tiny), indent=2, sort_keys=True) + "\n")
    weights = weights_of(tiny)
    if tiny.shards == 1:
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        return
    # Names are dealt in turn, so one layer's tensors and one expert's matrices lie in different files.
    weight_map = {
        name: f"model-{i % tiny.shards + 1:05d}-of-{tiny.shards:05d}.safetensors" for i, name in enumerate(weights)
    }
    for file in sorted(set(weight_map.values())):
        save_file(
            {n: t for n, t in weights.items() if weight_map[n] == file}, directory / file, metadata={"format": "pt"}
        )
    index = {
        "metadata": {"total_size": sum(t.numel() * t.element_size() for t in weights.values())},
        "weight_map": weight_map,
    }
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def check_features(tiny: Tiny, directory: pathlib.Path, scratch: pathlib.Path, ids: torch.Tensor) -> None:
    """transformers must read the rope as meant, and every feature must show in the logits."""
    model = capture_hf.load_model(directory)
    theta, factor = tiny.frequency
    head = HIDDEN // HEADS
    expected = theta ** (-torch.arange(0, head, 2).double() / head) / factor
    if not torch.allclose(model.model.rotary_emb.inv_freq.double(), expected, rtol=1e-6):
        raise RuntimeError(f"{tiny.name}: transformers read the rope as {model.model.rotary_emb.inv_freq.tolist()}")
    logits = model(input_ids=ids, use_cache=False).logits
    spread = torch.stack(
        [bh.gate_logits(layer.mlp, torch.randn(256, HIDDEN)).std(-1).mean() for layer in model.model.layers]
    )
    print(f"{tiny.name}: router logit spread {spread.mean():.2f}, logit spread {logits.std():.2f}")

    def moved(change: dict, keep=lambda name, tensor: tensor) -> float:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(directory, scratch)
        (scratch / "config.json").write_text(json.dumps(config_of(tiny) | change))
        other = capture_hf.load_model(scratch)
        for name, parameter in other.named_parameters():
            parameter.copy_(keep(name, parameter))
        return (other(input_ids=ids, use_cache=False).logits - logits).abs().max().item()

    changes = {json.dumps(change): moved(change) for change in tiny.without}
    if tiny.config.get("attention_bias"):
        for which in "qkvo":
            changes[f"{which}_proj.bias = 0"] = moved({}, lambda n, t: t * 0 if n.endswith(f"{which}_proj.bias") else t)
    for change, distance in changes.items():
        print(f"  {change} moves the logits by {distance:.3f}")
        if distance < 1e-2:
            raise RuntimeError(f"{tiny.name}: {change} moves the logits by {distance} only")
    shutil.rmtree(scratch, ignore_errors=True)


def varied(counts: list[torch.Tensor], policy: bh.BhPolicy) -> bool:
    """At least two different counts strictly between the bounds, and no more than half of the tokens at max_k."""
    seen = torch.cat(counts)
    inside = seen[(seen > policy.min_k) & (seen < policy.max_k)]
    return inside.unique().numel() >= 2 and (seen == policy.max_k).float().mean() <= 0.5


def capture_tiny(tiny: Tiny, directory: pathlib.Path, candidates: torch.Tensor) -> None:
    """The first alpha of a short list whose counts vary."""
    for alpha in (0.3, 0.2, 0.4, 0.1, 0.5, 0.6):
        mean, sd = (-0.25, 0.9) if tiny.score == "zscore" else (-0.25, 1.25)
        policy = bh.BhPolicy(
            alpha=alpha, min_k=1, max_k=max(5, tiny.experts // 2), score=tiny.score, null="normal", mean=mean, sd=sd
        )
        tensors, metadata = capture_hf.capture(directory, candidates, rows=ROWS, new_tokens=NEW_TOKENS, policy=policy)
        counts = [tensors[f"bh.expert_counts.{l}"] for l in range(tiny.layers)]
        if varied(counts, policy):
            save_file(tensors, directory / "capture.safetensors", metadata=metadata)
            print(f"{capture_hf.report(tensors, policy)}\n  counts {torch.cat(counts).bincount().tolist()}")
            return
    raise RuntimeError(f"{tiny.name}: no alpha gives varied counts")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    for tiny in CHECKPOINTS:
        directory = args.out / tiny.name
        shutil.rmtree(directory, ignore_errors=True)
        write_checkpoint(tiny, directory)
        generator = torch.Generator().manual_seed(1000 + tiny.seed)
        candidates = torch.randint(2, VOCAB, (CANDIDATES, LENGTH), generator=generator)
        check_features(tiny, directory, args.out / ".scratch", candidates[:ROWS])
        capture_tiny(tiny, directory, candidates)


if __name__ == "__main__":
    main()
