"""Record what transformers computes for an OLMoE directory, with its own top-k and with BH routing.

    python3 capture_hf.py --model DIR --out FILE.safetensors (--ids FILE.json | --text FILE...)
        [--rows 4] [--length 32] [--new-tokens 24]
        [--policy "bh:alpha=0.05,min_k=1,max_k=16,score=log_softmax,null=tabulated" [--nulls FILE.safetensors]]

Everything is float32 with eager attention and transformers' eager experts, on the CPU by default, without a KV cache.
One safetensors file comes out (B rows of S tokens, V vocabulary, E experts, H hidden, L layers, N new tokens):

    input_ids (B,S) i64              logits (B,S,V) f32           greedy_ids (B,N) i64
    router_logits.{l} (B*S,E) f32    raw gate outputs, before any softmax
    hidden_states.{l} (B,S,H) f32    l = 0..L: 0 is the embedding, L the output of the final norm
    with --policy, the same run again with every MoE block routed by BH (bh_reference.py):
    bh.logits   bh.router_logits.{l}   bh.greedy_ids
    bh.expert_counts.{l} (B*S) i32   bh.selected_experts.{l} (B*S,max_k) i32, descending by logit, padded -1
    bh.routing_weights.{l} (B*S,max_k) f32, padded 0

`__metadata__` (strings): format, model, transformers, torch, bh.policy, bh.nulls (file name beside the model, or ""),
and sha256, a JSON object {file: hex digest} over config.json and every weight file.

A capture is worth comparing against only where a different summation order cannot change a discrete choice. A row
is used only if, over its prompt and its continuation, the best token leads the second by --min-token-gap (1e-3), the
last selected expert leads the first rejected one by --min-cut-gap (1e-4, in router logits), and no BH comparison that
could change a count is closer to equality than --min-count-margin (1e-4, relative). The first --rows rows that pass
are kept; too few of them is an error.

--text takes paragraphs (separated by blank lines) of --length tokens or more, cut to --length, from each file in turn.
Run with: transformers 5.17, torch 2.11. The 4.45+ branch of the MoE block was run on a stand-in only (selfcheck.py).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

import bh_reference as bh


@dataclasses.dataclass(frozen=True)
class Margins:
    token_gap: float = 1e-3
    cut_gap: float = 1e-4
    count_margin: float = 1e-4


def load_model(directory: pathlib.Path, device: str = "cpu", dtype: torch.dtype = torch.float32):
    """The checkpoint in `dtype` with every reference implementation chosen by name; any stray tensor is an error."""
    if int(transformers.__version__.split(".")[0]) >= 5:
        options = {"dtype": dtype, "experts_implementation": "eager"}
    else:
        options = {"torch_dtype": dtype}
    model, info = transformers.OlmoeForCausalLM.from_pretrained(
        directory, attn_implementation="eager", output_loading_info=True, **options
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise RuntimeError(f"{directory}: {kind}: {sorted(info[kind])}")
    return model.eval().to(device)


@contextlib.contextmanager
def record_router_logits(model):
    """Raw router logits of the latest forward pass by layer, taken from each gate's input and weight.

    transformers records the gate's first output, which is the logits in some versions and their softmax in others;
    whichever it is must agree with the recomputation.
    """
    latest = [None] * len(model.model.layers)

    def hook_for(layer: int, block):
        def hook(_gate, inputs, output):
            logits = bh.gate_logits(block, inputs[0].reshape(-1, inputs[0].shape[-1]))
            reported = (output[0] if isinstance(output, tuple) else output).reshape(logits.shape).float()
            if not (
                torch.allclose(reported, logits, atol=1e-5) or torch.allclose(reported, logits.softmax(-1), atol=1e-6)
            ):
                raise RuntimeError(f"layer {layer}: the gate reports neither its logits nor their softmax")
            latest[layer] = logits

        return hook

    handles = [
        layer.mlp.gate.register_forward_hook(hook_for(l, layer.mlp)) for l, layer in enumerate(model.model.layers)
    ]
    try:
        yield latest
    finally:
        for handle in handles:
            handle.remove()


def greedy(model, ids: torch.Tensor, new_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,S) -> (B,N) argmax continuation and (B) smallest lead of an argmax over its runner-up. No end-of-text stop."""
    gap = torch.full((ids.shape[0],), torch.inf)
    prompt = ids.shape[1]
    for _ in range(new_tokens):
        best = model(input_ids=ids, use_cache=False).logits[:, -1].topk(2)
        gap = torch.minimum(gap, (best.values[:, 0] - best.values[:, 1]).cpu())
        ids = torch.cat([ids, best.indices[:, :1]], 1)
    return ids[:, prompt:], gap


def per_row(values: torch.Tensor, rows: int) -> torch.Tensor:
    return values.reshape(rows, -1).amin(-1).cpu()


def robust_rows(model, ids, new_tokens, policy, nulls, margins: Margins) -> torch.Tensor:
    """(B) bool: whether no discrete choice over prompt and continuation is closer than `margins`."""
    rows = ids.shape[0]
    top_k = model.config.num_experts_per_tok
    with record_router_logits(model) as logits:
        _, gap = greedy(model, ids, new_tokens)
        good = gap >= margins.token_gap
        for layer in logits:
            cut = bh.cut_gap(layer, torch.full(layer.shape[:1], top_k, device=layer.device))
            good &= per_row(cut, rows) >= margins.cut_gap
    if policy is not None:
        with bh.patch(model, policy, nulls) as routing:
            _, gap = greedy(model, ids, new_tokens)
            good &= gap >= margins.token_gap
            for layer in routing:
                good &= per_row(layer.cut_gap, rows) >= margins.cut_gap
                good &= per_row(layer.count_margin, rows) >= margins.count_margin
    return good


def file_digests(directory: pathlib.Path) -> dict[str, str]:
    names = ["config.json"]
    index = directory / "model.safetensors.index.json"
    if index.exists():
        names += [index.name, *sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    else:
        names.append("model.safetensors")
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names}


@torch.no_grad()
def capture(
    directory: pathlib.Path,
    candidates: torch.Tensor,
    *,
    rows: int,
    new_tokens: int,
    policy: bh.BhPolicy | None = None,
    nulls_file: pathlib.Path | None = None,
    margins: Margins = Margins(),
    device: str = "cpu",
) -> tuple[dict, dict]:
    """(C,S) candidate prompts -> (tensors, metadata) over the first `rows` robust ones. Raises if there are too few."""
    model = load_model(directory, device)
    layers = len(model.model.layers)
    nulls = None
    if policy is not None:
        tables = {k: v.to(device) for k, v in load_file(nulls_file).items()} if policy.null == "tabulated" else None
        nulls = bh.layer_nulls(policy, layers, tables)
    candidates = candidates.to(device)
    good = robust_rows(model, candidates, new_tokens, policy, nulls, margins)
    if int(good.sum()) < rows:
        raise RuntimeError(
            f"{directory}: {int(good.sum())} of {len(good)} prompts keep every choice beyond {margins}, "
            f"{rows} are needed"
        )
    ids = candidates[good.to(device)][:rows]

    with record_router_logits(model) as logits:
        native = model(input_ids=ids, use_cache=False, output_hidden_states=True)
        out = {f"router_logits.{l}": t for l, t in enumerate(logits)}
    if len(native.hidden_states) != layers + 1:
        raise RuntimeError(f"{len(native.hidden_states)} hidden states for {layers} layers")
    if (model.lm_head(native.hidden_states[-1]) - native.logits).abs().max() > 1e-5:
        raise RuntimeError("the last hidden state is not the output of the final norm")
    out |= {"input_ids": ids, "logits": native.logits, "greedy_ids": greedy(model, ids, new_tokens)[0]}
    out |= {f"hidden_states.{l}": t for l, t in enumerate(native.hidden_states)}

    if policy is not None:
        with bh.patch(model, policy, nulls) as routing:
            out["bh.logits"] = model(input_ids=ids, use_cache=False).logits
            for l, r in enumerate(routing):
                out |= {
                    f"bh.router_logits.{l}": r.router_logits,
                    f"bh.expert_counts.{l}": r.counts,
                    f"bh.selected_experts.{l}": r.experts,
                    f"bh.routing_weights.{l}": r.weights,
                }
            out["bh.greedy_ids"] = greedy(model, ids, new_tokens)[0]
        if not torch.equal(model(input_ids=ids, use_cache=False).logits, native.logits):
            raise RuntimeError("removing the BH patch did not restore the original logits bit for bit")

    metadata = {
        "format": "fdroute-capture-1",
        "model": directory.resolve().name,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "bh.policy": "" if policy is None else str(policy),
        "bh.nulls": nulls_file.name if policy is not None and policy.null == "tabulated" else "",
        "sha256": json.dumps(file_digests(directory), sort_keys=True),
    }
    return {k: v.contiguous().cpu().clone() for k, v in out.items()}, metadata


def report(tensors: dict, policy: bh.BhPolicy | None) -> str:
    lines = [f"  input_ids {tuple(tensors['input_ids'].shape)}, {len(tensors)} tensors"]
    if policy is not None:
        counts = [t for k, t in sorted(tensors.items()) if k.startswith("bh.expert_counts.")]
        means = ", ".join(f"{c.float().mean():.2f}" for c in counts)
        lines.append(
            f"  {policy}: mean experts {torch.cat(counts).float().mean():.2f} (by layer {means}), "
            f"max |BH - native logit| {(tensors['bh.logits'] - tensors['logits']).abs().max():.3f}"
        )
    return "\n".join(lines)


def paragraphs(model: pathlib.Path, files: list[pathlib.Path], length: int, limit: int) -> torch.Tensor:
    """Up to `limit` prompts of exactly `length` tokens, one paragraph of each file in turn."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    queues = []
    for file in files:
        encoded = (tokenizer.encode(p.strip()).ids for p in file.read_text(encoding="utf-8").split("\n\n"))
        queues.append([ids[:length] for ids in encoded if len(ids) >= length])
    turns = [queue[i] for i in range(max(map(len, queues))) for queue in queues if i < len(queue)]
    if not turns:
        raise RuntimeError(f"no paragraph of {length} tokens or more")
    return torch.tensor(turns[:limit])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ids", type=pathlib.Path, help="JSON array of equally long id arrays")
    source.add_argument("--text", type=pathlib.Path, nargs="+")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=32, help="tokens a prompt, with --text")
    parser.add_argument("--candidates", type=int, default=64, help="paragraphs to choose rows from, with --text")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--policy", type=bh.BhPolicy.parse)
    parser.add_argument("--nulls", type=pathlib.Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--min-token-gap", type=float, default=Margins.token_gap)
    parser.add_argument("--min-cut-gap", type=float, default=Margins.cut_gap)
    parser.add_argument("--min-count-margin", type=float, default=Margins.count_margin)
    args = parser.parse_args()
    if (args.policy is not None and args.policy.null == "tabulated") != (args.nulls is not None):
        parser.error("--nulls goes with a --policy of null=tabulated, and only with it")

    candidates = (
        torch.tensor(json.loads(args.ids.read_text()))
        if args.ids
        else paragraphs(args.model, args.text, args.length, args.candidates)
    )
    tensors, metadata = capture(
        args.model,
        candidates,
        rows=args.rows,
        new_tokens=args.new_tokens,
        policy=args.policy,
        nulls_file=args.nulls,
        device=args.device,
        margins=Margins(args.min_token_gap, args.min_cut_gap, args.min_count_margin),
    )
    save_file(tensors, args.out, metadata=metadata)
    print(f"{args.out}\n{report(tensors, args.policy)}", file=sys.stderr)


if __name__ == "__main__":
    main()
