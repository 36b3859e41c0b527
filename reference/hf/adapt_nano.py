"""Fine-tune an OLMoE with a routing policy in the loop, so that it learns to do with the experts that it will get.

    python3 adapt_nano.py --start ../model --text ../../build/hf/text --policy bh:mean=5 --out ../../build/hf/bh5
        [--steps 1000] [--peak 1e-3] [--warm-up 100] [--dropout 0.1] [--expert-dropout 0.3] [--distill 0] [--seed 1]
        [--batch 16] [--length 1024] [--device cuda] [--compile inductor]

Writes OUT/ as save_pretrained does (bf16), with START's tokenizer: a directory that `olmoe` runs and `olmoe calibrate`
fits. Policies:

    native                   the model's own top-k
    topk:k=5                 fixed k
    random:low=1,high=9      k uniform on low..high, drawn for each sequence and step
    threshold:mean=5         experts whose log-softmax score reaches a threshold, one a layer, steered to the mean
    bh:mean=5                Benjamini-Hochberg on log-softmax scores; the null of a layer is the distribution of its
                             losers' scores, each token's trim=8 largest left out, and follows the model

topk, threshold and bh take mass_exponent (0) and mass_k (the model's own k): the selected weights times
(P_K / P_S)^mass_exponent, P_K the token's mass_k largest softmax values, P_S the selected ones, as in docs/weights.md.
threshold and bh take min_k (1) and max_k (16), and layers=true or false: a steered value for each layer, or one for
all. The first is the default of threshold, the second of bh, as in `olmoe calibrate --per-layer` and without.

Any of these is a row of critical scores t_1 .. t_m: a token gets max{ k : its k-th largest score >= t_k } experts,
then clamped. Top-k has -inf up to k, then +inf; a threshold has one value; BH has the scores at which its null's
survival function is alpha k / m. Weights are the float32 softmax over all experts, divided by the selected ones' sum
only where the model sets norm_topk_prob. Nothing flows back through the count: gradients reach the router by weights.

Null: a histogram of losers' scores, cells of 0.01 from -20 to 0, averaged over steps with weight 0.02 for the newest.
Its survival function is log-linear between the cells' edges, and beyond the edge below which 1e-4 is left an
exponential tail of the mean excess: the form that bh_reference.py reads. Steering: after each step ln alpha, or the
threshold, moves by 0.1 for each expert that the step's mean was off. Both begin where eight batches ask for.

Training is train_nano.py's: its optimiser, dropout, windows, losses and schedule, bf16 autocast on a GPU alone; the
load balance is that of the model's own top-k in all runs. --distill w replaces w of the cross entropy by
KL(start || model), the start model with its own top-k and without dropout. Runs of one seed see one sequence of
batches. OUT/adapted.json says what was run, the last 100 steps' mean experts by layer, and the digests.

Run with: transformers 5.17, torch 2.11, one GPU; transformers 5.12, torch 2.14 on a CPU with --compile none.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import hashlib
import json
import math
import pathlib
import platform
import shutil
import time
import types

import torch
import torch.nn.functional as F
import transformers
from tokenizers import Tokenizer

import bh_reference as bh
import capture_hf
import train_nano

LOWEST, CELL, TAIL = -20.0, 0.01, 1e-4
NEWEST, GAIN, FIRST_BATCHES = 0.02, 0.1, 8
MASS = ("mass_exponent", "mass_k")


@dataclasses.dataclass(frozen=True)
class Policy:
    """A policy of the docstring as values."""

    name: str
    k: int = 0
    low: int = 1
    high: int = 9
    mean: float = 0.0
    trim: int = 8
    layers: bool = False
    min_k: int = 1
    max_k: int = 16
    mass_exponent: float = 0.0
    mass_k: int = 8

    KEYS = {
        "native": (),
        "topk": ("k", *MASS),
        "random": ("low", "high"),
        "threshold": ("mean", "layers", "min_k", "max_k", *MASS),
        "bh": ("mean", "layers", "trim", "min_k", "max_k", *MASS),
    }

    @classmethod
    def parse(cls, text: str, experts: int, own_k: int) -> Policy:
        name, _, rest = text.partition(":")
        if name not in cls.KEYS:
            raise ValueError(f"policy {text!r}: there are {', '.join(cls.KEYS)}")
        kinds = {"mean": float, "mass_exponent": float, "layers": lambda word: bool(("false", "true").index(word))}
        values = {"layers": name == "threshold", "mass_k": own_k}
        for item in filter(None, rest.split(",")):
            key, _, value = item.partition("=")
            if key not in cls.KEYS[name]:
                raise ValueError(f"policy {text!r}: {name} takes {', '.join(cls.KEYS[name]) or 'no settings'}")
            values[key] = kinds.get(key, int)(value)
        if name == "native":
            values["k"] = own_k
        if name in ("native", "topk", "random"):
            values |= {"min_k": 0, "max_k": values.get("high", cls.high) if name == "random" else values.get("k", 0)}
        policy = cls(name, **values)
        steered = name in ("threshold", "bh")
        if not 0 <= policy.min_k <= policy.max_k <= experts or policy.max_k < 1 or not 0 <= policy.trim < experts:
            raise ValueError(f"policy {text!r}: counts must lie in 1 .. {experts}")
        if steered and not policy.min_k < policy.mean < policy.max_k:
            raise ValueError(f"policy {text!r}: mean must lie between {policy.min_k} and {policy.max_k}")
        if name == "random" and not 1 <= policy.low <= policy.high:
            raise ValueError(f"policy {text!r}: need 1 <= low <= high")
        if policy.mass_exponent and not (0 < policy.mass_exponent <= 1 and 1 <= policy.mass_k <= experts):
            raise ValueError(f"policy {text!r}: need 0 <= mass_exponent <= 1, 1 <= mass_k <= {experts}")
        return policy


def counts_of(ordered: torch.Tensor, critical: torch.Tensor, min_k: int, max_k: int) -> torch.Tensor:
    """max{ k : ordered[..., k - 1] >= critical[..., k - 1] }, 0 if there is none, clamped. (..., m) -> (...)."""
    k = torch.arange(1, ordered.shape[-1] + 1, device=ordered.device)
    return ((ordered >= critical) * k).amax(-1).clamp(min_k, max_k)


def select(logits: torch.Tensor, critical: torch.Tensor, policy: Policy, renormalize: bool):
    """(tokens, m) float32 logits and (sequences or 1, m) critical scores -> experts and weights (tokens, max_k),
    counts (tokens), log-softmax scores in descending order (tokens, m). Places behind the count have weight 0."""
    scores, order = F.log_softmax(logits, -1).sort(dim=-1, descending=True, stable=True)
    sequences, m = critical.shape
    with torch.no_grad():
        counts = counts_of(
            scores.detach().view(sequences, -1, m), critical[:, None], policy.min_k, policy.max_k
        ).flatten()
        kept = torch.arange(policy.max_k, device=logits.device) < counts[:, None]
    weights = scores[:, : policy.max_k].exp() * kept
    if renormalize:
        weights = weights / weights.sum(-1, keepdim=True)
    elif policy.mass_exponent:
        kept_mass = weights.sum(-1, keepdim=True)
        own_mass = scores[:, : policy.mass_k].exp().sum(-1, keepdim=True)
        weights = weights * (own_mass / kept_mass.clamp(min=torch.finfo(kept_mass.dtype).tiny)) ** policy.mass_exponent
    return order[:, : policy.max_k], weights, counts, scores.detach()


class Null:
    """Survival functions of losers' scores, one a layer, that follow the model."""

    def __init__(self, layers: int, device: str):
        cells = round(-LOWEST / CELL)
        self.edges = torch.linspace(LOWEST, 0.0, cells + 1, device=device, dtype=torch.float64)
        self.survival: torch.Tensor | None = None  # (layers, cells + 1): share of scores at or above each edge

    def update(self, losers: torch.Tensor) -> None:
        """`losers` is (layers, scores); the first update sets, later ones average."""
        cells = len(self.edges) - 1
        inside = losers.float().clamp(LOWEST, 0.0)
        mass = torch.stack([torch.histc(layer, cells, LOWEST, 0.0) for layer in inside]).double() / losers.shape[1]
        above = F.pad(mass.flip(-1).cumsum(-1).flip(-1), (0, 1))
        self.survival = above if self.survival is None else self.survival.lerp(above, NEWEST)

    def tables(self) -> torch.Tensor:
        """(layers, edges): log P(S >= edge), the tail made exponential."""
        at = (self.survival >= TAIL).sum(-1, keepdim=True) - 1  # the last edge before the tail
        level, start = self.survival.gather(-1, at), self.edges[at]
        beyond = self.edges > start
        excess = (self.survival * beyond).sum(-1, keepdim=True) * CELL / level + CELL / 2  # integral of the survival
        tail = level.log() - (self.edges - start) / excess
        return torch.where(beyond, tail, self.survival.clamp(max=1.0).log())

    def critical(self, log_p: torch.Tensor) -> torch.Tensor:
        """The scores at which the survival functions are exp(log_p): (layers, m) -> (layers, m) float64."""
        tables = self.tables()
        last = len(self.edges) - 1
        right = torch.searchsorted(-tables, -log_p).clamp(1, last)
        left = right - 1
        y0, y1 = tables.gather(-1, left), tables.gather(-1, right)
        scores = self.edges[left] + (log_p - y0) / (y1 - y0) * CELL
        return torch.where(log_p >= tables[:, :1], -math.inf, scores)


class Steering:
    """A policy's critical scores, and how they follow the model: `critical` is (layers, sequences or 1, m)."""

    def __init__(self, policy: Policy, layers: int, experts: int, batch: int, device: str, seed: int):
        self.policy, self.layers, self.experts, self.device = policy, layers, experts, device
        self.steered = policy.name in ("threshold", "bh")
        self.generator = torch.Generator(device).manual_seed(seed + 1000)
        self.null = Null(layers, device) if policy.name == "bh" else None
        self.value = torch.zeros(layers, device=device, dtype=torch.float64)  # ln alpha, or the threshold
        rows = batch if policy.name == "random" else 1
        self.critical = torch.empty(layers, rows, experts, device=device)
        if not self.steered:
            self.draw()

    def draw(self) -> None:
        """Critical scores of the next step, for a policy that follows nothing."""
        rows = self.critical.shape[1]
        if self.policy.name == "random":
            k = torch.randint(
                self.policy.low, self.policy.high + 1, (rows, 1), generator=self.generator, device=self.device
            )
        else:
            k = torch.full((1, 1), self.policy.k, device=self.device)
        beyond = torch.arange(self.experts, device=self.device) >= k
        self.critical.copy_(torch.where(beyond, math.inf, -math.inf).expand(self.layers, rows, self.experts))

    def scores_at(self, value: torch.Tensor) -> torch.Tensor:
        """(layers) values -> (layers, 1, m) critical scores."""
        if self.policy.name == "threshold":
            return value[:, None, None].expand(-1, 1, self.experts).float()
        k = torch.arange(1, self.experts + 1, device=self.device, dtype=torch.float64)
        log_p = value[:, None] + (k / self.experts).log()
        return self.null.critical(log_p)[:, None].float()

    def losers(self, ordered: torch.Tensor) -> torch.Tensor:
        return ordered[..., self.policy.trim :].flatten(1)

    def begin(self, ordered: torch.Tensor) -> None:
        """Solves the values for the mean, by bisection on descending scores (layers, tokens, m)."""
        if not self.steered:
            return
        if self.null:
            self.null.update(self.losers(ordered))
        low = torch.full_like(self.value, -30.0)
        high = torch.zeros_like(self.value)
        for _ in range(40):
            middle = (low + high) / 2
            counts = counts_of(ordered, self.scores_at(middle), self.policy.min_k, self.policy.max_k)
            # The count falls with a threshold and grows with alpha.
            more = self.off_target(counts.double().mean(-1)) < 0
            up = more == (self.policy.name == "bh")
            low, high = torch.where(up, middle, low), torch.where(up, high, middle)
        self.value.copy_((low + high) / 2)
        self.critical.copy_(self.scores_at(self.value))

    def off_target(self, mean: torch.Tensor) -> torch.Tensor:
        """Experts above the wanted mean: each layer's, or that of all layers."""
        return (mean if self.policy.layers else mean.mean().expand_as(mean)) - self.policy.mean

    def follow(self, ordered: torch.Tensor, mean: torch.Tensor) -> None:
        """After a step: what its scores (layers, tokens, m) and mean counts (layers) change."""
        if not self.steered:
            return self.draw()
        sign = 1.0 if self.policy.name == "threshold" else -1.0
        self.value += sign * GAIN * self.off_target(mean.double())
        if self.null:
            self.value.clamp_(max=-1e-3)  # alpha stays below 1
            self.null.update(self.losers(ordered))
        self.critical.copy_(self.scores_at(self.value))

    def report(self) -> dict:
        if not self.steered:
            return {}
        values = self.value.exp().tolist()
        return {"alpha" if self.null else "threshold": [float(f"{v:.6g}") for v in values]}


def route_by(model, steering: Steering) -> list:
    """Routes every layer by the policy; a forward pass appends (logits, counts, ordered scores) a layer to the list."""
    rows: list = []
    renormalize = bool(model.config.norm_topk_prob)

    def forward_for(layer: int):
        def forward(block, hidden_states):
            hidden = hidden_states.reshape(-1, hidden_states.shape[-1])
            with torch.autocast(hidden.device.type, enabled=False):
                logits = bh.gate_logits(block, hidden.float())
            experts, weights, counts, ordered = select(logits, steering.critical[layer], steering.policy, renormalize)
            rows.append((logits, counts, ordered))
            return block.experts(hidden, experts, weights).reshape(hidden_states.shape)

        return forward

    for layer, decoder in enumerate(model.model.layers):
        decoder.mlp.forward = types.MethodType(forward_for(layer), decoder.mlp)
    return rows


@torch.no_grad()
def first_scores(model, batches: list[torch.Tensor]) -> torch.Tensor:
    """Log-softmax scores of the model under its own top-k, in descending order: (layers, tokens, m)."""
    seen = []
    with capture_hf.record_router_logits(model) as logits:
        for ids in batches:
            model.eval()(input_ids=ids[:, :-1], use_cache=False)
            seen.append(F.log_softmax(torch.stack(list(logits)), -1).sort(-1, descending=True).values)
    return torch.cat(seen, 1)


def adapt(model, sampler: train_nano.Sampler, steering: Steering, args: argparse.Namespace) -> dict:
    """Trains `model` in place."""
    config = model.config
    teacher = None
    if args.distill:
        teacher = copy.deepcopy(model).eval().requires_grad_(False)

    def batch() -> torch.Tensor:
        return sampler(args.batch, args.length + 1)

    steering.begin(first_scores(model, [batch() for _ in range(FIRST_BATCHES)]))
    rows = route_by(model, steering)

    def autocast():
        device = torch.device(args.device).type
        return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")

    def taught(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), autocast():
            return teacher(input_ids=ids[:, :-1], use_cache=False).logits.float().log_softmax(-1)

    def losses(ids: torch.Tensor, target: torch.Tensor | None):
        with autocast():
            predicted = model(input_ids=ids[:, :-1], use_cache=False).logits
        layers = rows.copy()
        rows.clear()
        log_q = predicted.float().log_softmax(-1)
        entropy = F.nll_loss(log_q.flatten(0, 1), ids[:, 1:].flatten())
        loss = entropy
        if target is not None:
            kl = (target.exp() * (target - log_q)).sum(-1).mean()
            loss = (1 - args.distill) * entropy + args.distill * kl
        loss = loss + train_nano.router_loss([logits for logits, _, _ in layers], config)
        mean = torch.stack([counts.float().mean() for _, counts, _ in layers])
        return loss, entropy.detach(), mean, torch.stack([ordered for _, _, ordered in layers])

    if args.compile != "none":
        losses, taught = (torch.compile(function, backend=args.compile) for function in (losses, taught))

    torch.manual_seed(args.seed)
    optimizer = train_nano.make_optimizer(model, args.peak)
    model.train()
    begin = time.monotonic()
    entropies, means = [], []
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = train_nano.learning_rate(args.peak, step, args.warm_up, step / args.steps)
        ids = batch()
        loss, entropy, mean, ordered = losses(ids, taught(ids) if teacher is not None else None)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steering.follow(ordered, mean)
        entropies.append(entropy)
        means.append(mean)
        if step == 0 or (step + 1) % 100 == 0:
            print(
                f"step {step + 1}: {time.monotonic() - begin:.0f} s, cross entropy {entropy.item():.3f}, experts "
                f"{' '.join(f'{m:.2f}' for m in mean.tolist())} {steering.report()}",
                flush=True,
            )
    if args.steps and not math.isfinite(loss.item()):
        raise RuntimeError("training diverged")
    out = {"seconds": round(time.monotonic() - begin, 1)}
    if args.steps:
        out["train_cross_entropy"] = round(torch.stack(entropies[-100:]).mean().item(), 4)
        out["mean_experts"] = [round(m, 3) for m in torch.stack(means[-100:]).mean(0).tolist()]
    return out | steering.report()


def sha256(file: pathlib.Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--policy", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--peak", type=float, default=1e-3)
    parser.add_argument("--warm-up", type=int, default=100)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--expert-dropout", type=float, default=0.3)
    parser.add_argument("--distill", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=train_nano.BATCH)
    parser.add_argument("--length", type=int, default=train_nano.LENGTH)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", default="inductor", help="torch.compile's backend, or none")
    args = parser.parse_args()
    if not 0.0 <= args.distill <= 1.0 or args.steps < 0 or args.warm_up < 1:
        parser.error("need 0 <= distill <= 1, steps >= 0, warm-up >= 1")

    torch.set_float32_matmul_precision("high")
    model = transformers.OlmoeForCausalLM.from_pretrained(args.start, dtype=torch.float32).to(args.device)
    config = model.config
    policy = Policy.parse(args.policy, config.num_experts, config.num_experts_per_tok)
    if policy.mass_exponent and config.norm_topk_prob:
        parser.error("--policy: norm_topk_prob would undo mass_exponent")
    train_nano.with_dropout(model, args.dropout, args.expert_dropout)
    tokenizer = Tokenizer.from_file(str(args.start / "tokenizer.json"))
    sampler = train_nano.make_sampler(tokenizer, train_nano.load_text(args.text), args.device, args.seed)
    steering = Steering(policy, config.num_hidden_layers, config.num_experts, args.batch, args.device, args.seed)
    report = {
        "policy": args.policy,
        "start_sha256": sha256(args.start / "model.safetensors"),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "device": torch.cuda.get_device_name() if args.device.startswith("cuda") else args.device,
    }
    settings = "steps peak warm_up dropout expert_dropout distill seed batch length compile"
    report |= {name: getattr(args, name) for name in settings.split()}
    report |= adapt(model, sampler, steering, args)

    # The checkpoint appears whole or not at all.
    scratch = args.out.with_name(args.out.name + ".new")
    shutil.rmtree(scratch, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(scratch)
    shutil.copy(args.start / "tokenizer.json", scratch)
    report["sha256"] = sha256(scratch / "model.safetensors")
    (scratch / "adapted.json").write_text(json.dumps(report, indent=2) + "\n")
    shutil.rmtree(args.out, ignore_errors=True)
    scratch.rename(args.out)
    print(json.dumps(report, indent=2), flush=True)


if __name__ == "__main__":
    main()
