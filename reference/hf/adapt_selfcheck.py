"""Check adapt_nano.py: what it selects beside bh_reference.py, its steering, and that no step changes no weight.

    python3 adapt_selfcheck.py

Run with: transformers 5.12, torch 2.14 on a CPU.
"""

import pathlib
import subprocess
import sys
import tempfile

import torch

import adapt_nano
import bh_reference as bh

LAYERS, TOKENS, EXPERTS = 2, 1024, 64
HERE = pathlib.Path(__file__).resolve().parent


def logits_at(drift: float, generator: torch.Generator) -> torch.Tensor:
    """(layers, tokens, experts): a few experts stand out, more in the second layer and as `drift` grows."""
    noise = torch.randn(LAYERS, TOKENS, EXPERTS, generator=generator)
    share = torch.tensor([0.06, 0.12])[:, None, None]
    chosen = torch.rand(LAYERS, TOKENS, EXPERTS, generator=generator) < share
    return noise + (2.5 + drift) * chosen


def ordered_scores(logits: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(-1).sort(dim=-1, descending=True).values


def steering_for(text: str) -> adapt_nano.Steering:
    policy = adapt_nano.Policy.parse(text, EXPERTS, 8)
    return adapt_nano.Steering(policy, LAYERS, EXPERTS, 4, "cpu", 1)


def check_bh() -> None:
    """In the loop, BH gives the counts, experts and weights of bh_reference.py with the null as a table."""
    generator = torch.Generator().manual_seed(0)
    for text in ("bh:mean=5", "bh:mean=3,min_k=0,max_k=64", "bh:mean=9,trim=0,max_k=12,layers=true"):
        steering = steering_for(text)
        logits = logits_at(0.0, generator)
        steering.begin(ordered_scores(logits))
        for drift in (0.0, 0.3):
            logits = logits_at(drift, generator)
            steering.follow(ordered_scores(logits), torch.tensor([6.0, 4.0]))
        tables = steering.null.tables()
        for layer in range(LAYERS):
            policy = bh.BhPolicy(
                steering.value[layer].exp().item(),
                steering.policy.min_k,
                steering.policy.max_k,
                "log_softmax",
                "tabulated",
            )
            expected = bh.route(logits[layer], policy, bh.TabulatedNull(steering.null.edges, tables[layer]), False)
            experts, weights, counts, _ = adapt_nano.select(
                logits[layer], steering.critical[layer], steering.policy, False
            )
            sure = expected.count_margin > 1e-5  # float32 critical scores
            assert sure.float().mean() > 0.98, (text, sure.float().mean())
            assert expected.counts.unique().numel() > 4, (text, expected.counts.unique())
            assert torch.equal(counts[sure].int(), expected.counts[sure])
            kept = expected.experts[sure] >= 0
            assert torch.equal(experts[sure][kept].int(), expected.experts[sure][kept])
            assert torch.allclose(weights[sure], expected.weights[sure], atol=1e-6)


def check_null() -> None:
    """The null is the losers' distribution, averaged over updates; beyond its sample it goes on exponentially."""
    steering = steering_for("bh:mean=5,trim=3")
    steps = [ordered_scores(logits_at(drift, torch.Generator().manual_seed(3))) for drift in (0.0, 2.0)]
    steering.begin(steps[0])
    steering.follow(steps[1], torch.tensor([5.0, 5.0]))
    edges, tables = steering.null.edges, steering.null.tables()
    for at in (1250, 1300, 1400):  # -7.5, -7, -6
        shares = [(step[:, :, 3:] >= edges[at]).double().mean((1, 2)) for step in steps]
        average = shares[0] + adapt_nano.NEWEST * (shares[1] - shares[0])
        assert ((average > 0.01) & (average < 0.99)).all()
        assert torch.allclose(tables[:, at].exp(), average, atol=1e-4)  # a score in float32 may change its cell

    null = adapt_nano.Null(1, "cpu")
    uniform = torch.rand(1, 500_000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    null.update(-8 - 0.3 * uniform.log())
    p = torch.tensor([[0.3, 1e-2, 1e-3, 1e-6, 1e-8]]).double()
    assert torch.allclose(null.critical(p.log()), -8 - 0.3 * p.log(), atol=0.3)
    assert torch.allclose(null.critical(p.log())[:, :3], -8 - 0.3 * p.log()[:, :3], atol=0.03)
    assert null.critical(torch.zeros(1, 1).double()).item() == -float("inf")


def check_fixed() -> None:
    """Top-k is softmax's k largest; random gives each sequence a k of its own, of the whole range."""
    logits = logits_at(0.0, torch.Generator().manual_seed(1))[0]
    steering = steering_for("topk:k=5")
    experts, weights, counts, _ = adapt_nano.select(logits, steering.critical[0], steering.policy, True)
    best = logits.softmax(-1).topk(5)
    assert torch.equal(experts, best.indices) and (counts == 5).all()
    assert torch.allclose(weights, best.values / best.values.sum(-1, keepdim=True), atol=1e-6)
    steering, seen, differ = steering_for("random:low=2,high=4"), set(), 0
    for _ in range(20):
        counts = adapt_nano.select(logits, steering.critical[0], steering.policy, False)[2].view(4, -1)
        assert (counts == counts[:, :1]).all()
        seen |= set(counts.flatten().tolist())
        differ += counts[:, 0].unique().numel() > 1
        steering.follow(None, None)
    assert seen == {2, 3, 4} and differ > 10


def check_mass() -> None:
    """Weights times (P_K / P_S)^g, by hand; as they were where the K best are selected, or g is 0."""
    logits = logits_at(0.0, torch.Generator().manual_seed(5))[0]
    shares = logits.softmax(-1).sort(dim=-1, descending=True).values
    for text, k, own_k, exponent in (
        ("topk:k=3,mass_exponent=0.5", 3, 8, 0.5),
        ("topk:k=9,mass_exponent=0.25,mass_k=4", 9, 4, 0.25),
        ("topk:k=8,mass_exponent=0.7", 8, 8, 0.0),
        ("topk:k=3", 3, 8, 0.0),
    ):
        steering = steering_for(text)
        weights = adapt_nano.select(logits, steering.critical[0], steering.policy, False)[1]
        for token in range(0, TOKENS, 100):
            lost = sum(shares[token, :own_k].tolist()) / sum(shares[token, :k].tolist())
            for rank in range(k):
                assert abs(weights[token, rank] - shares[token, rank] * lost**exponent) < 1e-6, (text, token, rank)
    steering = steering_for("bh:mean=5,mass_exponent=1")
    steering.begin(ordered_scores(logits_at(0.0, torch.Generator().manual_seed(6))))
    _, weights, counts, _ = adapt_nano.select(logits, steering.critical[0], steering.policy, False)
    assert counts.unique().numel() > 4
    assert torch.allclose(weights.sum(-1), shares[:, :8].sum(-1), atol=1e-6)  # all of it given back
    for wrong in ("topk:k=3,mass_exponent=-1", "bh:mean=5,mass_exponent=2", "random:mass_exponent=0.5"):
        try:
            steering_for(wrong)
        except ValueError:
            continue
        raise AssertionError(f"{wrong} was accepted")


def check_steering() -> None:
    """The mean of all layers, or each layer's, is at the target soon after scores have drifted."""
    generator = torch.Generator().manual_seed(2)
    for text in ("threshold:mean=5", "threshold:mean=4,layers=false", "bh:mean=5", "bh:mean=6,layers=true"):
        steering = steering_for(text)
        policy = steering.policy
        steering.begin(ordered_scores(logits_at(0.0, generator)))
        means = []
        for step in range(100):
            ordered = ordered_scores(logits_at(min(step / 50, 1.0), generator))
            counts = adapt_nano.counts_of(ordered, steering.critical, policy.min_k, policy.max_k)
            means.append(counts.float().mean(-1))
            steering.follow(ordered, means[-1])
        late = torch.stack(means[70:]).mean(0)
        off = steering.off_target(late).abs().max()
        assert off < 0.1 and torch.stack(means[:5]).mean() < 9, (text, late)
        if not policy.layers:
            assert (late[0] - late[1]).abs() > 0.2  # the layers differ, so one value for both is another policy


def check_no_step() -> None:
    """With no step, the checkpoint written is the one read."""
    model = HERE.parent / "model"
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out"
        command = [sys.executable, HERE / "adapt_nano.py", "--start", model, "--text", model / "text", "--out", out]
        command += ["--policy", "native", "--steps", "0", "--batch", "1", "--length", "16", "--device", "cpu"]
        subprocess.run([*map(str, command), "--compile", "none"], check=True, capture_output=True)
        for file in ("model.safetensors", "tokenizer.json"):
            assert (out / file).read_bytes() == (model / file).read_bytes()


def main() -> None:
    with torch.no_grad():
        for check in (check_bh, check_null, check_fixed, check_mass, check_steering, check_no_step):
            check()
            print(f"{check.__name__}: ok")


if __name__ == "__main__":
    main()
