"""Checks fdroute in PyTorch, and what was recorded of Hugging Face's transformers against the version at hand.

    python3 check.py --library libfdroute_c.so --root DIR --reference DIR

`root` is fdroute's root folder. REFERENCE/NAME.safetensors holds what `olmoe logits` recorded of the bundled model
under a policy of policies.txt, with the ids of that model's capture as input.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import torch
import torch._inductor.config
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent.parent / "reference" / "hf")]
import bh_reference
import capture_hf
import fdroute_torch
from report import policies, row

ENGINE = f"torch {torch.__version__.split('+')[0]}"
MODELS = f"transformers {transformers.__version__}"
ROUTE = torch.ops.fdroute.route


def different(*pairs: tuple[torch.Tensor, torch.Tensor]) -> int:
    """Elements that differ; all of them if shapes do."""
    return sum(int((a != b).sum()) if a.shape == b.shape else max(a.numel(), b.numel(), 1) for a, b in pairs)


def nulls_of(root: pathlib.Path, policy: str) -> str:
    return "" if "null=" in policy else str(root / "reference" / "model" / "nulls.safetensors")


# ---- The operator ----


def check_operator(root: pathlib.Path, reference: dict, name: str, policy: str) -> None:
    """On the recorded router logits: ids, counts and the bits of weights."""
    nulls, wrong, layer = nulls_of(root, policy), 0, 0
    while f"router_logits.{layer}" in reference:
        ids, weights, counts = ROUTE(reference[f"router_logits.{layer}"], policy, nulls, layer)
        capacity = ids.shape[1]
        used = torch.arange(capacity) < counts[:, None]
        wrong += different(
            (counts, reference[f"expert_counts.{layer}"]),
            (ids.where(used, -1), reference[f"selected_experts.{layer}"][:, :capacity].long()),
            (weights, reference[f"routing_weights.{layer}"][:, :capacity]),
            (ids[~used], ids[:, :1].expand_as(ids)[~used]),
        )
        layer += 1
    assert layer > 0
    row(ENGINE, name, "ids, weights, counts of the operator that differ", wrong, 0)


def check_dtypes(root: pathlib.Path, logits: torch.Tensor) -> None:
    """Half logits are routed as the floats that they are; leading axes are kept."""
    policy = policies()["bh"]
    for dtype in (torch.bfloat16, torch.float16):
        half = logits.to(dtype)
        got = ROUTE(half.reshape(2, -1, half.shape[-1]), policy, nulls_of(root, policy), 1)
        expected = ROUTE(half.float(), policy, nulls_of(root, policy), 1)
        wrong = different(*((a.reshape(b.shape), b) for a, b in zip(got, expected)))
        row(ENGINE, "bh", f"ids, weights, counts that differ, {str(dtype)[6:]}", wrong, 0)
    shapes = [tuple(x.shape) for x in ROUTE(torch.zeros(3, 0, 64), "topk:k=4")]
    row(ENGINE, "topk4", "shapes that differ, no tokens", shapes != [(3, 0, 4), (3, 0, 4), (3, 0)], 0)


def check_compiler(root: pathlib.Path, logits: torch.Tensor) -> None:
    """torch's own checks of an operator, and the operator within compiled functions, for any number of tokens."""
    policy = policies()["bh"]
    nulls = nulls_of(root, policy)
    torch.library.opcheck(ROUTE, (logits, policy, nulls, 1))

    def scaled(x):
        ids, weights, counts = ROUTE(x * 2, policy, nulls, 1)
        return ids, weights * 2, counts + 1

    torch._inductor.config.compile_threads = 1  # no pool of processes for a kernel or two
    for backend in ("eager", "aot_eager", "inductor"):
        compiled = torch.compile(scaled, backend=backend, fullgraph=True, dynamic=True)
        wrong = sum(different(*zip(compiled(x), scaled(x))) for x in (logits, logits[1:]))
        row(ENGINE, "bh", f"ids, weights, counts that differ, compiled by {backend}", wrong, 0)


def check_refusals(logits: torch.Tensor) -> None:
    cases = (
        ((logits, "topk:k=65"), "topk"),
        ((logits, "bh:alpha=0.05"), "null"),
        ((logits, "bh:alpha=0.05", "absent.safetensors"), "absent.safetensors"),
        ((logits.double(), "topk:k=2"), "float64"),
        ((logits, "deepseek-v3", "", 0, torch.zeros(3)), "selection_bias"),
        ((logits[0, 0], "topk:k=1"), "a scalar"),
        ((logits, "topk:k=1\0"), "null character"),
        ((logits, "tokp:k=1"), "unknown policy 'tokp'"),
    )
    accepted = len(cases)
    for arguments, words in cases:
        try:
            ROUTE(*arguments)
        except ValueError as error:
            accepted -= "fdroute" in str(error) and words in str(error)
    row(ENGINE, "wrong calls", "not refused, or without the reason", accepted, 0)


# ---- Models ----


def check_bundled(root: pathlib.Path, reference: pathlib.Path) -> None:
    """The bundled model routed by each policy: its logits are those of `olmoe logits`, then its own again."""
    folder = root / "reference" / "model"
    model = capture_hf.load_model(folder)
    ids = load_file(folder / "capture.safetensors")["input_ids"]
    before = model(input_ids=ids, use_cache=False).logits
    for name, policy in policies().items():
        expected = load_file(reference / f"{name}.safetensors")["logits"]
        with fdroute_torch.patch(model, policy, nulls_of(root, policy)):
            logits = model(input_ids=ids, use_cache=False).logits
        row(MODELS, name, "OLMoE's logits", (logits - expected).abs().max(), 1e-4)
    row(MODELS, "restored", "logits that differ", different((model(input_ids=ids, use_cache=False).logits, before)), 0)


def random_models() -> dict:
    """Models of other shapes with random weights, small enough to make here."""
    small = dict(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, experts_implementation="eager", attn_implementation="eager",
    )  # fmt: skip
    mixtral = transformers.MixtralConfig(num_local_experts=8, num_experts_per_tok=2, **small)
    qwen3 = transformers.Qwen3MoeConfig(
        num_experts=16, num_experts_per_tok=4, moe_intermediate_size=24, norm_topk_prob=True, head_dim=8, **small
    )
    gpt_oss = transformers.GptOssConfig(num_local_experts=8, num_experts_per_tok=4, head_dim=8, **small)
    deepseek = transformers.DeepseekV3Config(
        n_routed_experts=16, num_experts_per_tok=4, n_group=4, topk_group=2, n_shared_experts=1,
        moe_intermediate_size=24, first_k_dense_replace=1, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8,
        qk_nope_head_dim=8, v_head_dim=8,
        **(small | {"num_key_value_heads": 4}),
    )  # fmt: skip
    made = {}
    for config in (mixtral, qwen3, gpt_oss, deepseek):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if any(part in name for part in ("gate.weight", "router.", "e_score_correction_bias")):
                tensor.data.normal_(std=0.3 if "bias" in name else 1.0)  # logits that differ
        made[config.model_type] = model
    return made


def gates_of(model) -> list:
    """The routers of Mixtral, Qwen3-MoE and GPT-OSS."""
    return [m for m in model.modules() if type(m).__name__.endswith("TopKRouter") and hasattr(m, "top_k")]


def deepseek_by_definition(block, logits, definition, null) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """DeepSeek-V3's ranking and weights with BH's count: counts (T), ids (T,max_k), weights (T,max_k) padded 0."""
    config, probability = block.config, logits.sigmoid()
    choice = probability + block.gate.e_score_correction_bias
    groups = choice.reshape(len(logits), config.n_group, -1)
    best = groups.topk(2).values.sum(-1).topk(config.topk_group).indices
    kept = torch.zeros(len(logits), config.n_group, dtype=torch.bool).scatter(1, best, True)
    masked = groups.where(kept[..., None], -torch.inf).reshape(choice.shape)
    order = torch.sort(masked, dim=-1, descending=True, stable=True).indices
    # The rule reads the ranking's keys, not the logits. An expert of a group that is left out has p-value 1.
    p = torch.ones_like(masked, dtype=torch.float64)
    open_keys = masked[masked.isfinite()].reshape(len(logits), -1)
    p[masked.isfinite()] = null(bh_reference.scores(open_keys, definition.score)).flatten()
    counts = bh_reference.step_up(p, definition.alpha).clamp(definition.min_k, definition.max_k)
    ids = order[:, : definition.max_k]
    weights = probability.gather(1, ids) * (torch.arange(definition.max_k) < counts[:, None])
    return counts, ids, weights / (weights.sum(-1, keepdim=True) + 1e-20) * config.routed_scaling_factor


def check_deepseek(block, hidden, definition, null) -> tuple[int, int, float]:
    """Under the patch: layers whose counts vary (0 or 1), what differs, and how far weights are apart."""
    logits = block.gate(hidden)
    experts, weights = block.route_tokens_to_experts(logits)
    counts, expected_ids, expected_weights = deepseek_by_definition(block, logits, definition, null)
    used = torch.arange(definition.max_k) < counts[:, None]
    wrong = different((experts[used], expected_ids[used]), (weights > 0, used))
    return int(counts.unique().numel() > 1), wrong, (weights - expected_weights).abs().max().item()


def check_gate(gate, hidden, definition, null) -> tuple[int, int, float]:
    """check_deepseek() for a router whose weights are a softmax over the selected."""
    logits, weights, experts = gate(hidden)
    expected = bh_reference.route(logits, definition, null, True)
    used = expected.experts >= 0
    wrong = different((experts[used].int(), expected.experts[used]), (weights > 0, used))
    return int(expected.counts.unique().numel() > 1), wrong, (weights - expected.weights).abs().max().item()


def check_random_models() -> None:
    """Native routing by fdroute is the model's own. BH gives experts and weights of BH's definition."""
    policy = "bh:alpha=0.3,min_k=1,max_k=4,score=zscore,null=normal,mean=0.0,sd=0.8"
    definition = bh_reference.BhPolicy.parse(policy)
    null = bh_reference.layer_nulls(definition, 1)[0]
    for name, model in random_models().items():
        ids = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(1))
        before = model(input_ids=ids, use_cache=False).logits
        with fdroute_torch.patch(model, "native"):
            native = model(input_ids=ids, use_cache=False).logits
        row(MODELS, "native", f"{name}'s logits beside its own", (native - before).abs().max(), 1e-5)

        hidden = torch.randn(40, 32, generator=torch.Generator().manual_seed(2))
        with fdroute_torch.patch(model, policy):
            results = [check_gate(m, hidden, definition, null) for m in gates_of(model)]
            blocks = [m for m in model.modules() if type(m).__name__ == "DeepseekV3MoE"]
            results += [check_deepseek(m, hidden, definition, null) for m in blocks]
        varying, wrong, apart = zip(*results)
        assert any(varying), f"{name}: BH gave all tokens of all layers one count"
        row(MODELS, "bh by zscore", f"{name}'s experts that differ from the definition's", sum(wrong), 0)
        row(MODELS, "bh by zscore", f"{name}'s weights beside the definition's", max(apart), 1e-6)
        after = model(input_ids=ids, use_cache=False).logits
        row(MODELS, "restored", f"{name}'s logits that differ", different((after, before)), 0)


# ---- What was recorded of transformers ----


def check_capture(folder: pathlib.Path) -> None:
    """capture_hf.py run again on a capture's own input: floats within 1e-4, whole numbers equal."""
    path = folder / "capture.safetensors"
    captured = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    policy = bh_reference.BhPolicy.parse(metadata["bh.policy"]) if metadata["bh.policy"] else None
    nulls = folder / metadata["bh.nulls"] if metadata["bh.nulls"] else None
    ids = captured["input_ids"]
    again, _ = capture_hf.capture(
        folder, ids, rows=len(ids), new_tokens=captured["greedy_ids"].shape[1], policy=policy, nulls_file=nulls
    )
    if again.keys() != captured.keys():
        raise RuntimeError(f"{path}: other tensors than {sorted(again)}")
    wrong, apart = 0, 0.0
    for name, tensor in captured.items():
        if tensor.is_floating_point():
            apart = max(apart, (tensor - again[name]).abs().max().item())
        else:
            wrong += different((tensor, again[name]))
    row(MODELS, folder.name, f"floats beside {metadata['transformers']}'s capture", apart, 1e-4)
    row(MODELS, folder.name, f"ids and counts that differ from {metadata['transformers']}'s", wrong, 0)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("library", "root", "reference"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # models too small for more: threads would only wait for one another
    fdroute_torch.load_library(arguments.library.resolve())
    for name, policy in policies().items():
        check_operator(arguments.root, load_file(arguments.reference / f"{name}.safetensors"), name, policy)
    logits = load_file(arguments.reference / "native.safetensors")["router_logits.1"]
    check_dtypes(arguments.root, logits)
    check_compiler(arguments.root, logits)
    check_refusals(logits)
    check_bundled(arguments.root, arguments.reference)
    check_random_models()
    check_capture(arguments.root / "reference" / "model")
    for folder in sorted((arguments.root / "tests" / "data" / "tiny").iterdir()):
        check_capture(folder)


if __name__ == "__main__":
    main()
