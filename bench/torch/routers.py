"""The routers of bench/peers in torch: transformers' formulas, and two rules by a normal null.

`model` has the numbers that `Numbers` in bench/peers/models.hpp describes, by their names. Where
transformers takes more steps than a result needs (groups of a model that has one group, llama4's
weights in dense form, experts in order), these are left out.
"""

import math

import torch


def router(model, bias):
    """A function of logits (tokens, experts) that returns ids and weights, (tokens, top_k) each, and
    counts (tokens), or None if they are all top_k. `bias` has shape (experts), or is None."""
    k, scale, experts = model["top_k"], model["scale"], model["experts"]

    def of_selected(logits):
        values, ids = torch.topk(logits, k, dim=-1)
        return ids, torch.sigmoid(values) if model["sigmoid"] else torch.softmax(values, -1), None

    def only_kept_groups(keys):
        by_group = keys.view(-1, model["groups"], experts // model["groups"])
        if model["best"] == 1:
            scores = by_group.amax(-1)
        else:
            scores = by_group.topk(model["best"], dim=-1).values.sum(-1)
        kept = torch.topk(scores, model["kept"], dim=-1, sorted=False).indices
        mask = torch.zeros_like(scores).scatter_(1, kept, 1)
        everyone = mask.unsqueeze(-1).expand_as(by_group).reshape(-1, experts)
        return keys.masked_fill(~everyone.bool(), -math.inf)

    def of_all(logits):
        values = torch.sigmoid(logits) if model["sigmoid"] else torch.softmax(logits, -1)
        keys = values if bias is None else values + bias
        if model["groups"] > 1:
            keys = only_kept_groups(keys)
        best, ids = torch.topk(keys, k, dim=-1, sorted=False)
        weights = best if bias is None else values.gather(1, ids)
        if model["normalize"]:
            total = weights.sum(-1, keepdim=True)
            weights = weights / (total + 1e-20 if model["sigmoid"] else total)
        return ids, weights * scale if scale != 1 else weights, None

    rank = torch.arange(1, experts + 1)
    share = rank / experts

    def of_rule(logits):
        p = 0.5 * torch.erfc((logits - model["mean"]) / (model["sd"] * math.sqrt(2)))
        p, order = torch.sort(p, dim=-1)
        if model["rule"] == "BH":
            count = ((p <= model["alpha"] * share) * rank).amax(-1)
        else:
            half = experts // 2
            deviation = (share - p)[:, :half] / torch.sqrt(share * (1 - share))[:half]
            largest, at = deviation.max(-1)
            count = torch.where(largest > 0, at + 1, 0)
        count = count.clamp(1, k)
        ids = order[:, :k]
        weights = torch.softmax(logits, -1).gather(-1, ids)
        return ids, weights * (rank[:k] <= count[:, None]), count

    if model["rule"] != "top-k":
        return of_rule
    return of_selected if model["by_logit"] else of_all
