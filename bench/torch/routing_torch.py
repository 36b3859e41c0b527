"""Routing policies in torch, beside fdroute's acceptance table of the same machine.

    python3 bench/torch/routing_torch.py build/bench/bench/routing/acceptance

Prints one table: ns per token for 8192 tokens of 64 experts in float32, on one thread and on all.
The policies of torch run in turns, A B C A B C; a figure is the lowest of its turns. Logits are drawn
from the distribution of bench/routing/logits.hpp.
"""

import math
import subprocess
import sys
import time

import torch

TOKENS, EXPERTS, K = 8192, 64, 8
ALPHA, MEAN, SD = 0.05, -2.8, 0.85


def router_logits(seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (TOKENS, EXPERTS)
    boost = torch.empty(shape).exponential_(1 / 0.7, generator=generator)
    boosted = torch.rand(shape, generator=generator) < 0.2
    return -2.85 + 0.75 * (torch.randn(shape, generator=generator) + boost * boosted)


def softmax(logits):
    return torch.softmax(logits, -1)


def softmax_topk(logits):
    return torch.topk(torch.softmax(logits, -1), K, dim=-1)


def sorted_p(logits):
    p = 0.5 * torch.erfc((logits - MEAN) / (SD * math.sqrt(2)))
    return torch.sort(p, dim=-1)


def benjamini_hochberg(logits):
    p, order = sorted_p(logits)
    rank = torch.arange(1, EXPERTS + 1)
    count = ((p <= ALPHA * rank / EXPERTS) * rank).amax(-1).clamp(1, K)
    weights = torch.softmax(logits, -1).gather(-1, order[:, :K])
    return order[:, :K], weights * (rank[:K] <= count[:, None]), count


def higher_criticism(logits):
    p, order = sorted_p(logits)
    share = torch.arange(1, EXPERTS + 1) / EXPERTS
    half = EXPERTS // 2
    statistic = (share - p) / torch.sqrt(p * (1 - p) / EXPERTS)
    count = (statistic[:, :half].argmax(-1) + 1).clamp(1, K)
    weights = torch.softmax(logits, -1).gather(-1, order[:, :K])
    return order[:, :K], weights * (torch.arange(1, K + 1) <= count[:, None]), count


def lowest_times(batches, turns):
    policies = [softmax, softmax_topk, benjamini_hochberg, higher_criticism]
    lowest = dict.fromkeys((policy.__name__ for policy in policies), math.inf)
    for turn in range(turns):
        for policy in policies:
            start = time.perf_counter()
            policy(batches[turn % len(batches)])
            elapsed = (time.perf_counter() - start) * 1e9 / TOKENS
            lowest[policy.__name__] = min(lowest[policy.__name__], elapsed)
    return lowest


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    batches = [router_logits(seed) for seed in range(4)]
    threads = torch.get_num_threads()
    with torch.inference_mode():
        everyone = lowest_times(batches, 40)
        torch.set_num_threads(1)
        alone = lowest_times(batches, 40)
    print(f"torch {torch.__version__}, ns per token\n")
    print(f"| | 1 thread | {threads} threads |\n|---|---:|---:|")
    for name, time_alone in alone.items():
        print(f"| torch {name} | {time_alone:.1f} | {everyone[name]:.1f} |")
    print("\nfdroute, 1 thread\n", flush=True)
    subprocess.run([sys.argv[1], "20"], check=True)


if __name__ == "__main__":
    main()
