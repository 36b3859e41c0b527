"""Route a Hugging Face OLMoE by fdroute's C library, through ctypes; see docs/c-api.md.

    python3 ctypes_routing.py --library libfdroute_c.so --model DIR --policy "bh:alpha=0.05" [--nulls FILE]
        [--reference LOGITS.safetensors --ids IDS.safetensors] [--text TEXT --new-tokens N]

Every MoE block's router is replaced: its logits go to fdroute_route(), and what comes back is the fixed top-k form that
the block's experts take, `capacity` ids a token, of which those behind the token's count have weight 0. With --reference
(written by `olmoe logits --route POLICY --nulls FILE --ids IDS.safetensors --out LOGITS.safetensors`) the model's
logits are compared with it and the largest difference is printed; exit status 1 if it exceeds --atol.
"""

from __future__ import annotations

import argparse
import ctypes
import pathlib
import sys
import types

import torch
import transformers

F32, F16, BF16 = 0, 1, 2
MINUS_ONE, REPEAT_VALID = 0, 1
DTYPES = {torch.float32: F32, torch.float16: F16, torch.bfloat16: BF16}


class Library:
    """libfdroute_c with its functions declared; every failure becomes a RuntimeError with the library's reason."""

    def __init__(self, path: pathlib.Path):
        c = self.c = ctypes.CDLL(str(path.resolve()))
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

    def check(self, status: int) -> None:
        if status != 0:
            raise RuntimeError(self.c.fdroute_last_error().decode())


class Router:
    """One layer's router."""

    def __init__(self, library: Library, policy: str, experts: int, nulls: pathlib.Path | None, layer: int):
        self.library = library
        null, self.handle = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            if nulls is not None:
                library.check(library.c.fdroute_null_load(str(nulls).encode(), layer, ctypes.byref(null)))
            library.check(library.c.fdroute_router_create(policy.encode(), experts, null, None, ctypes.byref(self.handle)))
        finally:
            library.c.fdroute_null_destroy(null)
        self.capacity = library.c.fdroute_router_capacity(self.handle)
        self.policy = library.c.fdroute_router_policy(self.handle).decode()

    def __del__(self):
        self.library.c.fdroute_router_destroy(self.handle)

    def __call__(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(T,E) -> ids (T,capacity) int64, weights (T,capacity) float32 and counts (T) int32, on the logits' device."""
        rows = logits.detach().contiguous().cpu()
        tokens, experts = rows.shape
        ids = torch.empty(tokens, self.capacity, dtype=torch.int32)
        weights = torch.empty(tokens, self.capacity, dtype=torch.float32)
        counts = torch.empty(tokens, dtype=torch.int32)
        self.library.check(
            self.library.c.fdroute_route(
                self.handle, rows.data_ptr(), DTYPES[rows.dtype], tokens, experts, self.capacity, REPEAT_VALID,
                ids.data_ptr(), weights.data_ptr(), counts.data_ptr(), None,
            )
        )  # fmt: skip
        return ids.long().to(logits.device), weights.to(logits.device), counts


def replace_routing(model, library: Library, policy: str, nulls: pathlib.Path | None) -> list[Router]:
    """Routes all of a transformers 5 OLMoE by `policy`; returns the routers, one a layer."""
    if "renormalize" not in policy:  # the model's own convention
        separator = "," if ":" in policy else ":"
        policy += f"{separator}renormalize={'true' if model.config.norm_topk_prob else 'false'}"
    routers = []
    for layer, block in enumerate(model.model.layers):
        router = Router(library, policy, model.config.num_experts, nulls, layer)

        def forward(gate, hidden_states, router=router):
            hidden_states = hidden_states.reshape(-1, hidden_states.shape[-1])
            logits = torch.nn.functional.linear(hidden_states, gate.weight)
            ids, weights, _ = router(logits)
            return logits, weights.to(logits.dtype), ids

        block.mlp.gate.forward = types.MethodType(forward, block.mlp.gate)
        routers.append(router)
    return routers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--policy", required=True)
    parser.add_argument("--nulls", type=pathlib.Path)
    parser.add_argument("--reference", type=pathlib.Path)
    parser.add_argument("--ids", type=pathlib.Path)
    parser.add_argument("--atol", type=float, default=1e-4)
    parser.add_argument("--text")
    parser.add_argument("--new-tokens", type=int, default=24)
    arguments = parser.parse_args()
    if (arguments.reference is None) != (arguments.ids is None):
        parser.error("--reference and --ids go together")

    model = transformers.OlmoeForCausalLM.from_pretrained(
        arguments.model, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    ).eval()
    library = Library(arguments.library)
    routers = replace_routing(model, library, arguments.policy, arguments.nulls)
    print(f"fdroute {library.c.fdroute_version().decode()}: {len(routers)} layers by {routers[0].policy}")

    status = 0
    if arguments.reference is not None:
        from safetensors.torch import load_file

        ids = load_file(arguments.ids)["input_ids"]
        expected = load_file(arguments.reference)["logits"]
        with torch.no_grad():
            actual = model(input_ids=ids, use_cache=False).logits
        if actual.shape != expected.shape:
            raise ValueError(f"logits {tuple(actual.shape)}, in {arguments.reference} {tuple(expected.shape)}")
        difference = (actual - expected).abs().max().item()
        print(f"max |difference| of {tuple(actual.shape)} logits: {difference:.3g}, largest logit {expected.abs().max():.3g}")
        status = 0 if difference <= arguments.atol else 1
    if arguments.text is not None:
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(arguments.model / "tokenizer.json"))
        ids = tokenizer(arguments.text, return_tensors="pt").input_ids
        for _ in range(arguments.new_tokens):
            with torch.no_grad():
                ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        print(tokenizer.decode(ids[0]))
    return status


if __name__ == "__main__":
    sys.exit(main())
