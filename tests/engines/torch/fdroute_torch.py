"""fdroute for PyTorch: the operator torch.ops.fdroute.route, and a patch that routes transformers' models by it.

    import fdroute_torch
    fdroute_torch.load_library("libfdroute_c.so")
    ids, weights, counts = torch.ops.fdroute.route(logits, "bh:alpha=0.05,max_k=16", nulls="nulls.safetensors", layer=3)
    with fdroute_torch.patch(model, "bh:alpha=0.05,max_k=16", nulls="nulls.safetensors"):
        model(input_ids)

docs/pytorch.md explains both. This file needs torch and libfdroute_c (docs/c-api.md), and no transformers.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import types

import torch

_DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}  # fdroute_dtype
_REPEAT_VALID = 1
_library: ctypes.CDLL | None = None


def load_library(path: str) -> str:
    """Loads libfdroute_c from `path` and returns its version. Routers that were made before stay what they are."""
    global _library
    c = ctypes.CDLL(str(path))
    handle, i32, i64, text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_char_p
    c.fdroute_last_error.restype = text
    c.fdroute_version.restype = text
    c.fdroute_null_load.argtypes = [text, i32, ctypes.POINTER(handle)]
    c.fdroute_null_destroy.argtypes = [handle]
    c.fdroute_router_create.argtypes = [text, i32, handle, handle, ctypes.POINTER(handle)]
    c.fdroute_router_destroy.argtypes = [handle]
    c.fdroute_router_capacity.argtypes = [handle]
    c.fdroute_router_policy.argtypes = [handle]
    c.fdroute_router_policy.restype = text
    c.fdroute_route.argtypes = [handle, handle, i32, i64, i64, i32, i32, handle, handle, handle, handle]
    _library = c
    return c.fdroute_version().decode()


class _Router:
    """A router of the C library; `bias` is the selection bias as bytes of float32."""

    def __init__(self, policy: str, experts: int, nulls: str, layer: int, bias: bytes | None):
        self.handle = ctypes.c_void_p()
        if _library is None:
            raise RuntimeError("fdroute: load_library() comes first")
        if "\0" in policy + nulls:
            raise ValueError(f"fdroute: policy and nulls must not hold a null character, got {policy!r}, {nulls!r}")
        self.c = _library
        null = ctypes.c_void_p()
        try:
            if nulls:
                self.check(self.c.fdroute_null_load(nulls.encode(), layer, ctypes.byref(null)))
            self.check(self.c.fdroute_router_create(policy.encode(), experts, null, bias, ctypes.byref(self.handle)))
        finally:
            self.c.fdroute_null_destroy(null)
        self.capacity = self.c.fdroute_router_capacity(self.handle)
        self.policy = self.c.fdroute_router_policy(self.handle).decode()

    def __del__(self):
        if self.handle:
            self.c.fdroute_router_destroy(self.handle)

    def check(self, status: int) -> None:
        if status != 0:
            raise ValueError("fdroute: " + self.c.fdroute_last_error().decode())

    def __call__(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = logits.reshape(-1, logits.shape[-1]).contiguous()
        tokens, experts = rows.shape
        ids = torch.empty(tokens, self.capacity, dtype=torch.int32)
        weights = torch.empty(tokens, self.capacity, dtype=torch.float32)
        counts = torch.empty(tokens, dtype=torch.int32)
        self.check(
            self.c.fdroute_route(
                self.handle, rows.data_ptr(), _DTYPES[rows.dtype], tokens, experts, self.capacity, _REPEAT_VALID,
                ids.data_ptr(), weights.data_ptr(), counts.data_ptr(), None,
            )
        )  # fmt: skip
        shape = logits.shape[:-1]
        padded = (*shape, self.capacity)  # not -1, which says nothing of no tokens
        return ids.long().reshape(padded), weights.reshape(padded), counts.reshape(shape)


_router = functools.lru_cache(maxsize=1024)(_Router)


def _check(logits: torch.Tensor, selection_bias: torch.Tensor | None) -> None:
    if logits.dim() < 1:
        raise ValueError("fdroute: logits must have shape (..., experts), got a scalar")
    if logits.dtype not in _DTYPES:
        raise ValueError(f"fdroute: logits (..., experts) must be float32, bfloat16 or float16, got {logits.dtype}")
    if selection_bias is not None and selection_bias.shape != logits.shape[-1:]:
        given = tuple(selection_bias.shape)
        raise ValueError(f"fdroute: selection_bias must have shape ({logits.shape[-1]}), got {given}")


@torch.library.custom_op("fdroute::route", mutates_args=(), device_types="cpu")
def route(
    logits: torch.Tensor,
    policy: str,
    nulls: str = "",
    layer: int = 0,
    selection_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Routes the tokens of logits (..., experts), float32, bfloat16 or float16, by a policy string.

    Returns expert ids (..., capacity) int64, weights (..., capacity) float32 and counts (...) int32. `capacity` is the
    most experts that the policy gives a token. A token's `count` first places are its experts, best first; those
    behind repeat its best expert with weight 0, so that a block of fixed top-k takes the result as it is.

    `nulls` is a file of null distributions and `layer` the one of its layers to use; `selection_bias` (experts) is for
    presets that rank by one. Routers are made once and kept. ValueError says what a policy, a file or a tensor lacks.
    There is no backward formula: the operator is for inference.
    """
    _check(logits, selection_bias)
    bias = None
    if selection_bias is not None:
        bias = bytes(selection_bias.detach().float().contiguous().numpy())
    return _router(policy, logits.shape[-1], nulls, layer, bias)(logits)


@route.register_fake
def _(logits, policy, nulls="", layer=0, selection_bias=None):
    _check(logits, selection_bias)
    experts = int(logits.shape[-1])  # a router is made for one number of experts: not symbolic
    # A bias changes which experts are selected, never how many there is room for.
    bias = None if selection_bias is None else bytes(4 * experts)
    capacity = _router(policy, experts, nulls, layer, bias).capacity
    shape = logits.shape[:-1]
    return (
        logits.new_empty(*shape, capacity, dtype=torch.int64),
        logits.new_empty(*shape, capacity, dtype=torch.float32),
        logits.new_empty(shape, dtype=torch.int32),
    )


# ---- transformers' models ----


def _lower(flag: bool) -> str:
    return "true" if flag else "false"


def _softmax_router(preset: str, renormalize: bool, weights_as_logits: bool):
    """For a block whose router returns logits, weights and ids, and whose weights are a softmax."""

    def replace(block, router, policy, nulls, layer):
        if policy == "native":
            policy = preset
        elif "renormalize=" not in policy:
            # The policy with every setting written out tells whether it has this one: presets do not.
            written = _router(policy, router.weight.shape[0], nulls, layer, None).policy
            if "renormalize=" in written:
                policy += ("," if ":" in policy else ":") + f"renormalize={_lower(renormalize)}"

        def forward(self, hidden_states):
            hidden_states = hidden_states.reshape(-1, self.weight.shape[-1])
            logits = torch.nn.functional.linear(hidden_states, self.weight, getattr(self, "bias", None))
            ids, weights, counts = torch.ops.fdroute.route(logits, policy, nulls, layer)
            return logits, weights.to(logits.dtype) if weights_as_logits else weights, ids

        return router, "forward", forward

    return replace


def _olmoe(config):
    keys = f"num_experts_per_tok={config.num_experts_per_tok},norm_topk_prob={_lower(config.norm_topk_prob)}"
    return _softmax_router(f"olmoe:{keys}", config.norm_topk_prob, True)


def _qwen3_moe(config):
    keys = f"num_experts_per_tok={config.num_experts_per_tok},norm_topk_prob={_lower(config.norm_topk_prob)}"
    return _softmax_router(f"qwen3-moe:{keys}", config.norm_topk_prob, True)


def _mixtral(config):
    return _softmax_router(f"mixtral:num_experts_per_tok={config.num_experts_per_tok}", True, False)


def _gpt_oss(config):
    return _softmax_router(f"gpt-oss:num_experts_per_tok={config.num_experts_per_tok}", True, True)


def _deepseek_v3(config):
    keys = (
        f"n_group={config.n_group},topk_group={config.topk_group},norm_topk_prob={_lower(config.norm_topk_prob)},"
        f"routed_scaling_factor={config.routed_scaling_factor!r}"
    )

    def replace(block, router, policy, nulls, layer):
        if policy == "native":
            policy = f"deepseek-v3:num_experts_per_tok={config.num_experts_per_tok},{keys}"
        elif not policy.startswith(("deepseek-v3", "preset:")):
            name, _, settings = policy.partition(":")
            policy = f"preset:deepseek-v3,{keys},rule={name}" + (f",{settings}" if settings else "")

        def route_tokens_to_experts(self, router_logits):
            bias = self.gate.e_score_correction_bias
            ids, weights, counts = torch.ops.fdroute.route(router_logits, policy, nulls, layer, bias)
            return ids, weights

        return block, "route_tokens_to_experts", route_tokens_to_experts

    return replace


# Of a block's class: where its router is, and what replaces the routing under a model's config.
_BLOCKS = {
    "OlmoeSparseMoeBlock": ("gate", _olmoe),
    "MixtralSparseMoeBlock": ("gate", _mixtral),
    "Qwen3MoeSparseMoeBlock": ("gate", _qwen3_moe),
    "DeepseekV3MoE": ("gate", _deepseek_v3),
    "GptOssMLP": ("router", _gpt_oss),
}


@contextlib.contextmanager
def patch(model: torch.nn.Module, policy: str, nulls: str = ""):
    """Inside the `with`, every MoE block of a transformers model is routed by `policy`; then it is what it was.

    For OLMoE, Mixtral, Qwen3-MoE, DeepSeek-V3 and GPT-OSS of transformers 5. "native" is the model's own routing as
    fdroute does it. Any other policy replaces the rule and keeps the model's convention for weights. The l-th MoE
    block, from 0, uses layer l of the file `nulls`. Yields the number of blocks. Only methods of modules are
    replaced, never weights, so that the model's logits afterwards are those before, bit for bit.
    """
    blocks = [module for module in model.modules() if type(module).__name__ in _BLOCKS]
    if not blocks:
        raise ValueError(f"fdroute: {type(model).__name__} has none of {', '.join(_BLOCKS)}")
    replaced = []
    try:
        for layer, block in enumerate(blocks):
            attribute, replace_for = _BLOCKS[type(block).__name__]
            router = getattr(block, attribute)
            owner, name, function = replace_for(model.config)(block, router, policy, str(nulls), layer)
            replaced.append((owner, name, owner.__dict__.get(name)))
            setattr(owner, name, types.MethodType(function, owner))
        yield len(blocks)
    finally:
        for owner, name, original in reversed(replaced):
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
