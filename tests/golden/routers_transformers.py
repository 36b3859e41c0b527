#!/usr/bin/env python3
"""Records what transformers' own MoE modules do with prescribed router logits: tests/golden/routers.

    python3 tests/golden/routers_transformers.py --out tests/golden/routers [--models olmoe,mixtral]

Needs torch and transformers 5.12 on a CPU (Debian: python3-torch, python3-transformers). A module is made from its config
class. Its router's linear layer is replaced by the prescribed logits, its experts by a recorder of what they are called with:
expert ids and the weights that multiply their outputs. What a block does to the experts' sum afterwards (a scale) is part of
the weights here; `after` says so.

rows.txt holds the logits, for 16 and for 64 experts:

    experts E
    row KIND: E numbers

A model's file holds

    defaults KEY=VALUE ...     of the config class; `none` is a key without a default
    case E KEY=VALUE ...       the config's numbers for the lines that follow
    config JSON                the router's part of config.json, as transformers writes it
    bias / expert_scale        E numbers, if the router has them as tensors
    token ID ...               the experts of token 0, 1 ... if the router has a table of them
    logits NUMBER ...          of the next line, where a model cannot be given those of rows.txt
    MARK ID WEIGHT ...         one line per row of rows.txt with E experts

and MARK says how the line is to be read:

    =   the experts are determined: no tie at the cut
    ~   any of several equal experts may be selected: the weights are determined
    !   an expert of logit -inf was selected, or counted for its group, before one of finite logit; or it has a weight; or the
        kept groups have too few of finite logit
    n   some weight is NaN
    x   equal keys with different weights at the cut: nothing is determined
    loss VALUE                 load_balancing_loss_func over those of the first ten lines that are marked =, if the module has one
"""

import argparse
import importlib
import inspect
import json
import math
import pathlib
import sys
import types

import torch
import transformers

INF = float("inf")
linear = torch.nn.functional.linear


# ---- Rows ---------------------------------------------------------------------------------------


def grid(values: torch.Tensor) -> torch.Tensor:
    return (values * 256).round() / 256


def make_rows(experts: int) -> list[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(experts)

    def normal(n: int = 1) -> torch.Tensor:
        return torch.randn((n, experts), generator=generator)

    rows = [("random", r) for r in grid(normal(10))]
    rows += [("wide", r) for r in grid(3 * normal(3) - 2)]
    strong = grid(normal(2))
    strong[[0, 1], [3, experts - 2]] += 9
    rows += [("strong", r) for r in strong]
    rows += [("negative", r) for r in grid(normal(2) - 6)]
    rows += [("shifted", r) for r in grid(normal(1) + 100)]
    pairs = grid(normal(3))
    pairs[:, 1::2] = pairs[:, ::2]
    rows += [("pairs", r) for r in pairs]
    rows += [("coarse", r) for r in (2 * normal(2)).round() / 2]
    rows += [("equal", torch.full((experts,), -1.25))]
    for finite in (experts - 3, experts // 2, experts // 4, 1):
        masked = grid(normal()[0])
        masked[torch.randperm(experts, generator=generator)[finite:]] = -INF
        rows += [("masked", masked)]
    rows += [("saturated", grid(8 * normal()[0] + 20)), ("vanishing", grid(8 * normal()[0] - 60))]
    rows += [("extreme", r) for r in (grid(1000 * normal()[0]), (1e4 * normal()[0]).round(), (1e-30 * normal()[0]))]
    ends = torch.full((experts,), -3e38)
    ends[5] = 3e38
    rows += [("extreme", ends)]
    return rows


ROWS = {experts: make_rows(experts) for experts in (16, 64)}


# ---- Keys: what a model ranks by ------------------------------------------------------------------

SCORES = {
    "logit": lambda x: x,
    "softmax": lambda x: x.softmax(-1),
    "sigmoid": lambda x: x.sigmoid(),
    "sqrtsoftplus": lambda x: torch.nn.functional.softplus(x).sqrt(),
}


class Case:
    """One config of a model, ready to route logits."""

    def __init__(self, model: str, entry: dict, experts: int, numbers: dict, offset: float):
        self.entry, self.experts, self.numbers = entry, experts, numbers
        package = entry.get("package", model)
        self.module = importlib.import_module(f"transformers.models.{package}.modeling_{package}")
        configuration = importlib.import_module(f"transformers.models.{package}.configuration_{package}")
        config_class = getattr(configuration, entry["config"])
        named = {**entry.get("fixed", {}), **numbers}
        named[entry["experts"]] = experts - named.get("zero_expert_num", 0)
        self.config_numbers = dict(named)
        config = config_class(**{**entry.get("small", SMALL), **named})
        for key, value in named.items():
            if getattr(config, key) != value:
                raise ValueError(f"{model}: {key} is {getattr(config, key)!r} after {value!r} was given")
        self.config, self.config_class = config, config_class
        self.top_k = entry["top_k"] if isinstance(entry["top_k"], int) else named[entry["top_k"]]
        self.width = 2 * math.isqrt(experts) if entry.get("product_keys") else experts
        make = entry.get("make", lambda block, case: block(config, *entry.get("arguments", ())))
        self.block = make(getattr(self.module, entry["block"]), self).float().eval()
        generator = torch.Generator().manual_seed(experts + len(model))
        tensors = {**dict(self.block.named_parameters()), **dict(self.block.named_buffers())}
        self.bias = self.expert_scale = self.table = None
        with torch.no_grad():
            for name, tensor in tensors.items():
                if name.endswith(("e_score_correction_bias", "expert_bias")):
                    # Equal for e and e ^ 1, which pairs of equal logits leave tied.
                    pairs = grid(0.2 * torch.randn(experts // 2, generator=generator)).repeat_interleave(2) + offset
                    self.bias = pairs
                    tensor.copy_(pairs.reshape(tensor.shape))
                elif name.endswith("tid2eid"):
                    shuffled = [torch.randperm(experts, generator=generator)[: self.top_k] for _ in range(tensor.shape[0])]
                    self.table = torch.stack(shuffled)
                    tensor.copy_(self.table)
                elif name.endswith("per_expert_scale"):
                    self.expert_scale = grid(0.5 + torch.rand(experts // 2, generator=generator)).repeat_interleave(2)
                    tensor.copy_(self.expert_scale)
                elif tensor.is_floating_point():
                    tensor.zero_()
        if (self.bias is not None) != ("bias" in entry and numbers.get("use_expert_bias", True)):
            raise LookupError(f"{model}: tensors {list(tensors)}; bias {entry.get('bias')} expected")

    # The module's own forward, with the router's linear layer giving `logits` (T,E).
    def __call__(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        asked, self.logits, self.prescribed = [], logits, logits

        def prescribed(x, weight, bias=None):
            if weight.shape[0] != self.width:
                return linear(x, weight, bias)
            asked.append(weight)
            return self.prescribed.reshape(*x.shape[:-1], -1).clone()

        hidden = torch.zeros((1, logits.shape[0], HIDDEN))
        torch.nn.functional.linear = prescribed
        try:
            with torch.no_grad():
                ids, weights = self.entry.get("record", from_experts)(self, hidden)
                weights = weights * self.entry.get("after", lambda block: 1.0)(self.block)
        finally:
            torch.nn.functional.linear = linear
        if len(asked) != 1:
            raise LookupError(f"the router asked for {len(asked)} products of {self.width} rows")
        if ids.shape != (logits.shape[0], self.top_k) or weights.shape != ids.shape:
            raise LookupError(f"ids {tuple(ids.shape)}, weights {tuple(weights.shape)}, top {self.top_k}")
        return ids.long(), weights.float()

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        cap = self.numbers.get("moe_router_logit_softcapping", 0.0)
        name = self.entry["key"]
        name = name(self.numbers) if callable(name) else name
        return SCORES[name](torch.tanh(logits / cap) * cap if cap > 0 else logits)

    def keys(self, logits: torch.Tensor) -> torch.Tensor:
        return self.scores(logits) + (0.0 if self.bias is None else self.bias)

    def groups(self) -> tuple[int, int]:
        if self.numbers.get("topk_method") == "greedy":
            return 1, 1
        return self.numbers.get("n_group") or 1, self.numbers.get("topk_group") or 1

    def group_scores(self, keys: torch.Tensor, usable: torch.Tensor) -> torch.Tensor:
        per_group = torch.where(usable, keys, torch.tensor(-INF)).reshape(self.groups()[0], -1)
        if self.entry.get("group_score") == "max":
            return per_group.amax(-1)
        best = per_group.topk(min(2, per_group.shape[-1]), dim=-1).values
        return torch.where(best[:, 1].isinf(), best[:, 0], best.sum(-1))

    def mark(self, logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> str:
        if weights.isnan().any():
            return "n"
        if self.table is not None:
            return "="
        keys, finite = self.keys(logits), logits.isfinite()
        if (weights[~finite[ids]] != 0).any():
            return "!"
        groups, kept = self.groups()
        reachable = torch.ones_like(finite)
        if groups > 1:
            theirs = self.group_scores(keys, torch.ones_like(finite))
            ours = self.group_scores(keys, finite)
            best = theirs.sort(descending=True).values
            chosen = torch.zeros(groups, dtype=torch.bool)
            chosen[theirs.topk(kept).indices] = True
            reachable = chosen.repeat_interleave(self.experts // groups)
            if not finite.all() and set(theirs.topk(kept).indices.tolist()) != set(ours.topk(kept).indices.tolist()):
                return "!"
            if finite[reachable].sum() < min(self.top_k, int(finite.sum())):
                return "!"
            if best[kept - 1] == best[kept]:
                return "x"
        if finite[ids].sum() < min(self.top_k, int(finite.sum())):
            return "!"
        if int(finite.sum()) < self.top_k:
            return "~"
        if self.entry.get("first_of_equals") and len(set(keys.tolist())) == len(set(logits.tolist())):
            return "="
        ranked = keys[reachable].sort(descending=True).values
        if len(ranked) <= self.top_k or ranked[self.top_k - 1] != ranked[self.top_k]:
            return "="
        level = reachable & (keys == ranked[self.top_k - 1])
        weighs = self.scores(logits) * (1.0 if self.expert_scale is None else self.expert_scale)
        return "~" if len(set(weighs[level].tolist())) == 1 else "x"


# ---- How modules tell what they select ------------------------------------------------------------


def from_experts(case: Case, hidden: torch.Tensor, call=lambda block, hidden: block(hidden)):
    """(ids, weights) with which the block calls its experts."""
    seen = []

    def recorder(*arguments, **named):
        tensors = [t for t in (*arguments, *named.values()) if isinstance(t, torch.Tensor)]
        seen.append([t.clone() for t in tensors[1:]])
        return torch.zeros_like(tensors[0])

    case.block.experts.forward = recorder
    call(case.block, hidden)
    ids, weights = next(t for t in seen[0] if not t.is_floating_point()), next(t for t in seen[0] if t.is_floating_point())
    return ids, weights


def from_token_types(case, hidden):
    return from_experts(case, hidden, lambda block, h: block(h.squeeze(0)))


def from_token_table(case, hidden):
    """Row i is of token i modulo the size of the vocabulary."""
    tokens = torch.arange(hidden.shape[1]) % len(case.table)
    return from_experts(case, hidden, lambda block, h: block(h, tokens.reshape(1, -1)))


def from_router(ids: int, weights: int):
    """(ids, weights) among the outputs of a router that stands alone."""

    def record(case, hidden):
        outputs = case.block(hidden.squeeze(0))
        return outputs[ids], outputs[weights]

    return record


def from_gating(case, hidden):
    """GraniteMoE and JetMoE: the tokens' experts and gates come sorted by expert."""
    order, tokens, gates, sizes, _ = case.block(hidden.squeeze(0))
    experts = torch.repeat_interleave(torch.arange(case.experts), torch.tensor(sizes))
    ids = torch.empty(len(order), dtype=torch.long)
    weights = torch.empty(len(order))
    ids[order], weights[order] = experts, gates
    assert torch.equal(order // case.top_k, tokens)
    return ids.reshape(-1, case.top_k), weights.reshape(-1, case.top_k)


def from_dense(weights: torch.Tensor, case: Case):
    ids = weights.topk(case.top_k, dim=-1).indices
    return ids, weights.gather(1, ids)


def from_llama4(case, hidden):
    """The router's first output is dense; the sigmoid of an expert that is not selected is 0."""
    scores, logits = case.block.router(hidden.squeeze(0))
    ids = logits.topk(case.top_k, dim=1).indices
    assert (scores.gather(1, ids).sum(-1) - scores.sum(-1)).abs().max() < 1e-6
    return ids, scores.gather(1, ids)


def from_aria(case, hidden):
    seen = []
    own = case.block.experts.route_tokens_to_experts

    def forward(hidden_states, router_logits):
        seen.append(own(router_logits))
        return torch.zeros_like(hidden_states)

    case.block.experts.forward = forward
    case.block(hidden)
    return seen[0]


def from_switch(case, hidden):
    """One-hot ids (T,1,E) and the weights; all-zero where the expert's capacity is used up, which is large here."""
    seen = []

    def forward(hidden_states, selected_experts, routing_weights):
        seen.append((selected_experts, routing_weights))
        return torch.zeros_like(hidden_states)

    case.block.experts.forward = forward
    case.block(hidden.squeeze(0).unsqueeze(0))
    one_hot, weights = seen[0]
    one_hot = one_hot.reshape(-1, case.experts)
    assert (one_hot.sum(-1) == 1).all()
    return one_hot.argmax(-1, keepdim=True), weights.reshape(-1, 1)


def from_nllb(case, hidden):
    """The router's dense weights. The experts' module of 5.12 takes the mask of the first experts for ids: not recorded."""
    top_1, weights, logits = case.block.router(hidden.squeeze(0))
    second = logits.masked_fill(top_1.bool(), -INF).argmax(-1, keepdim=True)
    ids = torch.cat([top_1.argmax(-1, keepdim=True), second], -1)
    assert torch.equal(weights.gather(1, ids).sum(-1), weights.sum(-1)) or weights.isnan().any()
    return ids, weights.gather(1, ids)


def product_rows(experts: int) -> list[tuple[str, torch.Tensor]]:
    """Doge adds a key of each of two halves: rows of such sums."""
    n = math.isqrt(experts)
    generator = torch.Generator().manual_seed(experts)
    halves = grid(torch.randn((12, 2, n), generator=generator))
    halves[8:10] *= 4
    halves[10, :, 1::2] = halves[10, :, ::2]
    halves[11] = -1.25
    return [("sums", (x.unsqueeze(-1) + y).flatten()) for x, y in halves]


def from_doge(case, hidden):
    """The rows' halves go where the module's view(2, tokens, keys) looks for them; the softmax is its product with ones."""
    n = math.isqrt(case.experts)
    sums = case.logits.reshape(-1, n, n)
    case.prescribed = torch.stack([sums[:, :, 0], sums[:, 0, :] - sums[:, :1, 0]]).reshape(1, hidden.shape[1], 2 * n)
    seen = []

    def table(which):
        return lambda ids: (seen.append(ids), torch.zeros((*ids.shape, HIDDEN)))[1]

    own = torch.nn.functional.softmax
    weights = []
    case.block.down_embed.forward, case.block.up_embed.forward = table("down"), table("up")
    torch.nn.functional.softmax = lambda *a, **n: (weights.append(own(*a, **n)), weights[-1])[1]
    try:
        case.block(hidden)
    finally:
        torch.nn.functional.softmax = own
    return seen[0].reshape(-1, case.top_k), weights[0].reshape(-1, case.top_k)


HIDDEN = 12
SMALL = {"hidden_size": HIDDEN, "intermediate_size": 10, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}


# ---- Models -------------------------------------------------------------------------------------


def entry(config, block, experts="num_experts", top_k="num_experts_per_tok", key="softmax", cases=({}, {}), **more):
    return {"config": config, "block": block, "experts": experts, "top_k": top_k, "key": key, "cases": cases, **more}


def softmax(config, block, experts="num_experts", norm=None, record=None, **more):
    cases = [{"num_experts_per_tok": k} for k in (3, 6)]
    if norm is not None:
        for case, on in zip(cases, norm):
            case["norm_topk_prob"] = on
    if record:
        more["record"] = record
    return entry(config, block, experts, cases=cases, **more)


def sigmoid(config, block, experts="n_routed_experts", groups=True, norm=True, scale="routed_scaling_factor", **more):
    cases = [{"num_experts_per_tok": 3}, {"num_experts_per_tok": 6}]
    for case, (n, kept), on, factor in zip(cases, ((4, 2), (8, 4)), (True, False), (2.5, 1.0)):
        if groups:
            case.update(n_group=n, topk_group=kept)
        if norm:
            case["norm_topk_prob"] = on
        if scale:
            case[scale] = factor
    if groups:
        cases.append({**cases[0], "n_group": 1, "topk_group": 1, "at": 16, "offset": -1.5})
    return entry(config, block, experts, key="sigmoid", cases=cases, bias="e_score_correction_bias", **{**more})


def deepseek_v2(config, block, **more):
    cases = [
        {"num_experts_per_tok": 3, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2, "routed_scaling_factor": 16.0},
        {"num_experts_per_tok": 6, "topk_method": "greedy", "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0},
    ]
    return entry(config, block, "n_routed_experts", cases=cases, group_score="max", make=with_num_experts, **more)


def with_num_experts(block, case):
    """group_limited_greedy reads an attribute that 5.12 forgets to set, and would raise AttributeError."""
    made = block(case.config)
    made.num_experts = case.experts
    return made


def granite(config, block, **more):
    cases = [{"num_experts_per_tok": k} for k in (3, 6)]
    return entry(config, block, "num_local_experts", key="logit", cases=cases, record=from_gating,
                 make=lambda block, case: block(HIDDEN, case.experts, case.top_k), **more)  # fmt: skip


def gemma4(config, block, **more):
    cases = [{"top_k_experts": k} for k in (3, 6)]
    return entry(config, block, top_k="top_k_experts", cases=cases, record=from_router(2, 1), within="text_config",
                 fixed={"moe_intermediate_size": 4, "enable_moe_block": True}, expert_scale=True, **more)  # fmt: skip


def ernie(config, block, **more):
    cases = [{"moe_k": 3}, {"moe_k": 6, "moe_norm_min": 0.125}]
    return entry(config, block, "moe_num_experts", "moe_k", cases=cases, bias="e_score_correction_bias", **more)


MOE = {"moe_intermediate_size": 4}
V4 = {"mlp_layer_types": ["moe", "hash_moe"], "layer_types": ["sliding_attention"] * 2, "vocab_size": 8}
MODELS = {
    "afmoe": sigmoid("AfmoeConfig", "AfmoeSparseMoeBlock", "num_experts", groups=False, norm=False, scale="route_scale",
                     fixed={**MOE, "num_shared_experts": 1}),
    "aria": entry("AriaTextConfig", "AriaTextMoELayer", "moe_num_experts", "moe_topk", "logit",
                  [{"moe_topk": 3}, {"moe_topk": 6}], record=from_aria, within="text_config"),
    "cohere2_moe": entry("Cohere2MoeConfig", "Cohere2MoeTopKRouter", key="logit", record=from_router(2, 1), cases=[
        {"num_experts_per_tok": 3, "expert_selection_fn": "softmax", "norm_topk_prob": True},
        {"num_experts_per_tok": 6, "expert_selection_fn": "sigmoid", "norm_topk_prob": True},
        {"num_experts_per_tok": 6, "expert_selection_fn": "sigmoid", "norm_topk_prob": False, "at": 16}]),
    "dbrx": entry("DbrxFFNConfig", "DbrxFFN", "moe_num_experts", "moe_top_k", within="ffn_config",
                  make=lambda block, case: block(types.SimpleNamespace(ffn_config=case.config)),
                  small={"ffn_hidden_size": 10, "hidden_size": HIDDEN}, cases=[
        {"moe_top_k": 3, "moe_normalize_expert_weights": 1.0}, {"moe_top_k": 6, "moe_normalize_expert_weights": None},
        {"moe_top_k": 3, "moe_normalize_expert_weights": 2.0, "at": 16}]),
    "deepseek_ocr2": deepseek_v2("DeepseekOcr2TextConfig", "DeepseekOcr2TextMoe", within="text_config", fixed=MOE),
    "deepseek_v2": deepseek_v2("DeepseekV2Config", "DeepseekV2Moe", fixed=MOE),
    "deepseek_v3": sigmoid("DeepseekV3Config", "DeepseekV3MoE", fixed=MOE),
    "deepseek_v32": sigmoid("DeepseekV32Config", "DeepseekV32MoE", fixed=MOE),
    "deepseek_v4": entry("DeepseekV4Config", "DeepseekV4SparseMoeBlock", "n_routed_experts",
                         key=lambda numbers: numbers["scoring_func"], bias="e_score_correction_bias", arguments=(0,),
                         fixed=V4,
                         cases=[
        {"num_experts_per_tok": 3, "scoring_func": "sqrtsoftplus", "routed_scaling_factor": 1.5},
        {"num_experts_per_tok": 6, "scoring_func": "sqrtsoftplus", "routed_scaling_factor": 1.0},
        {"num_experts_per_tok": 3, "scoring_func": "sigmoid", "routed_scaling_factor": 2.5, "at": 16}]),
    "deepseek_v4_hash": entry("DeepseekV4Config", "DeepseekV4SparseMoeBlock", "n_routed_experts", key="sqrtsoftplus",
                              package="deepseek_v4", arguments=(1,), fixed=V4, record=from_token_table, cases=[
        {"num_experts_per_tok": 3, "scoring_func": "sqrtsoftplus", "routed_scaling_factor": 1.5},
        {"num_experts_per_tok": 6, "scoring_func": "sqrtsoftplus", "routed_scaling_factor": 1.0}]),
    "diffusion_gemma": gemma4("DiffusionGemmaTextConfig", "DiffusionGemmaTextRouter"),
    "doge": entry("DogeConfig", "DogeCDMoE", key="logit", cases=[
        {"num_experts_per_tok": 3, "norm_topk_prob": False}, {"num_experts_per_tok": 6, "norm_topk_prob": True}], product_keys=True,
                  record=from_doge, rows=product_rows),
    "dots1": sigmoid("Dots1Config", "Dots1MoE", fixed={**MOE, "n_shared_experts": 1}),
    "ernie4_5_moe": ernie("Ernie4_5_MoeConfig", "Ernie4_5_MoeSparseMoeBlock", fixed=MOE),
    "ernie4_5_vl_moe": ernie("Ernie4_5_VLMoeTextConfig", "Ernie4_5_VLMoeSparseMoeBlock", arguments=(4,), within="text_config",
                             record=from_token_types),
    "exaone_moe": sigmoid("ExaoneMoeConfig", "ExaoneMoeSparseMoEBlock", "num_experts", fixed={**MOE, "num_shared_experts": 1}),
    "flex_olmo": softmax("FlexOlmoConfig", "FlexOlmoSparseMoeBlock", norm=(False, True)),
    "gemma4": gemma4("Gemma4TextConfig", "Gemma4TextRouter"),
    "glm4_moe": sigmoid("Glm4MoeConfig", "Glm4MoeMoE", fixed=MOE),
    "glm4_moe_lite": sigmoid("Glm4MoeLiteConfig", "Glm4MoeLiteMoE", fixed=MOE),
    "glm4v_moe": sigmoid("Glm4vMoeTextConfig", "Glm4vMoeTextMoE", fixed=MOE, within="text_config"),
    "glm_moe_dsa": sigmoid("GlmMoeDsaConfig", "GlmMoeDsaMoE", fixed=MOE),
    "gpt_oss": entry("GptOssConfig", "GptOssTopKRouter", "num_local_experts", key="logit", record=from_router(2, 1),
                     cases=[{"num_experts_per_tok": 3}, {"num_experts_per_tok": 6}]),
    "granitemoe": granite("GraniteMoeConfig", "GraniteMoeTopKGating"),
    "granitemoehybrid": granite("GraniteMoeHybridConfig", "GraniteMoeHybridTopKGating",
                                fixed={"mamba_n_heads": 2}),
    "granitemoeshared": granite("GraniteMoeSharedConfig", "GraniteMoeSharedTopKGating"),
    "hunyuan_v1_moe": entry("HunYuanMoEV1Config", "HunYuanMoEV1Moe", top_k="moe_topk", arguments=(0,),
                            cases=[{"moe_topk": 3}, {"moe_topk": 6}]),
    "hy_v3": sigmoid("HYV3Config", "HYV3MoE", "num_experts", groups=False, norm=False, scale="router_scaling_factor",
                     fixed={**MOE, "num_shared_experts": 1}),
    "jamba": softmax("JambaConfig", "JambaSparseMoeBlock"),
    "jetmoe": granite("JetMoeConfig", "JetMoeTopKGating"),
    "laguna": entry("LagunaConfig", "LagunaSparseMoeBlock", key="sigmoid", bias="e_score_correction_bias", fixed=MOE,
                    after=lambda block: block.routed_scaling_factor, cases=[
        {"num_experts_per_tok": 3, "moe_router_logit_softcapping": 0.0, "moe_routed_scaling_factor": 2.5},
        {"num_experts_per_tok": 6, "moe_router_logit_softcapping": 4.0, "moe_routed_scaling_factor": 1.0}]),
    "lfm2_moe": entry("Lfm2MoeConfig", "Lfm2MoeSparseMoeBlock", key="sigmoid", bias="expert_bias", fixed=MOE, cases=[
        {"num_experts_per_tok": 3, "use_expert_bias": True, "norm_topk_prob": True, "routed_scaling_factor": 1.0},
        {"num_experts_per_tok": 6, "use_expert_bias": True, "norm_topk_prob": False, "routed_scaling_factor": 2.5},
        {"num_experts_per_tok": 3, "use_expert_bias": False, "norm_topk_prob": True, "routed_scaling_factor": 1.0, "at": 16}]),
    "llama4": entry("Llama4TextConfig", "Llama4TextMoe", "num_local_experts", key="logit", record=from_llama4,
                    within="text_config", cases=[{"num_experts_per_tok": 1}, {"num_experts_per_tok": 3}]),
    "longcat_flash": entry("LongcatFlashConfig", "LongcatFlashMoE", "n_routed_experts", "moe_topk",
                           bias="e_score_correction_bias", fixed={"expert_ffn_hidden_size": 4}, cases=[
        {"moe_topk": 3, "zero_expert_num": 4, "routed_scaling_factor": 6.0},
        {"moe_topk": 6, "zero_expert_num": 16, "routed_scaling_factor": 1.0}]),
    "mellum": softmax("MellumConfig", "MellumTopKRouter", norm=(True, False), record=from_router(2, 1)),
    "minimax": softmax("MiniMaxConfig", "MiniMaxSparseMoeBlock", "num_local_experts"),
    "minimax_m2": sigmoid("MiniMaxM2Config", "MiniMaxM2SparseMoeBlock", "num_local_experts", groups=False, norm=False, scale=None),
    "minimax_m3_vl": sigmoid("MiniMaxM3VLTextConfig", "MiniMaxM3VLSparseMoeBlock", "num_local_experts", groups=False, norm=False,
                             within="text_config", after=lambda block: block.routed_scaling_factor,
                             fixed={"shared_intermediate_size": 4}),
    "mistral4": entry("Mistral4Config", "Mistral4MoE", "n_routed_experts", fixed=MOE, cases=[
        {"num_experts_per_tok": 3, "n_group": 4, "topk_group": 2, "norm_topk_prob": True, "routed_scaling_factor": 2.5},
        {"num_experts_per_tok": 6, "n_group": 8, "topk_group": 4, "norm_topk_prob": False, "routed_scaling_factor": 1.0},
        {"num_experts_per_tok": 3, "n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.0, "at": 16}]),
    "mixtral": softmax("MixtralConfig", "MixtralSparseMoeBlock", "num_local_experts"),
    "nemotron_h": sigmoid("NemotronHConfig", "NemotronHMoE", fixed=MOE),
    "nllb_moe": entry("NllbMoeConfig", "NllbMoeSparseMLP", top_k=2, arguments=(8,), record=from_nllb, first_of_equals=True,
                      small={"d_model": HIDDEN}, cases=[{}, {}]),
    "olmoe": softmax("OlmoeConfig", "OlmoeSparseMoeBlock", norm=(False, True)),
    "openai_privacy_filter": entry("OpenAIPrivacyFilterConfig", "OpenAIPrivacyFilterMLP", "num_local_experts", key="logit",
                                   after=lambda block: block.num_experts,
                                   cases=[{"num_experts_per_tok": 4}, {"num_experts_per_tok": 8}]),
    "phimoe": entry("PhimoeConfig", "PhimoeSparseMoeBlock", "num_local_experts", key="logit", first_of_equals=True, cases=[
        {"num_experts_per_tok": 2, "router_jitter_noise": 0.01}, {"num_experts_per_tok": 2, "router_jitter_noise": 0.25}]),
    "qwen2_moe": softmax("Qwen2MoeConfig", "Qwen2MoeTopKRouter", norm=(False, True), record=from_router(2, 1)),
    "qwen3_5_moe": softmax("Qwen3_5MoeTextConfig", "Qwen3_5MoeTopKRouter", record=from_router(2, 1), within="text_config"),
    "qwen3_moe": softmax("Qwen3MoeConfig", "Qwen3MoeSparseMoeBlock", norm=(True, False), fixed=MOE),
    "qwen3_next": softmax("Qwen3NextConfig", "Qwen3NextTopKRouter", norm=(True, False), record=from_router(2, 1)),
    "qwen3_omni_moe": softmax("Qwen3OmniMoeTextConfig", "Qwen3OmniMoeThinkerTextTopKRouter", norm=(True, False),
                              record=from_router(2, 1), within="thinker_config.text_config"),
    "qwen3_omni_moe_talker": softmax("Qwen3OmniMoeTalkerTextConfig", "Qwen3OmniMoeTalkerTextTopKRouter", norm=(True, False),
                                     record=from_router(2, 1), package="qwen3_omni_moe"),
    "qwen3_vl_moe": softmax("Qwen3VLMoeTextConfig", "Qwen3VLMoeTextTopKRouter", record=from_router(2, 1), within="text_config"),
    "solar_open": sigmoid("SolarOpenConfig", "SolarOpenMoE", fixed=MOE),
    "switch_transformers": entry("SwitchTransformersConfig", "SwitchTransformersSparseMLP", top_k=1, record=from_switch,
                                 first_of_equals=True, small={"d_model": HIDDEN}, fixed={"expert_capacity": 1000},
                                 cases=[{}, {}]),
}  # fmt: skip


# ---- Files --------------------------------------------------------------------------------------

LOSS_ROWS = 10
ALIASES = {"num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "norm_topk_prob"}


def number(value) -> str:
    if value is None:
        return "none"
    if isinstance(value, (bool, str)):
        return str(value).lower()
    return f"{value:.9g}"


def numbers(values: torch.Tensor) -> str:
    return " ".join(number(x) for x in values.double().tolist())


def pairs(named: dict) -> str:
    return "".join(f" {key}={number(value)}" for key, value in named.items())


def config_json(model: str, case: Case) -> str:
    """What config.json says of the router: the config as transformers saves it, less what is no router's."""
    keys = ALIASES | set(case.numbers) | {case.entry["experts"], "model_type"}
    saved = json.loads(case.config.to_json_string(use_diff=False))
    saved = {key: value for key, value in saved.items() if key in keys}
    saved.setdefault("model_type", model)
    for inside in reversed([part for part in case.entry.get("within", "").split(".") if part]):
        saved = {"model_type": model, inside: saved}
    return json.dumps(saved)


def loss_of(case: Case, rows: list[torch.Tensor]) -> torch.Tensor | None:
    loss = getattr(case.module, "load_balancing_loss_func", None)
    if loss is None or case.bias is not None or case.entry["key"] not in ("logit", "softmax") or not rows:
        return None
    if case.entry.get("rows") or list(inspect.signature(loss).parameters)[1:3] != ["num_experts", "top_k"]:
        return None
    return loss((torch.stack(rows),), case.experts, case.top_k).reshape(1)


def record(model: str, entry: dict) -> str:
    out = [f"# {model}: transformers {transformers.__version__}, torch {torch.__version__}"]
    cases = []
    for i, numbers_of in enumerate(entry["cases"]):
        settings = dict(numbers_of)
        offset = settings.pop("offset", 0.0)
        cases.append(Case(model, entry, settings.pop("at", (16, 64, 16)[i]), settings, offset))
    keys = dict.fromkeys([entry["experts"], *(key for case in cases for key in case.numbers)])
    defaults = {key: getattr(cases[0].config_class(), key) for key in keys}
    out.append("defaults" + pairs(defaults))
    for case in cases:
        out.append(f"case {case.experts}" + pairs(case.numbers))
        out.append("config " + config_json(model, case))
        if case.bias is not None:
            out.append("bias " + numbers(case.bias))
        if case.expert_scale is not None:
            out.append("expert_scale " + numbers(case.expert_scale))
        if case.table is not None:
            out += ["token " + " ".join(map(str, ids)) for ids in case.table.tolist()]
        own_rows = entry.get("rows")
        rows = [row for _, row in (own_rows(case.experts) if own_rows else ROWS[case.experts])]
        ids, weights = case(torch.stack(rows))
        determined, start = [], len(out)
        for row, e, w in zip(rows, ids, weights):
            if own_rows:
                out.append("logits " + numbers(row))
            mark = case.mark(row, e, w)
            if mark == "=" and len(out) < start + LOSS_ROWS:
                determined.append(row)
            out.append(mark + "".join(f" {i} {number(x)}" for i, x in zip(e.tolist(), w.double().tolist())))
        loss = loss_of(case, determined)
        if loss is not None:
            out.append("loss " + numbers(loss))
    return "\n".join(out) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = "# Router logits, by routers_transformers.py.\n"
    for experts, rows in ROWS.items():
        text += f"experts {experts}\n" + "".join(f"row {kind}: {numbers(row)}\n" for kind, row in rows)
    (arguments.out / "rows.txt").write_text(text)
    failures = 0
    for model in arguments.models.split(","):
        try:
            text = record(model, MODELS[model])
        except Exception as error:  # one model's trouble is not the others'
            failures += 1
            print(f"{model}: FAILED: {type(error).__name__}: {error}")
            continue
        (arguments.out / f"{model}.txt").write_text(text)
        marks = [line[0] for line in text.splitlines() if line[:2] in ("= ", "~ ", "! ", "n ", "x ")]
        print(model, len(text), {mark: marks.count(mark) for mark in "=~!nx"})
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
