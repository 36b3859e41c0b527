"""Train the bundled nano OLMoE: a byte-level BPE tokenizer, then transformers' own OlmoeForCausalLM on one GPU.

    python3 train_nano.py --text ../../build/hf/text --held-out ../model/text --development ../model/development
        --out ../model [--steps 8000] [--minutes 5] [--dropout 0.1] [--expert-dropout 0.3] [--seed 20] [--report FILE.json]

Writes OUT/tokenizer.json, config.json, generation_config.json and model.safetensors (bf16, the tensor names that
save_pretrained writes, which are those of allenai/OLMoE-1B-7B-0924), and reports the perplexity of the saved weights
on each development slice and each held-out slice.

Tokenizer: OLMoE's pipeline (NFC, ByteLevel with its regex, BPE), 4096 ids: <|endoftext|>, <|padding|>, 256 bytes,
merges, then OLMoE's non-special added tokens for runs of 24 to 2 spaces.
Model: 64 experts, top-8 without renormalisation, hidden 128, intermediate 64, 4 layers, 4 heads, 1024 positions.
Training: sequences of 1024 tokens, 16 a step, drawn from domains with probability ~ bytes^0.7; AdamW (0.9, 0.95,
weight decay 0.1 on matrices), gradient norm 1, 200 steps of warm-up, cosine from 3e-3 to 1/20 of it; loss = cross
entropy + 0.01 load balancing (transformers' load_balancing_loss_func, averaged over layers) + 0.001 mean
logsumexp(router logits)^2; float32 weights under bf16 autocast. Ten million tokens are few for this model, so it trains
with dropout: --dropout on the embedding and on each attention and MoE output, --expert-dropout inside the experts. The
run ends after --steps or --minutes of training, whichever comes first, and the schedule follows whichever is nearer.
The last weights are saved. Held-out text plays no part before the final report.

Training registers an experts implementation, "dense", with transformers: every expert computes every token and the
routing weights, zero for the experts not selected, are multiplied in. It is the same function, costs eight times the
arithmetic, and is the faster one at this size because it is two matrix products without a sort (measured on the GPU
below: 101 steps/s compiled; grouped_mm 18 with float32 weights under autocast, 40 with bf16 weights).

Run with: transformers 5.17, torch 2.11 (CUDA 13), tokenizers 0.23, one data-centre GPU.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import re
import time

import torch
import torch.nn.functional as F
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.models.olmoe.modeling_olmoe import load_balancing_loss_func

END, PAD = "<|endoftext|>", "<|padding|>"
VOCAB, LONGEST_RUN = 4096, 24
LENGTH, BATCH = 1024, 16
WINDOW = 512


def train_tokenizer(texts: dict[str, str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    runs = [" " * n for n in range(LONGEST_RUN, 1, -1)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - len(runs),
        special_tokens=[END, PAD],
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    # Runs of spaces and document ends are tokens of their own, so BPE must not spend merges on them.
    pieces = (piece for text in texts.values() for piece in re.split(r" {2,}|" + re.escape(END), text))
    tokenizer.train_from_iterator(pieces, trainer)
    tokenizer.add_tokens([AddedToken(run, normalized=True, special=False) for run in runs])
    if tokenizer.get_vocab_size() != VOCAB:
        raise RuntimeError(f"the vocabulary has {tokenizer.get_vocab_size()} ids, not {VOCAB}")
    return tokenizer


def encode_documents(tokenizer: Tokenizer, text: str) -> torch.Tensor:
    end = tokenizer.token_to_id(END)
    encoded = tokenizer.encode_batch(text.split(f"{END}\n"))
    return torch.tensor([i for document in encoded for i in (*document.ids, end)])


class Sampler:
    """Random windows of the training text, on the device."""

    def __init__(self, streams: list[torch.Tensor], weights: list[float], device: str, seed: int):
        lengths = torch.tensor([len(s) for s in streams], device=device)
        self.tokens = torch.cat(streams).to(device)
        self.starts = lengths.cumsum(0) - lengths
        self.room = lengths - LENGTH
        self.weights = torch.tensor(weights, device=device)
        self.generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, batch: int, length: int) -> torch.Tensor:
        domain = torch.multinomial(self.weights, batch, replacement=True, generator=self.generator)
        uniform = torch.rand(batch, generator=self.generator, device=self.tokens.device, dtype=torch.float64)
        start = self.starts[domain] + (uniform * self.room[domain]).long()
        return self.tokens[start[:, None] + torch.arange(length, device=self.tokens.device)]


def load_text(directory: pathlib.Path) -> dict[str, str]:
    texts = {file.stem: file.read_text(encoding="utf-8") for file in sorted(directory.glob("*.txt"))}
    if not texts:
        raise FileNotFoundError(f"no *.txt in {directory}: run prepare_text.py")
    return texts


def make_sampler(tokenizer: Tokenizer, texts: dict[str, str], device: str, seed: int) -> Sampler:
    return Sampler(
        [encode_documents(tokenizer, t) for t in texts.values()],
        [len(t.encode()) ** 0.7 for t in texts.values()],
        device,
        seed,
    )


def dense_experts(dropout: float):
    """All experts on all tokens, weighted, in the form of transformers' experts interface."""

    def forward(self, hidden_states, top_k_index, top_k_weights):
        tokens = hidden_states.shape[0]
        weights = torch.zeros(tokens, self.num_experts, device=hidden_states.device, dtype=top_k_weights.dtype)
        weights = weights.scatter(1, top_k_index, top_k_weights)
        gate, up = (
            F.linear(hidden_states, self.gate_up_proj.flatten(0, 1)).view(tokens, self.num_experts, -1).chunk(2, -1)
        )
        inner = F.dropout(self.act_fn(gate) * up, dropout, self.training) * weights.to(gate.dtype)[..., None]
        return F.linear(inner.flatten(1), self.down_proj.permute(1, 0, 2).flatten(1)).to(hidden_states.dtype)

    return forward


def with_dropout(model, dropout: float, expert_dropout: float):
    """The model with the experts implementation "dense", and dropout wherever it trains with some."""
    ALL_EXPERTS_FUNCTIONS.register("dense", dense_experts(expert_dropout))
    model.set_experts_implementation("dense")
    branches = [model.model.embed_tokens]
    branches += [branch for layer in model.model.layers for branch in (layer.self_attn.o_proj, layer.mlp)]
    for branch in branches:
        branch.register_forward_hook(lambda module, _, output: F.dropout(output, dropout, module.training))
    return model


def make_model(tokenizer: Tokenizer, dropout: float, expert_dropout: float):
    config = transformers.OlmoeConfig(
        vocab_size=VOCAB,
        hidden_size=128,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=64,
        num_experts_per_tok=8,
        norm_topk_prob=False,
        rms_norm_eps=1e-5,
        max_position_embeddings=LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
        router_aux_loss_coef=0.01,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
    )
    return with_dropout(transformers.OlmoeForCausalLM(config), dropout, expert_dropout)


def router_loss(layers: list[torch.Tensor], config) -> torch.Tensor:
    """What training adds for the routers, from each layer's router logits (tokens, experts) in float32."""
    balance = sum(load_balancing_loss_func((l,), config.num_experts, config.num_experts_per_tok) for l in layers)
    z = torch.stack([l.logsumexp(-1).square().mean() for l in layers]).mean()
    return config.router_aux_loss_coef * balance / len(layers) + 0.001 * z


def make_optimizer(model, peak: float) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=peak,
        betas=(0.9, 0.95),
        fused=True,
    )


def learning_rate(peak: float, step: int, warm_up: int, progress: float) -> float:
    """Linear in the first `warm_up` steps, times a cosine from 1 at progress 0 to 1/20 at progress 1."""
    return peak * min(1.0, (step + 1) / warm_up) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(
    model, sampler: Sampler, dev: dict[str, torch.Tensor], steps: int, minutes: float, peak: float = 3e-3
) -> dict:
    config = model.config
    logits: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.mlp.gate.register_forward_hook(
            lambda gate, inputs, _: logits.append(
                F.linear(inputs[0].reshape(-1, config.hidden_size), gate.weight).float()
            )
        )

    def losses(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cuda", torch.bfloat16):
            predicted = model(input_ids=ids[:, :-1], use_cache=False).logits
        layers = logits.copy()
        logits.clear()
        entropy = F.cross_entropy(predicted.float().flatten(0, 1), ids[:, 1:].flatten())
        return entropy + router_loss(layers, config), entropy

    compiled = torch.compile(losses)
    optimizer = make_optimizer(model, peak)
    model.train()
    loss, _ = compiled(sampler(BATCH, LENGTH + 1))  # compile forward and backward outside the clock
    loss.backward()
    optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()

    begin, step, progress = time.monotonic(), 0, 0.0
    while progress < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(peak, step, 200, progress)
        loss, entropy = compiled(sampler(BATCH, LENGTH + 1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:  # the clock is read behind a synchronisation, so that it counts finished steps
            torch.cuda.synchronize()
            progress = max(step / steps, (time.monotonic() - begin) / (60 * minutes))
        if step % 2000 == 0:
            scores = ", ".join(f"{k} {v:.2f}" for k, v in perplexities(model, dev).items())
            model.train()
            logits.clear()
            print(f"step {step}: {time.monotonic() - begin:.0f} s, loss {entropy.item():.3f}, dev {scores}", flush=True)
    torch.cuda.synchronize()
    seconds = time.monotonic() - begin
    if not math.isfinite(loss.item()):
        raise RuntimeError("training diverged")
    return {
        "steps": step,
        "seconds": round(seconds, 1),
        "steps_per_second": round(step / seconds, 1),
        "tokens_per_step": BATCH * LENGTH,
        "train_cross_entropy": round(entropy.item(), 4),
    }


@torch.no_grad()
def perplexities(model, slices: dict[str, torch.Tensor]) -> dict[str, float]:
    """exp of the mean log-loss of every token but the first in consecutive windows of WINDOW tokens, a domain each."""
    model.eval()
    out = {}
    for domain, ids in slices.items():
        total = 0.0
        for window in ids.split(WINDOW):
            logits = model(input_ids=window[None], use_cache=False).logits[0, :-1].float()
            total += F.cross_entropy(logits, window[1:], reduction="sum").item()
        out[domain] = math.exp(total / (len(ids) - math.ceil(len(ids) / WINDOW)))
    return out


def macro(scores: dict[str, float]) -> float:
    """Geometric mean over domains: exp of the mean of the domains' mean log-losses."""
    return math.exp(sum(map(math.log, scores.values())) / len(scores))


@torch.no_grad()
def expert_loads(model, ids: torch.Tensor) -> list[list[float]]:
    """By layer: the smallest and the largest share of tokens that select an expert (balanced: top_k / experts)."""
    loads = []

    def hook(gate, inputs, _):
        chosen = (
            F.linear(inputs[0].reshape(-1, inputs[0].shape[-1]), gate.weight)
            .topk(model.config.num_experts_per_tok)
            .indices
        )
        share = chosen.flatten().bincount(minlength=model.config.num_experts) / chosen.shape[0]
        loads.append([round(share.min().item(), 4), round(share.max().item(), 4)])

    handles = [layer.mlp.gate.register_forward_hook(hook) for layer in model.model.layers]
    model(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return loads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--held-out", type=pathlib.Path, required=True)
    parser.add_argument("--development", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--expert-dropout", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--report", type=pathlib.Path)
    args = parser.parse_args()

    texts = load_text(args.text)
    begin = time.monotonic()
    tokenizer = train_tokenizer(texts)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))
    sampler = make_sampler(tokenizer, texts, "cuda", args.seed)
    dev, held_out = (
        {domain: torch.tensor(tokenizer.encode(text).ids, device="cuda") for domain, text in load_text(d).items()}
        for d in (args.development, args.held_out)
    )
    print(
        f"{len(sampler.tokens)} training tokens; {time.monotonic() - begin:.0f} s for the tokenizer and encoding",
        flush=True,
    )

    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    model = make_model(tokenizer, args.dropout, args.expert_dropout).to("cuda")
    report = {"parameters": sum(p.numel() for p in model.parameters()), "training_tokens": len(sampler.tokens)}
    report |= {"dropout": args.dropout, "expert_dropout": args.expert_dropout, "seed": args.seed}
    report |= train(model, sampler, dev, args.steps, args.minutes)
    model.to(torch.bfloat16).save_pretrained(args.out)

    # What is on disk, read as anyone would read it, in float32.
    torch.set_float32_matmul_precision("highest")
    model = (
        transformers.OlmoeForCausalLM.from_pretrained(
            args.out, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
        )
        .to("cuda")
        .eval()
    )
    report |= {
        "bytes": (args.out / "model.safetensors").stat().st_size,
        "window": WINDOW,
        "expert_load": expert_loads(model, sampler(BATCH, LENGTH)),
    }
    for part, slices in (("dev", dev), ("held_out", held_out)):
        scores = perplexities(model, slices)
        report[part] = {
            "tokens": {k: len(v) for k, v in slices.items()},
            "perplexity": {k: round(v, 3) for k, v in scores.items()},
            "macro_perplexity": round(macro(scores), 3),
        }
    print(json.dumps(report, indent=2), flush=True)
    if args.report:
        args.report.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
