#!/usr/bin/env python3
"""The routers of well-known models in fdroute, in ggml's operations and in torch: first whether they
agree, then their times, by turns in one run.

    python3 bench/peers/peers.py --library libpeers.so [--json FILE] [--turns N] [--threads N]
        [--rows N] [--compile] [--check] [--only PART_OF_A_NAME]

`./bootstrap bench peers` compiles the library and runs this in Debian unstable.

Every router is computed here, too, from its definition in double. A row is compared where no two
numbers that decide what is selected are within 1e-6 of each other (of BH and HC: 1e-4; torch has
their p-values in float). There all must select the definition's experts, with weights within a
relative 1e-5; else the exit status is 1. `--check` ends after that.

Then all are timed by turns, in a new order every turn: some milliseconds each, after a call that
is not timed. A figure is the lowest of the turns, in ns per token, and `times` is a peer's over
fdroute's. With one thread the time is what its processor spent on it. fdroute reads the rows where
they are. Of ggml, a graph is made before; what is timed is computing it alone, with logits in its
own memory. At one token it has 64 routers, as a model's graph has one a layer. `ggml` sorts rows,
as llama.cpp does, `ggml_top_k` takes the largest of them by the operation of that name. torch is
called from Python, in inference mode (bench/torch/routers.py).
"""

import argparse
import ctypes
import json
import math
import pathlib
import random
import sys
import time

import numpy as np

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "torch"))  # for routers.py

LAYERS = 64  # routers in ggml's graph of one token each
SECONDS = 0.004  # a turn, or one call
AIMS = {"ggml": {1: 5, 512: 20, 8192: 20}, "torch": {512: 15, 8192: 15}}  # of models, in times, by tokens a call

# ---- What is right ----


def groups_kept(keys, model):
    """Keys with those outside of the kept groups at -inf, and the gap between the last group that
    is kept and the next."""
    if model["groups"] == 1:
        return keys, np.full(len(keys), np.inf)
    by_group = keys.reshape(len(keys), model["groups"], -1)
    scores = np.sort(by_group, -1)[..., -model["best"] :].sum(-1)
    order = np.argsort(-scores, -1)
    ranked = np.take_along_axis(scores, order, -1)
    kept = np.zeros(scores.shape, bool)
    np.put_along_axis(kept, order[:, : model["kept"]], True, -1)
    gap = ranked[:, model["kept"] - 1] - ranked[:, model["kept"]]
    return np.where(kept[..., None], by_group, -np.inf).reshape(keys.shape), gap


def count_of_rule(p, model):
    """How many the rule selects by sorted p-values, and whether no comparison is close."""
    experts, rows = model["experts"], np.arange(len(p))
    share = np.arange(1, experts + 1) / experts
    if model["rule"] == "BH":
        passes = p <= model["alpha"] * share
        count = np.where(passes.any(-1), experts - passes[:, ::-1].argmax(-1), 0)
        close = np.abs(p / (model["alpha"] * share) - 1).min(-1)
    else:
        half = experts // 2
        statistic = (share - p)[:, :half] / np.sqrt(share * (1 - share))[:half]
        best = statistic.argmax(-1)
        largest = statistic[rows, best]
        count = np.where(largest > 0, best + 1, 0)
        second = np.sort(statistic, -1)[:, -2]
        close = np.minimum(np.abs(largest), np.where(largest > 0, largest - second, np.inf))
    return np.clip(count, 1, model["top_k"]), close > 1e-4


def define(logits, bias, model):
    """(rows, top_k) ids and weights, (rows) counts, and which rows they are certain for."""
    x = logits.astype(np.float64)
    exps = np.exp(x - x.max(-1, keepdims=True))
    softmax = exps / exps.sum(-1, keepdims=True)
    values = 1 / (1 + np.exp(-x)) if model["sigmoid"] else softmax
    keys = x if model["by_logit"] or model["rule"] != "top-k" else values
    if bias is not None:
        keys = keys + bias
    keys, gap = groups_kept(keys, model)
    order = np.argsort(-keys, -1, kind="stable")
    ranked = np.take_along_axis(keys, order, -1)
    k = model["top_k"]
    counts = np.full(len(x), k)
    certain = np.minimum(gap, ranked[:, k - 1] - ranked[:, k]) > 1e-6
    if model["rule"] != "top-k":
        z = (ranked - model["mean"]) / model["sd"] / math.sqrt(2)
        p = 0.5 * np.vectorize(math.erfc)(z)
        counts, clear = count_of_rule(p, model)
        certain &= clear & ((ranked[:, :-1] - ranked[:, 1:])[:, :k] > 1e-6).all(-1)
    ids = order[:, :k]
    weights = np.take_along_axis(values, ids, -1)
    weights[np.arange(k) >= counts[:, None]] = 0
    if model["normalize"] or (model["by_logit"] and not model["sigmoid"]):
        weights /= weights.sum(-1, keepdims=True)
    return ids, weights * model["scale"], counts, certain


def dense(ids, weights, counts, experts):
    """Weights by expert, NaN for those that are not selected: sets without an order."""
    result = np.full((len(ids), experts), np.nan)
    rows, places = np.nonzero(np.arange(ids.shape[1]) < counts[:, None])
    result[rows, ids[rows, places]] = weights[rows, places]
    return result


def disagreement(selected, defined, experts):
    """What is wrong with (ids, weights, counts), in words, or ""."""
    *right, certain = defined
    if certain.mean() < 0.97:
        return f"only {100 * certain.mean():.1f} % of the rows are certain"
    got = dense(*selected, experts)[certain]
    want = dense(*right, experts)[certain]
    others = (np.isnan(got) != np.isnan(want)).any(-1)
    if others.any():
        return f"{others.sum()} of {len(others)} rows select other experts"
    error = np.nanmax(np.abs(got - want) / want)
    return f"weights differ by {error:.1e}" if not error <= 1e-5 else ""


def require_sight(selected, defined, experts):
    """Ends if disagreement() does not see one wrong expert, or one weight that is off by 2e-5."""
    ids, weights, counts = selected
    row = np.flatnonzero(defined[-1])[-1]
    others = np.setdiff1d(np.arange(experts), ids[row])
    for array, place, value in (
        (ids, counts[row] - 1, others[0]),
        (weights, 0, weights[row, 0] * 1.00002),
    ):
        changed = array.copy()
        changed[row, place] = value
        faulty = (changed, weights, counts) if array is ids else (ids, changed, counts)
        if not disagreement(faulty, defined, experts):
            sys.exit("peers: a planted fault was not seen")


# ---- Those who are compared ----
#
# run(first, calls): the seconds of so many calls from row `first` on, and after the last row with
# the first again. select(): what they make of all rows.


class Fdroute:
    def __init__(self, library, index, model, rows, tokens, threads):
        self.library, self.index, self.shape = library, index, (rows, model["top_k"])
        self.rows, self.tokens, self.threads = rows, tokens, threads

    def run(self, first, calls):
        return self.library.peers_route(self.index, self.tokens, first, calls, self.threads)

    def select(self):
        library, index = self.library, self.index
        ids = np.ctypeslib.as_array(library.peers_ids(index), self.shape)
        weights = np.ctypeslib.as_array(library.peers_weights(index), self.shape)
        counts = np.ctypeslib.as_array(library.peers_counts(index), self.shape[:1])
        for array in (ids, weights, counts):
            array.fill(0)  # what another size of calls left there
        self.run(0, self.rows // self.tokens)
        return ids.copy(), weights.copy(), counts.copy()


class Ggml:
    def __init__(self, library, index, model, rows, tokens, threads, sorts):
        self.library, self.index, self.top_k = library, index, model["top_k"]
        routers = LAYERS if tokens == 1 else 1
        self.rows, self.tokens, self.threads = rows, tokens * routers, threads
        self.graph = library.peers_ggml_open(index, tokens, routers, sorts)
        if not self.graph:
            sys.exit(1)

    def run(self, first, calls, ids=None, weights=None):
        seconds = self.library.peers_ggml(self.graph, self.index, first, calls, self.threads, ids, weights)
        if seconds < 0:
            sys.exit(1)
        return seconds

    def select(self):
        ids = np.zeros((self.rows, self.top_k), np.int32)
        weights = np.zeros(ids.shape, np.float32)
        self.run(0, self.rows // self.tokens, ids.ctypes.data, weights.ctypes.data)
        return ids, weights, np.full(self.rows, self.top_k)


class Torch:
    def __init__(self, function, logits, model, tokens, threads):
        self.function, self.top_k, self.tokens = function, model["top_k"], tokens
        self.parts = list(logits.split(tokens))
        self.rows, self.clock = len(logits), time.thread_time if threads == 1 else time.perf_counter

    def run(self, first, calls):
        first //= self.tokens
        parts = [self.parts[i % len(self.parts)] for i in range(first, first + calls)]
        start = self.clock()
        for part in parts:
            self.function(part)
        return self.clock() - start

    def select(self):
        selected = [self.function(part) for part in self.parts]
        ids, weights, counts = (
            None if parts[0] is None else np.concatenate([part.numpy() for part in parts])
            for parts in zip(*selected, strict=True)
        )
        return ids, weights, np.full(len(ids), self.top_k) if counts is None else counts


class Timed:
    """A contestant, some milliseconds at a time: how many calls that is was found out before."""

    def __init__(self, contestant):
        self.contestant, self.ns = contestant, []
        calls, seconds = 1, contestant.run(0, 1)
        while seconds < SECONDS:
            calls *= 2
            seconds = contestant.run(0, calls)
        self.calls = max(1, round(calls * SECONDS / seconds))

    def take_turn(self):
        one = self.contestant
        first = random.randrange(one.rows // one.tokens) * one.tokens
        one.run(first, 1)
        self.ns.append(one.run(first, self.calls) * 1e9 / (self.calls * one.tokens))

    def figures(self):
        return {"ns": min(self.ns), "median": float(np.median(self.ns)), "spread": spread(self.ns)}


# ---- The run ----


def open_library(path, rows):
    library = ctypes.CDLL(path)
    floats, ints = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_int32)
    number, pointer, text = ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p
    for name, result, *arguments in (
        ("open", text, number),
        ("noise", text, ctypes.c_double),
        ("logits", floats, number),
        ("bias", floats, number),
        ("ids", ints, number),
        ("weights", floats, number),
        ("counts", ints, number),
        ("route", ctypes.c_double, number, number, number, number, number),
        ("ggml_open", pointer, number, number, number, number),
        ("ggml", ctypes.c_double, pointer, number, number, number, number, pointer, pointer),
    ):
        function = getattr(library, f"peers_{name}")
        function.restype, function.argtypes = result, arguments
    described = library.peers_open(rows)
    if described is None:
        sys.exit(1)
    return library, json.loads(described)


def spread(values):
    """The middle half over the median."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return (high - low) / middle


def contestants(library, index, model, options, routers):
    """By tokens a call, those who are compared, by name: seen to be right."""
    rows = options.rows
    logits = np.ctypeslib.as_array(library.peers_logits(index), (rows, model["experts"]))
    bias = None
    if model["biased"]:
        bias = np.ctypeslib.as_array(library.peers_bias(index), (model["experts"],))
    defined = define(logits, None if bias is None else bias.astype(np.float64), model)
    functions = {}
    if routers is not None:
        torch = routers.torch
        functions["torch"] = routers.router(model, None if bias is None else torch.from_numpy(bias))
        if options.compile:
            functions["torch.compile"] = torch.compile(functions["torch"], dynamic=True)
    for tokens in sorted({1, 512, rows}):
        those = {"fdroute": Fdroute(library, index, model, rows, tokens, options.threads)}
        if model["rule"] == "top-k":
            for name, sorts in (("ggml", True), ("ggml_top_k", False)):
                those[name] = Ggml(library, index, model, rows, tokens, options.threads, sorts)
        for name, function in functions.items():
            those[name] = Torch(function, torch.from_numpy(logits), model, tokens, options.threads)
        for name, one in those.items():
            wrong = disagreement(one.select(), defined, model["experts"])
            if wrong:
                sys.exit(f"peers: {model['name']}, {tokens} tokens a call, {name}: {wrong}")
        require_sight(those["fdroute"].select(), defined, model["experts"])
        yield tokens, those


def compare(library, about, options, routers):
    cases = []
    for index, model in enumerate(about["models"]):
        if options.only not in model["name"]:
            continue
        for tokens, those in contestants(library, index, model, options, routers):
            cases.append((model, tokens, those))
        print(f"{model['name']}: {', '.join(those)} agree", flush=True)
    if not cases:
        sys.exit(f"peers: no model has '{options.only}' in its name")
    if options.check:
        return
    timed = [(model, tokens, {name: Timed(one) for name, one in those.items()}) for model, tokens, those in cases]
    everyone = [one for *_, those in timed for one in those.values()]
    for _ in range(options.turns):
        random.shuffle(everyone)
        for one in everyone:
            one.take_turn()
    about |= {"threads": options.threads, "turns": options.turns, "peers": []}
    for model, tokens, those in timed:
        row = {key: model[key] for key in ("name", "experts", "top_k")} | {"tokens": tokens}
        row |= {name: one.figures() for name, one in those.items()}
        print(f"{row['name']:12} {tokens:5} {row['fdroute']['ns']:9.1f}", end="")
        for name in list(those)[1:]:
            row[name]["times"] = row[name]["ns"] / row["fdroute"]["ns"]
            row[name]["aim"] = AIMS.get(name, {}).get(tokens, 0) if model["rule"] == "top-k" else 0
            print(f"  {name} {row[name]['ns']:9.1f} {row[name]['times']:6.1f}", end="")
        print()
        about["peers"].append(row)
    typical = np.median([row["fdroute"]["spread"] for row in about["peers"]])
    about["noise"] = library.peers_noise(typical).decode()
    if about["noise"]:
        print(about["noise"])
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(about, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True)
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=8192, help="rows of a model, a multiple of 512")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--check", action="store_true", help="do not time")
    parser.add_argument("--only", default="", help="models with this in their name")
    options = parser.parse_args()
    if options.rows < 512 or options.rows % 512:
        parser.error("--rows must be a multiple of 512")
    library, about = open_library(options.library, options.rows)
    try:
        import routers
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        print("torch is not there: without it")
        compare(library, about, options, None)
        return
    routers.torch.set_num_threads(options.threads)
    if options.compile:
        routers.torch._dynamo.config.recompile_limit = 100  # of a function: the models share them
    about["torch"] = routers.torch.__version__
    with routers.torch.inference_mode():
        compare(library, about, options, routers)


if __name__ == "__main__":
    main()
