"""Fit the nano OLMoE's null table: one trimmed null distribution of router scores a layer.

    python3 fit_nulls.py --model ../model --text ../../build/hf/text --out ../model/nulls.safetensors
        [--trim 8] [--windows 128] [--target-experts 5 --min-k 1 --max-k 16] [--device cuda]

Training text is run through the model with its own top-k. The score of an expert is the float32 log-softmax of its
router logit over all experts; each token's --trim largest scores are left out, so that the null describes the experts
that a token does not need. The rest, some millions of values a layer, become a survival function: a Gaussian kernel
estimate (bandwidth by Silverman's rule) on 1000 points from the 0.0001 quantile to the 0.999 quantile u, then one more
point beyond u that continues with the exponential tail whose mean excess is that of the scores above u. Only scores up
to u have kernels, and what these put above u is reflected, so that P(S >= u) is the sample's own share. Readers
interpolate log P(S >= score) linearly and extend the last segment, which therefore is that tail.

`olmoe calibrate` fits so too, but its tail begins where 1e-4 of the scores are left, and its points lie where the curve
needs them. The bundled nulls.safetensors was written by an earlier form of this script, which gave every score a kernel
and did not reflect: its p at u is larger than the sample's share. It stays, as the captures were recorded with it.

Writes layer.{l}.score and layer.{l}.log_sf (float64) with score, trim, model and tokens in __metadata__. With
--target-experts it prints on stdout, and nothing else there, the BH policy whose mean expert count on other windows of
the training text is nearest (alpha to two significant digits, routing executed in every layer).

Run with: torch 2.11, transformers 5.17, scipy.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import sys

import torch
from safetensors.torch import save_file
from scipy.stats import norm as gaussian
from tokenizers import Tokenizer

import bh_reference as bh
import capture_hf
import train_nano

WINDOW, POINTS, TAIL = 512, 1000, 1e-3


@torch.no_grad()
def collect(model, windows: torch.Tensor, trim: int) -> list[torch.Tensor]:
    """By layer: the log-softmax scores of all experts but each token's `trim` best, flat, on the CPU."""
    kept = [[] for _ in model.model.layers]
    with capture_hf.record_router_logits(model) as logits:
        for batch in windows.split(8):
            model(input_ids=batch, use_cache=False)
            for layer, values in enumerate(logits):
                kept[layer].append(bh.scores(values, "log_softmax").sort(-1).values[:, : values.shape[-1] - trim].cpu())
    return [torch.cat(layer).flatten().double() for layer in kept]


def fit(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of one layer -> (score, log_sf), both ascending in score, 1001 points."""
    ordered = values.sort().values
    count = len(ordered)
    low, threshold = ordered[int(1e-4 * count)].item(), ordered[int((1 - TAIL) * count)].item()
    spread = min(ordered.std().item(), (ordered[3 * count // 4] - ordered[count // 4]).item() / 1.349)
    bandwidth = 0.9 * spread * count**-0.2
    # The kernel estimate on a lattice finer than the bandwidth: each value is moved by at most a tenth of it.
    cell = bandwidth / 5
    origin = ordered[0].item() - cell / 2
    above = ordered[ordered > threshold]
    body = ordered[: count - len(above)]
    mass = torch.bincount(((body - origin) / cell).long()).double() / count
    centre = origin + cell * (torch.arange(len(mass)) + 0.5)

    def kernels(score: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(gaussian.sf((score - centre) / bandwidth)).dot(mass)

    grid = torch.linspace(low, threshold, POINTS, dtype=torch.float64)
    survival = len(above) / count + torch.stack([kernels(g) - kernels(2 * threshold - g) for g in grid])
    log_sf = survival.clamp(max=1.0).log()
    excess = (above - threshold).mean().item()
    return torch.cat([grid, torch.tensor([threshold + excess])]), torch.cat([log_sf, log_sf[-1:] - 1.0])


@torch.no_grad()
def mean_experts(model, windows: torch.Tensor, policy: bh.BhPolicy, tables: dict) -> float:
    counts = []
    with bh.patch(model, policy, bh.layer_nulls(policy, len(model.model.layers), tables)) as routing:
        for batch in windows.split(8):
            model(input_ids=batch, use_cache=False)
            counts += [layer.counts.float().mean() for layer in routing]
    return torch.stack(counts).mean().item()


def calibrate(model, windows, tables, target: float, min_k: int, max_k: int) -> bh.BhPolicy:
    """Bisection on log alpha, then two significant digits."""

    def policy(alpha: float) -> bh.BhPolicy:
        return bh.BhPolicy(alpha, min_k, max_k, "log_softmax", "tabulated")

    low, high = math.log(1e-6), math.log(0.999)
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if mean_experts(model, windows, policy(math.exp(middle)), tables) < target else (low, middle)
        )
    chosen = policy(float(f"{math.exp((low + high) / 2):.2g}"))
    print(f"{chosen}: mean experts {mean_experts(model, windows, chosen, tables):.3f}", file=sys.stderr)
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--trim", type=int, default=8)
    parser.add_argument("--windows", type=int, default=128, help=f"windows of {WINDOW} training tokens")
    parser.add_argument("--target-experts", type=float)
    parser.add_argument("--min-k", type=int, default=1)
    parser.add_argument("--max-k", type=int, default=16)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()

    model = capture_hf.load_model(args.model, args.device)
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    sampler = train_nano.make_sampler(tokenizer, train_nano.load_text(args.text), args.device, args.seed)
    tables = {}
    for layer, values in enumerate(collect(model, sampler(args.windows, WINDOW), args.trim)):
        score, log_sf = fit(values)
        bh.TabulatedNull(score, log_sf)  # validates the table as a reader would
        tables |= {f"layer.{layer}.score": score, f"layer.{layer}.log_sf": log_sf}
        at = bh.TabulatedNull(score, log_sf)(values.median().reshape(1))
        print(
            f"layer {layer}: {len(values)} scores in [{values.min():.2f}, {values.max():.2f}], P(S >= median) = "
            f"{at.item():.4f}, tail mean excess {(score[-1] - score[-2]).item():.4f} above {score[-2].item():.3f}",
            file=sys.stderr,
        )
    metadata = {
        "score": "log_softmax",
        "trim": str(args.trim),
        "model": args.model.resolve().name,
        "tokens": str(args.windows * WINDOW),
    }
    save_file(tables, args.out, metadata=metadata)
    if args.target_experts is not None:
        tables = {name: table.to(args.device) for name, table in tables.items()}
        print(calibrate(model, sampler(16, WINDOW), tables, args.target_experts, args.min_k, args.max_k))


if __name__ == "__main__":
    main()
