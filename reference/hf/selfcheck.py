"""Check bh_reference.py by itself: hand-worked BH cases, ties, tails, and the patch on both shapes of MoE block.

    python3 selfcheck.py

Needs torch only. transformers 4.45+ is not installed where this repository was made, so its block is played by the
stand-in below, which has that version's interface: `gate` a bias-free nn.Linear, `experts` a ModuleList of MLPs,
forward returning (hidden, router logits). The 5.x stand-in has a router module and packed experts and returns hidden
alone. Both hold the same weights and must agree; the real 5.x block is exercised by capture_hf.py.
Run with: torch 1.13 and torch 2.11.
"""

import math
import types

import torch
import torch.nn.functional as F
from torch import nn

import bh_reference as bh

EXPERTS, HIDDEN, INTERMEDIATE, TOP_K = 8, 16, 12, 3


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(HIDDEN, INTERMEDIATE, bias=False)
        self.up_proj = nn.Linear(HIDDEN, INTERMEDIATE, bias=False)
        self.down_proj = nn.Linear(INTERMEDIATE, HIDDEN, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class BlockOfLists(nn.Module):
    """The 4.45+ interface."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(HIDDEN, EXPERTS, bias=False)
        self.experts = nn.ModuleList(Mlp() for _ in range(EXPERTS))

    def forward(self, hidden_states):
        x = hidden_states.reshape(-1, HIDDEN)
        logits = self.gate(x)
        weights, chosen = logits.softmax(-1).topk(TOP_K)
        every = torch.stack([expert(x) for expert in self.experts], 1)
        out = (every.gather(1, chosen[..., None].expand(-1, -1, HIDDEN)) * weights[..., None]).sum(1)
        return out.reshape(hidden_states.shape), logits


class BlockOfTensors(nn.Module):
    """The 5.x interface, with the weights of a BlockOfLists."""

    def __init__(self, source: BlockOfLists):
        super().__init__()
        self.gate, self.experts = nn.Module(), nn.Module()
        self.gate.weight = source.gate.weight
        self.experts.gate_up_proj = nn.Parameter(
            torch.stack([torch.cat([e.gate_proj.weight, e.up_proj.weight]) for e in source.experts])
        )
        self.experts.down_proj = nn.Parameter(torch.stack([e.down_proj.weight for e in source.experts]))
        self.experts.act_fn = F.silu

    def forward(self, hidden_states):
        raise AssertionError("the patched block must never run its own forward")


def model_of(*blocks: nn.Module) -> nn.Module:
    model = nn.Module()
    model.config = types.SimpleNamespace(norm_topk_prob=False)
    model.model = nn.Module()
    model.model.layers = nn.ModuleList()
    for block in blocks:
        layer = nn.Module()
        layer.mlp = block
        model.model.layers.append(layer)
    return model


def check_rule() -> None:
    p = torch.tensor([[0.001, 0.008, 0.039, 0.041, 0.042, 0.060, 0.074, 0.205]], dtype=torch.float64)
    assert bh.step_up(p, 0.05).item() == 2
    assert bh.step_up(p.flip(-1), 0.05).item() == 2
    # Step-up, not step-down: the first two fail and the third passes, so all three are rejected.
    assert bh.step_up(torch.tensor([[0.03, 0.04, 0.05]], dtype=torch.float64), 0.05).item() == 3
    # Closed inequality: p(2) = alpha k / m is a rejection.
    assert bh.step_up(torch.tensor([[0.2, 0.25, 1.0, 1.0]], dtype=torch.float64), 0.5).item() == 2
    assert bh.step_up(torch.ones(1, 4, dtype=torch.float64), 0.5).item() == 0
    margin = bh.step_up_margin(torch.tensor([[0.01, 0.9, 0.9, 0.9]], dtype=torch.float64), 0.5, 0, 4).item()
    assert math.isclose(margin, (0.9 - 0.5) / 0.5)  # p(4) = 0.9 against 0.5 is the closest


def check_scores_and_nulls() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, 0.0]])
    shifted = logits + 100.0
    for kind in ("log_softmax", "zscore"):
        assert torch.allclose(bh.scores(logits, kind), bh.scores(shifted, kind), atol=1e-5)
    assert (bh.scores(torch.full((1, 4), 3.0), "zscore") == 0).all()
    assert bh.NormalNull(0.0, 1.0)(torch.tensor([12.0])).item() > 1e-40  # a survival function, not 1 - cdf
    null = bh.TabulatedNull(torch.tensor([0.0, 1.0, 3.0]).double(), torch.tensor([-0.5, -1.0, -5.0]).double())
    got = null(torch.tensor([-9.0, 0.0, 0.5, 2.0, 3.0, 5.0])).log()
    assert torch.allclose(got, torch.tensor([-0.5, -0.5, -0.75, -3.0, -5.0, -9.0]).double())


def check_ties() -> None:
    policy = bh.BhPolicy(alpha=0.05, min_k=3, max_k=3, score="logit", null="normal", mean=9.0)
    routing = bh.route(torch.tensor([[1.0, 2.0, 1.0, 2.0, 1.0]]), policy, bh.NormalNull(9.0, 1.0), False)
    assert routing.experts.tolist() == [[1, 3, 0]]
    assert routing.counts.tolist() == [3] and routing.cut_gap.item() == 0.0


def check_patch() -> None:
    torch.manual_seed(0)
    lists = [BlockOfLists() for _ in range(2)]
    for block in lists:
        block.gate.weight.data.mul_(5)
    four, five = model_of(*lists), model_of(*map(BlockOfTensors, lists))
    policy = bh.BhPolicy.parse("bh:alpha=0.3,min_k=1,max_k=5,score=zscore,null=normal,mean=-0.25,sd=0.9")
    assert bh.BhPolicy.parse(str(policy)) == policy
    nulls = bh.layer_nulls(policy, 2)
    x = torch.randn(2, 7, HIDDEN)
    before = [block(x) for block in lists]
    with bh.patch(four, policy, nulls) as of_four, bh.patch(five, policy, nulls) as of_five:
        for l in range(2):
            out, logits = four.model.layers[l].mlp(x)
            alone = five.model.layers[l].mlp(x)
            assert torch.allclose(out, alone, atol=1e-6) and torch.equal(logits, of_four[l].router_logits)
            assert torch.equal(of_four[l].experts, of_five[l].experts) and of_four[l].counts.unique().numel() > 1
            every = torch.stack([expert(x.reshape(-1, HIDDEN)) for expert in lists[l].experts], 1)
            dense = torch.zeros(14, EXPERTS)
            for t in range(14):
                for slot in range(of_four[l].counts[t]):
                    dense[t, of_four[l].experts[t, slot].long()] = of_four[l].weights[t, slot]
            assert torch.allclose((every * dense[..., None]).sum(1).reshape(x.shape), out, atol=1e-5)
    for block, (hidden, logits) in zip(lists, before):
        assert "forward" not in block.__dict__
        assert torch.equal(block(x)[0], hidden) and torch.equal(block(x)[1], logits)


@torch.no_grad()
def main() -> None:
    for check in (check_rule, check_scores_and_nulls, check_ties, check_patch):
        check()
        print(f"{check.__name__}: ok")


if __name__ == "__main__":
    main()
