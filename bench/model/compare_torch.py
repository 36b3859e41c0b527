#!/usr/bin/env python3
"""Times a checkpoint in torch/transformers on the CPU beside bench_model, on the same machine.

    compare_torch.py --bench PATH/bench_model --model DIR [--threads 1,8] [--json FILE]

DIR is a checkpoint; where it does not exist, bench_model makes a random one of the shape in
--config, bfloat16, as `olmoe make-random` does. Decode is one
token at a time after a prompt of 16, prefill a prompt of 512 with the logits of the last token.
The best of --repeats runs counts, on either side. Prints a table, and writes the same as JSON.
"""

import argparse
import gc
import json
import os
import subprocess
import tempfile
import time


def time_torch(model, config, threads, decode_tokens, repeats):
    """Seconds per token of decode and of prefill."""
    import torch

    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(3)

    def ids(count):
        return torch.randint(0, config.vocab_size, (1, count), generator=generator)

    decode, prefill = [], []
    with torch.inference_mode():
        for _ in range(repeats):
            start = time.perf_counter()
            model(ids(512), use_cache=True, logits_to_keep=1)
            prefill.append((time.perf_counter() - start) / 512)
            cache = model(ids(16), use_cache=True, logits_to_keep=1).past_key_values
            start = time.perf_counter()
            for _ in range(decode_tokens):
                cache = model(ids(1), past_key_values=cache, use_cache=True).past_key_values
            decode.append((time.perf_counter() - start) / decode_tokens)
    return min(decode), min(prefill)


def time_ours(bench, config, model, threads, decode_tokens, repeats, compute):
    """Rows of bench_model: tokens per second by (part, threads), and what it printed."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [bench, "--make", config, "--model", model, "--compute", compute,
                   "--threads", ",".join(map(str, threads)), "--parts", "decode,prefill", "--contexts", "16", "--prompts", "512",
                   "--policies", "topk:k=8 topk:k=4", "--tokens", str(decode_tokens),
                   "--repeats", str(repeats), "--json", file.name]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows = json.load(file)
    return rows, printed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", required=True, help="a built bench_model")
    parser.add_argument("--model", required=True, help="checkpoint; made if it does not exist")
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--config", default=os.path.join(here, "olmoe-1b-7b.json"))
    all_threads = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", default=f"1,{all_threads}", help="default: 1 and all")
    parser.add_argument("--computes", default="f32",
                        help="of ours: f32, or f32,bf16 where the processor has AVX512_BF16 or AMX")
    parser.add_argument("--dtypes", default="bfloat16,float32", help="of torch; ours is the file's")
    parser.add_argument("--tokens", type=int, default=8, help="tokens of a decode run")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", help="file to write")
    args = parser.parse_args()
    threads = [int(count) for count in args.threads.split(",")]

    import torch
    import transformers
    from transformers import OlmoeConfig, OlmoeForCausalLM

    rows, ours = [], {}
    for compute in args.computes.split(","):
        ours[compute], printed = time_ours(args.bench, args.config, args.model, threads,
                                           args.tokens, args.repeats, compute)
        print(printed)
        for row in ours[compute]:
            if row["part"] == "decode" and not row["what"].startswith("topk:k=8 "):
                continue
            rows.append({"engine": f"fdroute, products in {compute}", "part": row["part"],
                         "threads": row["threads"], "tokens_per_second": row["tokens_per_second"]})

    config = OlmoeConfig.from_pretrained(args.model)
    for dtype in args.dtypes.split(","):
        model = OlmoeForCausalLM.from_pretrained(args.model, dtype=getattr(torch, dtype)).eval()
        for count in threads:
            decode, prefill = time_torch(model, config, count, args.tokens, args.repeats)
            for part, seconds in (("decode", decode), ("prefill", prefill)):
                rows.append({"engine": f"torch {dtype}", "part": part, "threads": count,
                             "tokens_per_second": 1.0 / seconds})
        del model
        gc.collect()

    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{'engine':26} {'part':8} {'threads':>7} {'tokens/s':>9}")
    for row in sorted(rows, key=lambda r: (r["part"], r["threads"], r["engine"])):
        print(f"{row['engine']:26} {row['part']:8} {row['threads']:7d} "
              f"{row['tokens_per_second']:9.2f}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"torch": torch.__version__, "transformers": transformers.__version__,
                       "rows": rows, "bench_model": ours}, file, indent=1)


if __name__ == "__main__":
    main()
