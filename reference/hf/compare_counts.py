"""How far the counts of BH are those of a threshold, at one mean in each layer.

    python3 compare_counts.py --model ../model --text ../model/development [--mean 5] [--windows 16]

Runs windows of 512 tokens, spread over the text, through the model with its own top-k, and counts experts on its router
logits by each rule, clamped to 1 .. 16, every layer solved for the mean: one threshold a layer on log-softmax scores; BH
on the model's nulls.safetensors; the slope rule, c - sigma ln k, for some sigma. "BH, one alpha" has the mean over layers.
Prints the standard deviation of the count in a layer, averaged over layers, the share of rows (a token in a layer) with
the threshold's count, and with one within 1 of it. For BH it also prints by how much the critical score falls
from k = 1 to 16, in nats, by layer.

Run with: transformers 5.12, torch 2.14 on a CPU.
"""

from __future__ import annotations

import argparse
import math
import pathlib

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import bh_reference as bh
import capture_hf
import train_nano

WINDOW, MIN_K, MAX_K = 512, 1, 16


@torch.no_grad()
def scores_of(model, windows: torch.Tensor) -> torch.Tensor:
    """(layers, tokens, experts) log-softmax scores, descending."""
    seen = []
    with capture_hf.record_router_logits(model) as logits:
        for window in windows:
            model(input_ids=window[None], use_cache=False)
            seen.append(torch.stack(list(logits)))
    return torch.cat(seen, 1).log_softmax(-1).sort(dim=-1, descending=True).values


def solve(counts_at, mean: float, by_layer: bool, layers: int) -> torch.Tensor:
    """The (layers) values at which the counts have the mean; counts_at(values) must fall with them."""
    low, high = torch.full((layers,), -40.0).double(), torch.full((layers,), 40.0).double()
    for _ in range(60):
        middle = (low + high) / 2
        reached = counts_at(middle).double().mean(-1)
        more = (reached if by_layer else reached.mean().expand(layers)) > mean
        low, high = torch.where(more, middle, low), torch.where(more, high, middle)
    return middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--mean", type=float, default=5.0)
    parser.add_argument("--windows", type=int, default=16)
    args = parser.parse_args()

    model = capture_hf.load_model(args.model, "cpu")
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    ids = [i for text in train_nano.load_text(args.text).values() for i in tokenizer.encode(text).ids]
    windows = torch.tensor(ids[: len(ids) // WINDOW * WINDOW]).view(-1, WINDOW)
    scores = scores_of(model, windows[:: max(1, len(windows) // args.windows)][: args.windows])
    layers, tokens, experts = scores.shape
    k = torch.arange(1, experts + 1)

    def count(passes: torch.Tensor) -> torch.Tensor:
        return (passes * k).amax(-1).clamp(MIN_K, MAX_K)

    def slope(sigma: float):
        return lambda c: count(scores >= c[:, None, None] - sigma * k.double().log())

    policy = bh.BhPolicy(0.05, MIN_K, MAX_K, "log_softmax", "tabulated")
    nulls = bh.layer_nulls(policy, layers, load_file(args.model / "nulls.safetensors"))
    p = torch.stack([null(layer) for null, layer in zip(nulls, scores)])

    def by_bh(value: torch.Tensor) -> torch.Tensor:  # -ln alpha
        return count(p <= (-value)[:, None, None].exp() * k / experts)

    rules = {"threshold": (slope(0.0), True), "BH": (by_bh, True), "BH, one alpha": (by_bh, False)}
    rules |= {f"slope, sigma {sigma}": (slope(sigma), True) for sigma in (0.1, 0.3, 1.0)}
    print(f"{tokens} tokens\n{'rule':18}  {'sd':>5}  {'equal':>6}  {'within 1':>8}  mean by layer")
    expected = None
    for name, (counts_at, by_layer) in rules.items():
        value = solve(counts_at, args.mean, by_layer, layers)
        counts = counts_at(value).double()
        expected = counts if expected is None else expected
        off = (counts - expected).abs()
        shares = f"{100 * (off == 0).double().mean():5.1f}%  {100 * (off <= 1).double().mean():7.1f}%"
        means = " ".join(f"{mean:.2f}" for mean in counts.mean(-1))
        print(f"{name:18}  {counts.std(-1).mean():5.2f}  {shares}  {means}")
        if name == "BH":
            falls = [fall(null, -v.item(), experts) for null, v in zip(nulls, value)]
    print("BH's critical score falls from k = 1 to 16 by", " ".join(f"{x:.3f}" for x in falls))


def fall(null: bh.TabulatedNull, log_alpha: float, experts: int) -> float:
    """t_1 - t_16, by bisection on the null's p-value."""

    def critical(k: int) -> float:
        low, high = -40.0, 0.0
        for _ in range(60):
            middle = (low + high) / 2
            p = null(torch.tensor([middle], dtype=torch.float64)).log().item()
            low, high = (middle, high) if p > log_alpha + math.log(k / experts) else (low, middle)
        return high

    return critical(1) - critical(MAX_K)


if __name__ == "__main__":
    main()
