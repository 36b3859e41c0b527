"""Benjamini-Hochberg expert routing written from its definition, and a patch that runs it inside transformers' OLMoE.

This is the second opinion that the C++ library is tested against, so it shares nothing with it: every row is
sorted, every p-value is computed, and the step-up search is the textbook maximum.

    score    s_i = (logit_i - shift) / scale, float32, shift and scale taken per token over all experts:
                 logit        shift = 0,         scale = 1
                 log_softmax  shift = logsumexp, scale = 1
                 zscore       shift = mean,      scale = population standard deviation (a constant row scores 0)
    p-value  p_i = P(S >= s_i) under the null, float64:
                 normal       0.5 * erfc((s - mean) / (sd * sqrt(2)))
                 tabulated    log p linear in the score between grid points, held at its first value to the left
                              of the grid, the last segment extrapolated to the right (an exponential tail)
    rule     k = max{k : p(k) <= alpha * k / m}, 0 if there is none (closed inequality), then clamped to [min_k, max_k]
    experts  the k largest logits, ties to the lower index
    weights  float32 softmax over all experts; divided by their sum only where the model sets norm_topk_prob

Command line: none, this is a module; `python3 selfcheck.py` exercises it.
Run with: torch 2.11 and transformers 5.17 (packed experts, OlmoeTopKRouter); torch 1.13 with a stand-in for the
4.45+ block (selfcheck.py says what that stand-in assumes).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types

import torch
import torch.nn.functional as F
from torch import nn

SCORES = ("logit", "log_softmax", "zscore")
NULLS = ("tabulated", "normal")


@dataclasses.dataclass(frozen=True)
class BhPolicy:
    """A BH router as values; `parse` and `str` use the grammar that the C++ side reads."""

    alpha: float
    min_k: int
    max_k: int
    score: str
    null: str
    mean: float = 0.0
    sd: float = 1.0

    def __post_init__(self):
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"bh: alpha must lie in (0, 1), got {self.alpha}")
        if not 0 <= self.min_k <= self.max_k or self.max_k < 1:
            raise ValueError(f"bh: need 0 <= min_k <= max_k and max_k >= 1, got {self.min_k} and {self.max_k}")
        if self.score not in SCORES:
            raise ValueError(f"bh: score must be one of {', '.join(SCORES)}, got {self.score!r}")
        if self.null not in NULLS:
            raise ValueError(f"bh: null must be one of {', '.join(NULLS)}, got {self.null!r}")
        if not self.sd > 0.0:
            raise ValueError(f"bh: sd must be positive, got {self.sd}")

    @classmethod
    def parse(cls, text: str) -> BhPolicy:
        name, _, rest = text.partition(":")
        if name != "bh":
            raise ValueError(f"expected a policy 'bh:key=value,...', got {text!r}")
        kinds = {"alpha": float, "min_k": int, "max_k": int, "score": str, "null": str, "mean": float, "sd": float}
        values = {}
        for item in rest.split(","):
            key, equals, value = item.partition("=")
            if not equals or key not in kinds or key in values:
                raise ValueError(f"bad item {item!r} in {text!r}; keys: {', '.join(kinds)}, each at most once")
            values[key] = kinds[key](value)
        missing = [key for key in ("alpha", "min_k", "max_k", "score", "null") if key not in values]
        if missing:
            raise ValueError(f"{text!r} lacks {', '.join(missing)}")
        if values["null"] == "tabulated" and not values.keys().isdisjoint({"mean", "sd"}):
            raise ValueError(f"{text!r}: mean and sd belong to null=normal")
        return cls(**values)

    def __str__(self) -> str:
        text = f"bh:alpha={self.alpha!r},min_k={self.min_k},max_k={self.max_k},score={self.score},null={self.null}"
        return text + (f",mean={self.mean!r},sd={self.sd!r}" if self.null == "normal" else "")


@dataclasses.dataclass(frozen=True)
class NormalNull:
    mean: float
    sd: float

    def __call__(self, score: torch.Tensor) -> torch.Tensor:
        return 0.5 * torch.erfc((score.double() - self.mean) / (self.sd * math.sqrt(2.0)))


@dataclasses.dataclass(frozen=True)
class TabulatedNull:
    score: torch.Tensor  # (points), float64, strictly ascending
    log_sf: torch.Tensor  # (points), float64, natural log of P(S >= score), non-increasing

    def __post_init__(self):
        if self.score.numel() < 2 or self.score.shape != self.log_sf.shape:
            raise ValueError("a tabulated null needs two points or more and as many log_sf values as scores")
        if not (self.score.diff() > 0).all():
            raise ValueError("a tabulated null's scores must ascend strictly")
        if (self.log_sf.diff() > 0).any() or self.log_sf.max() > 0 or not self.log_sf[-1] < self.log_sf[-2]:
            raise ValueError("a tabulated null's log_sf must be <= 0, non-increasing and falling in its last segment")

    def __call__(self, score: torch.Tensor) -> torch.Tensor:
        s = score.double()
        right = torch.searchsorted(self.score, s.contiguous(), right=True).clamp(1, self.score.numel() - 1)
        left = right - 1
        slope = (self.log_sf[right] - self.log_sf[left]) / (self.score[right] - self.score[left])
        log_p = self.log_sf[left] + (s - self.score[left]) * slope
        return torch.where(s < self.score[0], self.log_sf[0], log_p).exp()


def layer_nulls(policy: BhPolicy, layers: int, tables: dict[str, torch.Tensor] | None = None) -> list:
    """One null a layer; `tables` holds `layer.{l}.score` and `layer.{l}.log_sf` for null=tabulated."""
    if policy.null == "normal":
        return [NormalNull(policy.mean, policy.sd)] * layers
    if tables is None:
        raise ValueError("null=tabulated needs a table of nulls")
    return [
        TabulatedNull(tables[f"layer.{l}.score"].double(), tables[f"layer.{l}.log_sf"].double()) for l in range(layers)
    ]


def scores(logits: torch.Tensor, kind: str) -> torch.Tensor:
    """(tokens, experts) float32 -> float32. Shift and scale are float64 sums rounded once."""
    if kind == "logit":
        return logits
    wide = logits.double()
    if kind == "log_softmax":
        return logits - wide.logsumexp(-1, keepdim=True).float()
    shift, scale = wide.mean(-1, keepdim=True), wide.std(-1, unbiased=False, keepdim=True)
    return torch.where(scale > 0, (logits - shift.float()) / scale.float(), torch.zeros_like(logits))


def step_up(p: torch.Tensor, alpha: float) -> torch.Tensor:
    """BH rejections a row: the largest k whose k-th smallest p-value is <= alpha * k / m. (tokens, m) -> (tokens)."""
    m = p.shape[-1]
    k = torch.arange(1, m + 1, device=p.device)
    passes = p.sort(-1).values <= alpha * k / m
    return (passes * k).amax(-1)


def step_up_margin(p: torch.Tensor, alpha: float, min_k: int, max_k: int) -> torch.Tensor:
    """Smallest |p(k) - alpha k / m| / (alpha k / m) that could change the clamped count. (tokens, m) -> (tokens).

    Comparisons below the answer cannot change it; neither can those beyond max_k once max_k is reached, nor any
    below min_k when the answer stays there.
    """
    m = p.shape[-1]
    k = torch.arange(1, m + 1, device=p.device)
    critical = alpha * k / m
    relative = (p.sort(-1).values - critical) / critical
    count = step_up(p, alpha).unsqueeze(-1)
    capped = count >= max_k
    # At the cap only the loss of every k >= max_k that passes would count: the safest of them is the margin.
    safest = torch.where((k >= max_k) & (relative <= 0), -relative, torch.zeros_like(relative)).amax(-1)
    decisive = ((k == count) & (count > min_k)) | ((k > count) & (k > min_k))
    nearest = torch.where(decisive, relative.abs(), torch.full_like(relative, math.inf)).amin(-1)
    return torch.where(capped.squeeze(-1) & (count.squeeze(-1) > min_k), safest, nearest)


@dataclasses.dataclass
class Routing:
    """What one MoE block did with one batch; rows are tokens in (batch, sequence) order."""

    router_logits: torch.Tensor  # (tokens, experts) float32
    counts: torch.Tensor  # (tokens) int32
    experts: torch.Tensor  # (tokens, capacity) int32, descending by logit, padded -1
    weights: torch.Tensor  # (tokens, capacity) float32, padded 0
    count_margin: torch.Tensor  # (tokens) float64, step_up_margin
    cut_gap: torch.Tensor  # (tokens) float32, last selected logit - first rejected one


def cut_gap(logits: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Distance in logits between the last expert that is selected and the first that is not; inf if none is left."""
    ordered = logits.sort(-1, descending=True).values
    edge = torch.cat(
        [torch.full_like(ordered[:, :1], math.inf), ordered, torch.full_like(ordered[:, :1], -math.inf)], -1
    )
    k = counts.long().unsqueeze(-1)
    return (edge.gather(-1, k) - edge.gather(-1, k + 1)).squeeze(-1)


def route(logits: torch.Tensor, policy: BhPolicy, null, renormalize: bool) -> Routing:
    """(tokens, experts) float32 router logits -> who computes what."""
    tokens, m = logits.shape
    if logits.dtype != torch.float32 or not logits.isfinite().all():
        raise ValueError("the reference routes finite float32 logits")
    if policy.max_k > m:
        raise ValueError(f"max_k is {policy.max_k} but there are {m} experts")
    p = null(scores(logits, policy.score))
    counts = step_up(p, policy.alpha).clamp(policy.min_k, policy.max_k)
    order = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, : policy.max_k]
    weights = logits.softmax(-1).gather(-1, order)
    kept = torch.arange(policy.max_k, device=logits.device) < counts.unsqueeze(-1)
    weights = torch.where(kept, weights, torch.zeros_like(weights))
    if renormalize:
        weights = weights / weights.sum(-1, keepdim=True)
    return Routing(
        logits,
        counts.int(),
        torch.where(kept, order, torch.full_like(order, -1)).int(),
        weights,
        step_up_margin(p, policy.alpha, policy.min_k, policy.max_k),
        cut_gap(logits, counts),
    )


def gate_logits(block: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Raw router logits. 4.x's gate is a Linear and 5.x's an OlmoeTopKRouter: both are one weight matrix, no bias."""
    if getattr(block.gate, "bias", None) is not None:
        raise TypeError(f"{type(block.gate).__name__} has a bias, which no OLMoE router has")
    return F.linear(hidden, block.gate.weight)


def expert_forward(block: nn.Module, expert: int, x: torch.Tensor) -> torch.Tensor:
    """One expert's FFN: 4.x keeps a list of MLPs, 5.x two packed tensors."""
    experts = block.experts
    if isinstance(experts, nn.ModuleList):
        return experts[expert](x)
    gate, up = F.linear(x, experts.gate_up_proj[expert]).chunk(2, -1)
    return F.linear(experts.act_fn(gate) * up, experts.down_proj[expert])


def moe_forward(block: nn.Module, hidden: torch.Tensor, routing: Routing) -> torch.Tensor:
    """Sum over each token's selected experts of weight * expert(token); hidden is (tokens, hidden)."""
    out = torch.zeros_like(hidden)
    for expert in routing.experts.unique().tolist():
        if expert >= 0:
            token, slot = (routing.experts == expert).nonzero(as_tuple=True)
            out.index_add_(0, token, expert_forward(block, expert, hidden[token]) * routing.weights[token, slot, None])
    return out


@contextlib.contextmanager
def patch(model: nn.Module, policy: BhPolicy, nulls: list):
    """Route every MoE block of `model` by `policy` inside the `with`; yields a list that holds, layer by layer, the
    `Routing` of the latest forward pass.

    Only the blocks' forward is replaced, so no top-k runs anywhere, and leaving the `with` puts back exactly what
    was there. The replacement returns what the version at hand expects: (hidden, router logits) where the gate is
    a Linear (4.45+), hidden alone where it is a router module (5.x).
    """
    blocks = [layer.mlp for layer in model.model.layers]
    if len(nulls) != len(blocks):
        raise ValueError(f"the model has {len(blocks)} layers and the null has {len(nulls)}")
    renormalize = bool(model.config.norm_topk_prob)
    latest: list[Routing | None] = [None] * len(blocks)

    def forward_for(layer: int):
        def forward(block: nn.Module, hidden_states: torch.Tensor):
            hidden = hidden_states.reshape(-1, hidden_states.shape[-1])
            latest[layer] = route(gate_logits(block, hidden), policy, nulls[layer], renormalize)
            out = moe_forward(block, hidden, latest[layer]).reshape(hidden_states.shape)
            return (out, latest[layer].router_logits) if isinstance(block.gate, nn.Linear) else out

        return forward

    replaced = [block.__dict__.get("forward") for block in blocks]
    try:
        for layer, block in enumerate(blocks):
            block.forward = types.MethodType(forward_for(layer), block)
        yield latest
    finally:
        for block, original in zip(blocks, replaced):
            if original is None:
                block.__dict__.pop("forward", None)
            else:
                block.forward = original
