"""Record how transformers' own MoE blocks route prescribed logits: the golden vectors of the router presets.

    python3 capture_routers.py --out DIR [--models olmoe,mixtral,...]

Each block is built with hidden size = number of experts and the identity as its router's weight, so that the hidden
states that go in *are* the router logits, bit for bit: `F.linear(x, I)` adds exact zeros. (A bias within the router,
gpt-oss's, is subtracted from what goes in; the logits recorded are those after it.) The experts' forward is replaced by
a recorder: what it is called with are the expert ids and exactly the weights by which the block multiplies. Llama 4
multiplies the experts' inputs instead; there the router's dense scores are recorded.

One text file per model, DIR/<model>.txt. A line is a word and what belongs to it; floats are C hexadecimal literals:

    # model, versions
    case experts=64 top_k=8 ...         the config's numbers; a case goes on to the next `case`
    bias b_0 .. b_{E-1}                 e_score_correction_bias, where the model has one
    row tied=0|1                        tied: values at the cut are equal, so any of them may have been taken
    logits x_0 .. x_{E-1}
    experts e_1 .. e_k                  in the order that the block used, which torch.topk leaves open
    weights w_1 .. w_k
    loss v                              load_balancing_loss_func over the case's rows that are not tied

Logits are multiples of 2^-10. Tied rows are copies of untied ones in which the weakest selected expert has an equal
that was not selected; without groups and biases also rows of multiples of 1/2, and a constant row.
A model that fails is reported in one line, the others are still written, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
import sys

import torch
import transformers

ROWS = 6  # of each kind


def floats(values: torch.Tensor) -> str:
    def text(x: float) -> str:
        if x == 0.0:
            return "0x0p+0"
        mantissa, exponent = x.hex().split("p")
        return mantissa.rstrip("0").rstrip(".") + "p" + exponent

    return " ".join(text(x) for x in values.double().tolist())


def find(module, names: list[str]):
    for name in names:
        if hasattr(module, name):
            return getattr(module, name)
    offered = [n for n in dir(module) if any(word in n for word in ("Moe", "MoE", "MLP", "Router", "Config"))]
    raise LookupError(f"{module.__name__} has none of {names}; it has {offered}")


class Block:
    """A MoE block of transformers, from its config's numbers, that routes given logits."""

    def __init__(self, package: str, block_names: list[str], config_name: str, numbers: dict, bias: torch.Tensor | None):
        module = importlib.import_module(f"transformers.models.{package}.modeling_{package}")
        config_class = find(importlib.import_module(f"transformers.models.{package}.configuration_{package}"), [config_name])
        self.experts = next(numbers[key] for key in ("num_experts", "num_local_experts", "n_routed_experts") if key in numbers)
        self.top_k = numbers["num_experts_per_tok"]
        self.has_bias = bias is not None
        self.bias = torch.zeros(self.experts) if bias is None else bias
        config = config_class(
            hidden_size=self.experts,
            intermediate_size=2,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            **numbers,
        )
        for key, value in numbers.items():
            if getattr(config, key) != value:
                raise ValueError(f"{config_name}.{key} is {getattr(config, key)!r} after {value!r} was given")
        self.module = find(module, block_names)(config).float().eval()
        self.loss = getattr(module, "load_balancing_loss_func", None)
        self._prescribe_logits()
        self.module.experts.forward = self._record_experts
        for name, child in self.module.named_children():
            if name == "router":
                child.register_forward_hook(self._record_router)

    def _prescribe_logits(self) -> None:
        self.router_bias = torch.zeros(self.experts)
        seen_weight = seen_bias = False
        tensors = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        with torch.no_grad():
            for name, tensor in tensors.items():
                of_the_router = not name.startswith(("experts", "shared_expert"))
                if of_the_router and tensor.shape == (self.experts, self.experts):
                    tensor.copy_(torch.eye(self.experts))
                    seen_weight = True
                elif of_the_router and name.endswith("router.bias"):
                    self.router_bias = (torch.arange(self.experts) % 5 - 2) / 8
                    tensor.copy_(self.router_bias)
                elif name.endswith("e_score_correction_bias"):
                    tensor.copy_(self.bias)
                    seen_bias = True
                else:
                    tensor.zero_()
        if not seen_weight:
            raise LookupError(f"no router weight ({self.experts}, {self.experts}) among {list(tensors)}")
        if seen_bias != self.has_bias:
            raise LookupError(f"a selection bias was {'not ' if self.has_bias else ''}expected; tensors: {list(tensors)}")

    def _record_experts(self, *arguments, **named):
        tensors = [t for t in (*arguments, *named.values()) if isinstance(t, torch.Tensor)]
        hidden, *weights = [t for t in tensors if t.is_floating_point()]
        ids = [t for t in tensors if not t.is_floating_point()]
        if len(weights) > 1 or len(ids) != len(weights):
            raise LookupError(f"the experts were called with shapes {[tuple(t.shape) for t in tensors]}")
        if ids:
            self.ids, self.weights = ids[0].clone(), weights[0].clone()
        return torch.zeros_like(hidden)

    def _record_router(self, _router, _inputs, output):
        self.router_output = output if isinstance(output, tuple) else (output,)

    def __call__(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(T,E) -> expert ids (T,k) and the weights (T,k) that the block applies."""
        hidden = logits - self.router_bias
        if not torch.equal(torch.nn.functional.linear(hidden, torch.eye(self.experts), self.router_bias), logits):
            raise ArithmeticError("F.linear by the identity is not exact here")
        self.ids = self.weights = self.router_output = None
        with torch.no_grad():
            self.module(hidden.unsqueeze(0))
        ids, weights = self.ids, self.weights
        if ids is None and self.router_output is not None:  # Llama 4: dense scores, 0 where not selected
            weights = self.router_output[0]
            if weights.shape != logits.shape or not ((weights != 0).sum(-1) == self.top_k).all():
                raise LookupError(f"the router's first output, {tuple(weights.shape)}, is no dense routing of top {self.top_k}")
            ids = weights.nonzero()[:, 1].reshape(-1, self.top_k)
        if ids is None or weights is None:
            raise LookupError("the experts were called without ids or without weights")
        ids = ids.reshape(-1, self.top_k).long()
        if weights.shape == logits.shape and self.top_k != self.experts:
            weights = weights.gather(1, ids)
        return ids, weights.reshape(ids.shape).float()

    def keys(self, logits: torch.Tensor) -> torch.Tensor:
        """What experts are ranked by, up to groups and monotone maps."""
        return logits.sigmoid() + self.bias if self.has_bias else logits


def grid(values: torch.Tensor) -> torch.Tensor:
    return (values * 1024).round() / 1024


def rows_without_ties(block: Block, generator: torch.Generator) -> torch.Tensor:
    """ROWS rows of each of three kinds: moderate, spread and low, one strong expert."""
    kinds = []
    for kind in range(3):
        logits = torch.randn((4 * ROWS, block.experts), generator=generator)
        if kind == 1:
            logits = 3 * logits - 2
        if kind == 2:
            logits[torch.arange(4 * ROWS), torch.randint(block.experts, (4 * ROWS,), generator=generator)] += 9
        logits = grid(logits)
        # Only a tie at the cut leaves anything open; two equal values elsewhere do no harm.
        keys = block.keys(logits).sort(-1, descending=True).values
        logits = logits[keys[:, block.top_k - 1] > keys[:, block.top_k]]
        if len(logits) < ROWS:
            raise ArithmeticError(f"only {len(logits)} untied rows: take another seed")
        kinds.append(logits[:ROWS])
    return torch.cat(kinds)


def rows_with_ties(block: Block, logits: torch.Tensor) -> torch.Tensor:
    """Untied rows in which the weakest selected expert e gets an equal: expert e ^ 1, which has the same bias and group."""
    ids, _ = block(logits)
    rows = []
    for row, chosen in zip(logits, ids):
        weakest = chosen[block.keys(row)[chosen].argmin()].item()
        if weakest ^ 1 not in chosen.tolist():
            tied = row.clone()
            tied[weakest ^ 1] = row[weakest]
            rows.append(tied)
    if len(rows) < 3:
        raise ArithmeticError("too few rows can be tied: take another seed")
    return torch.stack(rows[:ROWS])


def paired_bias(experts: int, offset: float, generator: torch.Generator) -> torch.Tensor:
    """Equal for e and e ^ 1. An offset of -3 makes all keys negative: a group mask of 0 would then rank first."""
    return grid(0.2 * torch.randn(experts // 2, generator=generator)).repeat_interleave(2) + offset


def describe(numbers: dict) -> str:
    names = {"num_local_experts": "experts", "num_experts": "experts", "n_routed_experts": "experts",
             "num_experts_per_tok": "top_k"}
    left_out = ("moe_intermediate_size", "n_shared_experts", "intermediate_size_mlp")
    text = {names.get(k, k): int(v) if isinstance(v, bool) else v for k, v in numbers.items() if k not in left_out}
    return " ".join(f"{key}={value}" for key, value in text.items())


def capture(package, block_names, config_name, cases, seed) -> str:
    generator = torch.Generator().manual_seed(seed)
    out = [f"# {package}: transformers {transformers.__version__}, torch {torch.__version__}, by capture_routers.py"]
    for numbers, bias_offset in cases:
        experts = next(numbers[key] for key in ("num_experts", "num_local_experts", "n_routed_experts") if key in numbers)
        bias = None if bias_offset is None else paired_bias(experts, bias_offset, generator)
        block = Block(package, block_names, config_name, numbers, bias)
        out.append("case " + describe(numbers))
        if bias is not None:
            out.append("bias " + floats(bias))
        untied = rows_without_ties(block, generator)
        tied = [rows_with_ties(block, untied)]
        if bias is None and numbers.get("n_group") in (None, 1):
            tied.append(torch.randn((ROWS, experts), generator=generator).mul(2).round().div(2))
            tied.append(torch.full((1, experts), -1.25))
        for logits, is_tied in [(untied, False), *[(t, True) for t in tied]]:
            ids, weights = block(logits)
            for row, e, w in zip(logits, ids, weights):
                out += [f"row tied={int(is_tied)}", "logits " + floats(row),
                        "experts " + " ".join(map(str, e.tolist())), "weights " + floats(w)]
        if block.loss is not None:
            out.append("loss " + floats(block.loss((untied,), experts, block.top_k).reshape(1)))
    return "\n".join(out) + "\n"


def softmax_cases(key, settings, **more):
    return [({key: e, "num_experts_per_tok": k, **extra, **more}, None) for e, k, extra in settings]


def deepseek_v2_cases():
    def case(experts, k, method, groups, kept, scale, norm):
        return ({"n_routed_experts": experts, "num_experts_per_tok": k, "topk_method": method, "n_group": groups,
                 "topk_group": kept, "routed_scaling_factor": scale, "norm_topk_prob": norm,
                 "moe_intermediate_size": 2, "n_shared_experts": 1}, None)  # fmt: skip

    return [
        case(8, 2, "greedy", 1, 1, 1.0, False),
        case(64, 6, "greedy", 1, 1, 1.0, False),
        case(64, 6, "greedy", 1, 1, 2.5, True),
        case(16, 3, "group_limited_greedy", 4, 2, 1.0, False),
        case(160, 6, "group_limited_greedy", 8, 3, 16.0, False),
    ]


def sigmoid_cases(settings):
    return [
        ({"n_routed_experts": e, "num_experts_per_tok": k, "n_group": groups, "topk_group": kept,
          "routed_scaling_factor": scale, "norm_topk_prob": norm, "moe_intermediate_size": 2,
          "n_shared_experts": 1}, offset)  # fmt: skip
        for e, k, groups, kept, scale, norm, offset in settings
    ]


MODELS = {
    "olmoe": (["OlmoeSparseMoeBlock"], "OlmoeConfig", softmax_cases("num_experts", [
        (8, 2, {"norm_topk_prob": False}), (16, 4, {"norm_topk_prob": True}), (64, 8, {"norm_topk_prob": False})])),
    "mixtral": (["MixtralSparseMoeBlock"], "MixtralConfig", softmax_cases("num_local_experts", [
        (8, 2, {}), (16, 4, {}), (64, 6, {})])),
    "qwen3_moe": (["Qwen3MoeSparseMoeBlock"], "Qwen3MoeConfig", softmax_cases("num_experts", [
        (8, 2, {"norm_topk_prob": True}), (16, 4, {"norm_topk_prob": False}), (128, 8, {"norm_topk_prob": True})],
        moe_intermediate_size=2)),
    "deepseek_v2": (["DeepseekV2Moe", "DeepseekV2MoE"], "DeepseekV2Config", deepseek_v2_cases()),
    "deepseek_v3": (["DeepseekV3MoE", "DeepseekV3Moe"], "DeepseekV3Config", sigmoid_cases([
        (8, 2, 1, 1, 1.0, True, 0.0), (16, 3, 4, 2, 2.5, True, 0.0), (64, 6, 8, 4, 2.5, False, 0.0),
        (256, 8, 8, 4, 2.5, True, 0.0), (32, 4, 4, 2, 1.0, True, -3.0)])),
    "gpt_oss": (["GptOssMLP"], "GptOssConfig", softmax_cases("num_local_experts", [
        (8, 2, {}), (32, 4, {}), (128, 4, {})])),
    "llama4": (["Llama4TextMoe"], "Llama4TextConfig", softmax_cases("num_local_experts", [
        (8, 1, {}), (16, 1, {}), (64, 3, {}), (128, 1, {})], intermediate_size_mlp=2)),
    "glm4_moe": (["Glm4MoeMoE", "Glm4MoeMoe"], "Glm4MoeConfig", sigmoid_cases([
        (8, 2, 1, 1, 1.0, True, 0.0), (16, 3, 4, 2, 1.0, False, 0.0), (128, 8, 1, 1, 2.5, True, 0.0),
        (32, 4, 4, 2, 1.0, True, -3.0)])),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    failures = 0
    for seed, name in enumerate(MODELS):
        if name not in arguments.models.split(","):
            continue
        try:
            text = capture(name, *MODELS[name], seed)
        except Exception as error:  # one model's trouble is not the others'
            failures += 1
            print(f"{name}: FAILED: {type(error).__name__}: {error}")
            continue
        path = arguments.out / f"{name}.txt"
        path.write_text(text)
        print(f"{name}: {text.count('row tied')} rows, {len(text)} bytes in {path}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
