"""Record what transformers computes in bfloat16, beside what it computes in float32, on a part of a capture's input.

    python3 capture_bf16.py --model DIR --capture FILE.safetensors --out FILE.safetensors [--rows 2] [--length 16]

The input is the first --length tokens of the first --rows rows of the capture's input_ids. Both runs are on the CPU with
eager attention and transformers' eager experts, without a KV cache; that in float32 must repeat the capture's logits.
One safetensors file comes out (B rows of S tokens, V vocabulary):

    input_ids (B,S) i64      logits (B,S,V) bf16, of the model in bfloat16      f32.logits (B,S,V) f32

`__metadata__` (strings): format, model, transformers, torch, and sha256 as in a capture of capture_hf.py.

Run with: transformers 5.17, torch 2.11.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import torch
import transformers
from safetensors.torch import load_file, save_file

import capture_hf


def logits_of(model: pathlib.Path, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    logits = capture_hf.load_model(model, dtype=dtype)(input_ids=ids, use_cache=False).logits
    if logits.dtype != dtype:
        raise RuntimeError(f"a model in {dtype} gave logits in {logits.dtype}")
    return logits.contiguous()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--capture", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=16)
    args = parser.parse_args()

    captured = load_file(args.capture)
    ids = captured["input_ids"][: args.rows, : args.length].contiguous()
    exact = logits_of(args.model, ids, torch.float32)
    apart = (exact - captured["logits"][: args.rows, : args.length]).abs().max().item()
    if apart > 1e-4:
        raise RuntimeError(f"{args.capture}: its logits and those computed here are {apart} apart")
    rounded = logits_of(args.model, ids, torch.bfloat16)

    metadata = {
        "format": "fdroute-capture-bf16-1",
        "model": args.model.resolve().name,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "sha256": json.dumps(capture_hf.file_digests(args.model), sort_keys=True),
    }
    save_file({"input_ids": ids, "logits": rounded, "f32.logits": exact}, args.out, metadata=metadata)
    difference = rounded.float() - exact
    agree = (rounded.argmax(-1) == exact.argmax(-1)).sum().item()
    print(
        f"{args.out}: bfloat16 - float32: max {difference.abs().max():.4f}, rms {difference.square().mean().sqrt():.5f}; "
        f"argmax agrees at {agree} of {ids.numel()} tokens; logits' rms {exact.square().mean().sqrt():.3f}"
    )


if __name__ == "__main__":
    main()
