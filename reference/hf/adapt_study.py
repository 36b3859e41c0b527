"""The study of adaptation: train bases, adapt each with every policy in the loop, let `olmoe` judge, collect.

    python3 adapt_study.py run --olmoe ../../build/release/reference/olmoe --text ../../build/hf/text
        --work ../../build/hf/study [--gpus 4] [--per-gpu 5] [--cores 64] [--seconds 540]
        [--steps 1000] [--arms top8,bh5] [--bases bundled] [--peaks 1e-4,3e-4] [--own]
    python3 adapt_study.py collect --work ../../build/hf/study --out adaptation.json
    python3 adapt_study.py report adaptation.json

`run` does what is left to do, for at most --seconds; run it again until it says that all is done. Every job has a log
under WORK/logs. One that fails is reported at the end, with the jobs that needed it, and stops no other.

Bases: the bundled model, and three that train_nano.py trains as that one was, by seeds 1, 2 and 3. Arms: ARMS below,
1000 steps each; on each trained base by its seed, and the first seven on the bundled model by seeds 1, 2 and 3. Peak of
the learning rate: the one of PEAKS at which the bundled model, adapted with its own top-k, has the lowest perplexity on
the development text; so the control had the choice.
Arms called _mass give the selected experts a part of the mass of the others (mass_exponent), in training and where they
are judged. In training the exponent is the one that `olmoe calibrate --fit-mass` finds for the policy on the bundled
model; where an evaluation is called _mass, it is fitted to the adapted model, on the development text.

Judge: `olmoe calibrate` fits nulls on the development text and solves there for the mean; `olmoe perplexity` runs what
it printed on the held-out text. Both with windows of 512, which do not overlap.

`report` prints, for the three trained bases (paired by base) and for the bundled model (paired by adaptation seed):
mean perplexities, and differences in percent with a 95 % interval (Student's t with 2 degrees of freedom).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE.parent / "model"
SEEDS = (1, 2, 3)
PEAKS = ["3e-4", "1e-3", "3e-3"]

# Arm: its policy in the loop, further options of adapt_nano.py.
ARMS = {
    "top8": ("native",),
    "top5": ("topk:k=5",),
    "threshold5": ("threshold:mean=5",),
    "bh5": ("bh:mean=5",),
    "bh4": ("bh:mean=4",),
    "bh6": ("bh:mean=6",),
    "random": ("random:low=1,high=9",),
    # Why does one train better than another? One difference at a time.
    "bh5_layers": ("bh:mean=5,layers=true",),
    "threshold5_one": ("threshold:mean=5,layers=false",),
    "bh5_marginal": ("bh:mean=5,trim=0",),
    "bh4_distilled": ("bh:mean=4", "--distill", "0.5"),
    "threshold4": ("threshold:mean=4",),
}
MAIN_ARMS = list(ARMS)[:7]
# On the bundled model: weights that keep their mass.
MASS_ARMS = {
    "top5_mass": ("topk:k=5,mass_exponent=0.37",),
    "threshold5_mass": ("threshold:mean=5,mass_exponent=0.24",),
    "bh5_mass": ("bh:mean=5,mass_exponent=0.31",),
    "bh6_mass": ("bh:mean=6,mass_exponent=0.24",),
}
FIRST_ARMS = list(ARMS)  # of the study without them
ARMS |= MASS_ARMS

BOUNDS = "min_k=1,max_k=16"
# Evaluation: policy string, and what else `olmoe calibrate` takes to solve its open value.
EVALUATIONS = {
    "top8": ("topk:k=8",),
    "top5": ("topk:k=5",),
    "threshold5": (f"threshold:t=?,{BOUNDS}", "--target-experts", "5", "--per-layer"),
    "bh5": (f"bh:alpha=?,{BOUNDS}", "--target-experts", "5"),
    "bh6": (f"bh:alpha=?,{BOUNDS}", "--target-experts", "6"),
    "bh4": (f"bh:alpha=?,{BOUNDS}", "--target-experts", "4"),
    "top4": ("topk:k=4",),
    "top6": ("topk:k=6",),
    "threshold4": (f"threshold:t=?,{BOUNDS}", "--target-experts", "4", "--per-layer"),
    "threshold6": (f"threshold:t=?,{BOUNDS}", "--target-experts", "6", "--per-layer"),
    "top3": ("topk:k=3",),
    "bh5_layers": (f"bh:alpha=?,{BOUNDS}", "--target-experts", "5", "--per-layer"),
    "threshold5_one": (f"threshold:t=?,{BOUNDS}", "--target-experts", "5"),
    "bh5_marginal": (f"bh:alpha=?,{BOUNDS}", "--target-experts", "5", "--trim", "0"),
}
MAIN_EVALUATIONS = list(EVALUATIONS)[:11]
FIRST_EVALUATIONS = list(EVALUATIONS)
EVALUATIONS |= {f"{name}_mass": (*EVALUATIONS[name], "--fit-mass") for name in ("top5", "threshold5", "bh5", "bh6")}

# Adapted by an arm and judged by an evaluation, beside another: what the report compares.
COMPARED = [
    (("top5", "top5"), ("top8", "top8")),
    (("threshold5", "threshold5"), ("top8", "top8")),
    (("bh5", "bh5"), ("top8", "top8")),
    (("bh6", "bh6"), ("top8", "top8")),
    (("bh4", "bh4"), ("top8", "top8")),
    (("threshold5", "threshold5"), ("top5", "top5")),
    (("bh5", "bh5"), ("top5", "top5")),
    (("bh5", "bh5"), ("threshold5", "threshold5")),
    (("bh4", "bh4"), ("threshold4", "threshold4")),
    (("bh5", "bh5"), ("base", "top8")),
    (("bh6", "bh6"), ("base", "top8")),
    # What adaptation gives, and how much of it is the steps alone.
    (("top8", "top8"), ("base", "top8")),
    (("top8", "bh5"), ("base", "bh5")),
    (("top8", "top5"), ("base", "top5")),
    (("bh5", "bh5"), ("top8", "bh5")),
    (("top5", "top5"), ("top8", "top5")),
    # What the loop contributes: one judge, several loops.
    (("threshold5", "bh5"), ("bh5", "bh5")),
    (("bh5_layers", "bh5"), ("bh5", "bh5")),
    (("threshold5_one", "bh5"), ("bh5", "bh5")),
    (("bh5_marginal", "bh5"), ("bh5", "bh5")),
    (("top5", "bh5"), ("bh5", "bh5")),
    (("bh4", "bh5"), ("bh5", "bh5")),
    (("bh6", "bh5"), ("bh5", "bh5")),
    (("random", "bh5"), ("bh5", "bh5")),
    (("bh4_distilled", "bh5"), ("bh5", "bh5")),
    # What the judge contributes: one loop, several judges.
    (("bh5", "threshold5"), ("bh5", "bh5")),
    (("bh5", "bh5_layers"), ("bh5", "bh5")),
    (("bh5", "threshold5_one"), ("bh5", "bh5")),
    (("bh5", "bh5_marginal"), ("bh5", "bh5")),
    # Weights that keep their mass, in the loop or where it is judged.
    (("bh5_mass", "bh5_mass"), ("top8", "top8")),
    (("threshold5_mass", "threshold5_mass"), ("top8", "top8")),
    (("top5_mass", "top5_mass"), ("top8", "top8")),
    (("bh6_mass", "bh6_mass"), ("top8", "top8")),
    (("bh5_mass", "bh5_mass"), ("top5_mass", "top5_mass")),
    (("bh5_mass", "bh5_mass"), ("threshold5_mass", "threshold5_mass")),
    (("bh5_mass", "bh5_mass"), ("top5", "top5")),
    (("bh5_mass", "bh5_mass"), ("bh5", "bh5")),
    (("top5_mass", "top5_mass"), ("top5", "top5")),
    (("bh6_mass", "bh6_mass"), ("bh6", "bh6")),
    (("bh5", "bh5_mass"), ("bh5", "bh5")),
    (("top5", "top5_mass"), ("top5", "top5")),
    (("bh6", "bh6_mass"), ("bh6", "bh6")),
    (("bh5", "bh5_mass"), ("top5", "top5_mass")),
]


# ---- One evaluation ----


def called(command: list, cwd: pathlib.Path | None = None) -> str:
    print("+", *command, flush=True)
    out = subprocess.run(list(map(str, command)), cwd=cwd, stdout=subprocess.PIPE, text=True, check=True).stdout
    print(out, flush=True)
    return out


def judge(args: argparse.Namespace) -> None:
    """Writes OUT, one evaluation of one model."""
    policy, *solve = EVALUATIONS[args.evaluation]
    common = ["--model", args.model, "--window", 512, "--threads", args.threads]
    nulls = []
    if solve:
        file = args.out.with_suffix(".safetensors")
        texts = ["--text", MODEL / "development", "--out", file]
        printed = called([args.olmoe, "calibrate", *common, *texts, "--policy", policy, *solve])
        policy = re.search(r"^--route '(.*)' --nulls", printed, re.M)[1]
        nulls = ["--nulls", file]
    printed = called(
        [args.olmoe, "perplexity", *common, "--stride", 512, "--text", args.text, "--route", policy, *nulls]
    )
    total = re.search(r"^total +(\d+) +(\S+) \+- (\S+) +(\S+) \+- (\S+) +(\S+)$", printed, re.M)
    macro = re.search(r"^macro +(\S+) +(\S+)$", printed, re.M)
    result = {
        "policy": policy,
        "tokens": int(total[1]),
        "nll": float(total[2]),
        "nll_error": float(total[3]),
        "perplexity": float(total[4]),
        "macro_perplexity": float(macro[2]),
        "mean_experts": float(total[6]),
    }
    args.out.with_suffix(".new").write_text(json.dumps(result))
    args.out.with_suffix(".new").rename(args.out)


# ---- The jobs ----


@dataclasses.dataclass
class Job:
    name: str
    output: pathlib.Path  # is there when the job is done
    command: Callable[[], list]  # asked for when the job starts
    needs: list[str]
    seconds: float  # it is not started with less time left
    share: float = 0.0  # of a GPU
    cores: int = 1


def start_of(work: pathlib.Path, base: str) -> pathlib.Path:
    return MODEL if base == "bundled" else work / base


def run_name(base: str, seed: int, arm: str) -> str:
    return f"{base}-seed{seed}-{arm}" if base == "bundled" else f"{base}-{arm}"


def peak_of(work: pathlib.Path) -> str:
    """Of the pilots, the best on development text."""
    judged = {file.parent.name: json.loads(file.read_text()) for file in (work / "judged").glob("pilot-*/top8.json")}
    return min(judged, key=lambda pilot: judged[pilot]["perplexity"]).removeprefix("pilot-")


def own_evaluation(arm: str) -> str:
    """What an adapted model is made for."""
    return {"random": "top5", "bh4_distilled": "bh4"}.get(arm, arm)


def is_own(arm: str, evaluation: str) -> bool:
    """Whether an adapted model is made for it, but for the exponent of the weights."""
    return own_evaluation(arm).removesuffix("_mass") == evaluation.removesuffix("_mass")


def arm_of(model: str) -> str:
    return model.rpartition("-")[2] if "-" in model else "base"


def models(work: pathlib.Path) -> dict[str, tuple[pathlib.Path, list[str]]]:
    """Name: directory and evaluations of every model that is judged on held-out text."""
    bundled = [e for e in EVALUATIONS if e in MAIN_EVALUATIONS or e not in FIRST_EVALUATIONS]
    out = {"bundled": (MODEL, list(EVALUATIONS))}
    for seed in SEEDS:
        out[f"base{seed}"] = (work / f"base{seed}", FIRST_EVALUATIONS)
        out |= {run_name(f"base{seed}", seed, arm): (None, FIRST_EVALUATIONS) for arm in FIRST_ARMS}
        out |= {run_name("bundled", seed, arm): (None, bundled) for arm in [*MAIN_ARMS, *MASS_ARMS]}
    return {name: (directory or work / "runs" / name, tests) for name, (directory, tests) in out.items()}


def jobs(args: argparse.Namespace) -> list[Job]:
    """All jobs, the more urgent first."""
    work, python = args.work, sys.executable
    size = "--steps 3 --warm-up 1 --batch 2 --length 64 --device cpu" if args.tiny else f"--steps {args.steps}"
    smoke = work / "runs" / "smoke"

    def adapt(name: str, base: str, seed: int, arm: str, peak: Callable[[], str], needs: list[str]) -> Job:
        policy, *more = ARMS[arm]

        def command() -> list:
            # What the compiler of this machine cannot do, adapt_nano.py does without it; its report says so.
            compile = "inductor" if (smoke / "adapted.json").exists() else "none"
            out = [python, HERE / "adapt_nano.py", "--start", start_of(work, base), "--text", args.text]
            out += ["--policy", policy, "--out", work / "runs" / name, "--seed", seed, "--peak", peak()]
            return out + ["--compile", compile, *size.split(), *more]

        return Job(name, work / "runs" / name / "adapted.json", command, needs, 90, 1 / args.per_gpu, 1)

    def judged(model: str, directory: pathlib.Path, evaluation: str, text: pathlib.Path, needs: list[str]) -> Job:
        out = work / "judged" / model / f"{evaluation}.json"
        command = ["nice", python, HERE / "adapt_study.py", "judge", "--olmoe", args.olmoe, "--model", directory]
        command += ["--evaluation", evaluation, "--text", text, "--out", out, "--threads", 1]
        return Job(f"{model}.{evaluation}", out, lambda: command, needs, 40)

    out = []
    for seed in [seed for seed in SEEDS if f"base{seed}" in args.bases]:
        base = work / f"base{seed}"
        command = [python, HERE / "train_nano.py", "--text", args.text, "--held-out", MODEL / "text", "--development"]
        command += [MODEL / "development", "--out", base, "--steps", 8000, "--seed", seed]
        command += ["--report", base / "report.json"]
        if args.tiny:
            command = ["sh", "-c", f"cp -r {MODEL} {base} && echo '{{\"seed\": {seed}}}' >{base}/report.json"]
        out.append(Job(base.name, base / "report.json", lambda c=command: c, [], 280, 1.0, 2))

    test = adapt("smoke", "bundled", 1, "bh5", lambda: args.peaks[0], [])
    test.command = lambda c=test.command: [*c(), "--compile", "inductor", "--steps", 5]
    out.append(test)
    for peak in args.peaks:
        name = f"pilot-{peak}"
        out.append(adapt(name, "bundled", 1, "top8", lambda p=peak: p, ["smoke?"]))
        out.append(judged(name, work / "runs" / name, "top8", MODEL / "development", [name]))
    pilots = [f"pilot-{peak}.top8" for peak in args.peaks]
    # Trained bases before the bundled model, the seven arms before the others; of evaluations, a model's own first.
    for base_seeds, arms in (
        ([(f"base{seed}", seed) for seed in SEEDS], MAIN_ARMS),
        ([(f"base{seed}", seed) for seed in SEEDS], [arm for arm in FIRST_ARMS if arm not in MAIN_ARMS]),
        ([("bundled", seed) for seed in SEEDS], [*MAIN_ARMS, *MASS_ARMS]),
    ):
        for arm in [arm for arm in arms if arm in args.arms]:
            for base, seed in [pair for pair in base_seeds if pair[0] in args.bases]:
                needs = pilots + ([] if base == "bundled" else [base])
                out.append(adapt(run_name(base, seed, arm), base, seed, arm, lambda: peak_of(work), needs))
    tests = []
    for name, (directory, evaluations) in models(work).items():
        arm = arm_of(name)
        if name.partition("-")[0] not in args.bases or arm != "base" and arm not in args.arms:
            continue
        for i, evaluation in enumerate(evaluations):
            wanted = any(is_own(arm, evaluation) for arm in args.arms) if arm == "base" else is_own(arm, evaluation)
            if args.own and not wanted or evaluation not in FIRST_EVALUATIONS and set(args.arms) <= set(FIRST_ARMS):
                continue
            job = judged(name, directory, evaluation, MODEL / "text", [] if name == "bundled" else [name])
            tests.append((evaluation not in ("top8", "top5") and not is_own(arm, evaluation), i, job))
    return out + [job for *_, job in sorted(tests, key=lambda test: test[:2])]


class Running:
    """A started job."""

    def __init__(self, job: Job, gpu: int | None, args: argparse.Namespace):
        self.job, self.gpu, self.begin = job, gpu, time.monotonic()
        is_test = "." in job.name  # the others make their folder themselves
        (job.output.parent if is_test else job.output.parent.parent).mkdir(parents=True, exist_ok=True)
        environment = dict(os.environ) | {
            "OMP_NUM_THREADS": "1" if args.tiny else "4",
            "RAYON_NUM_THREADS": "8",
            "TORCHINDUCTOR_COMPILE_THREADS": "4",
            "HF_HUB_OFFLINE": "1",
        }
        if gpu is not None and not args.tiny:
            environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
        self.log = args.work / "logs" / f"{job.name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                list(map(str, job.command())),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def run(args: argparse.Namespace) -> int:
    begin = time.monotonic()
    (args.work / "logs").mkdir(parents=True, exist_ok=True)
    waiting = jobs(args)
    names = {job.name for job in waiting}
    done = {job.name for job in waiting if job.output.exists()}
    waiting = [job for job in waiting if job.name not in done]
    failed: dict[str, str] = {}
    running: list[Running] = []
    free = [1.0] * args.gpus
    cores = args.cores
    kept = len(done)

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:6.1f} s  {text}", flush=True)

    def is_ready(job: Job) -> bool:
        # A name with "?" must be over, whether it failed or not.
        return all((n in done) or (n.endswith("?") and (n[:-1] in done or n[:-1] in failed)) for n in job.needs)

    say(f"{kept} jobs are done, {len(waiting)} are left")
    while waiting or running:
        left = args.seconds - (time.monotonic() - begin)
        for one in [one for one in running if one.process.poll() is not None]:
            running.remove(one)
            cores += one.job.cores
            if one.gpu is not None:
                free[one.gpu] += one.job.share
            took = f"{time.monotonic() - one.begin:.0f} s"
            if one.process.returncode == 0 and one.job.output.exists():
                done.add(one.job.name)
                if one.job.share or one.job.name.startswith("pilot"):
                    say(f"{one.job.name}: {took}")
            else:
                failed[one.job.name] = f"exit status {one.process.returncode}"
                last = one.log.read_text(errors="replace").strip().splitlines()[-1:]
                say(f"{one.job.name} FAILED after {took}, {one.log}: {' '.join(last)}")
        for job in [job for job in waiting if any(need in failed for need in job.needs)]:
            waiting.remove(job)
            failed[job.name] = f"needs {', '.join(need for need in job.needs if need in failed)}"
        if left <= 0:
            break
        unstarted = True
        for job in [job for job in waiting if is_ready(job) and job.seconds < left]:
            if job.cores > cores:
                break
            gpu = None
            if job.share:
                gpu = max(range(args.gpus), key=lambda g: free[g])
                if free[gpu] < job.share - 1e-6:
                    continue
                free[gpu] -= job.share
            cores -= job.cores
            waiting.remove(job)
            running.append(Running(job, gpu, args))
            unstarted = False
        if unstarted and not running:
            break
        time.sleep(0.1)
    for one in running:
        one.stop()
    unfinished = [one.job.name for one in running] + [job.name for job in waiting]
    say(f"{len(done & names)} of {len(names)} jobs are done, {len(failed)} failed, {len(unfinished)} are left")
    for name, why in failed.items():
        print(f"FAILED {name}: {why}")
    if all(f"pilot-{peak}.top8" in done for peak in args.peaks):
        print(f"peak {peak_of(args.work)}")
    return 1 if failed else 2 if unfinished else 0


# ---- What came out ----


def collect(args: argparse.Namespace) -> None:
    """Writes all that is there under WORK to OUT."""
    out = {"schema": "fdroute.adaptation.1", "pilot": {}, "bases": {}, "models": {}}
    read = lambda file: json.loads(file.read_text())
    for file in sorted((args.work / "judged").glob("pilot-*/top8.json")):
        out["pilot"][file.parent.name.removeprefix("pilot-")] = read(file)
    for name in (f"base{seed}" for seed in SEEDS):
        if (args.work / name / "report.json").exists():
            digest = hashlib.sha256((args.work / name / "model.safetensors").read_bytes()).hexdigest()
            out["bases"][name] = read(args.work / name / "report.json") | {"sha256": digest}
    for name, (directory, evaluations) in models(args.work).items():
        entry = {}
        if (directory / "adapted.json").exists():
            entry["adapted"] = read(directory / "adapted.json")
        files = {e: args.work / "judged" / name / f"{e}.json" for e in evaluations}
        entry["judged"] = {e: read(file) for e, file in files.items() if file.exists()}
        if entry["judged"]:
            out["models"][name] = entry
    args.out.write_text(json.dumps(out, indent=1) + "\n")


T_975 = {2: 12.706, 3: 4.303}  # Student's quantile for n - 1 degrees of freedom


def nll_of(row: dict) -> float:
    """Of the perplexity, which `olmoe` prints with as many decimals as the nll: twenty times as exact."""
    return math.log(row["perplexity"])


def percent(differences: list[float]) -> str:
    """Of differences in nll: the mean as a change of perplexity in percent, and half of its 95 % interval."""
    mean = 100 * math.expm1(statistics.mean(differences))
    if len(differences) not in T_975:
        return f"{mean:+.2f}"
    half = 100 * T_975[len(differences)] * statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{mean:+.2f} ± {half:.2f}"


def report(args: argparse.Namespace) -> None:
    results = json.loads(args.results.read_text())["models"]

    def found(group: str, seed: int, arm: str, evaluation: str) -> dict | None:
        base = f"base{seed}" if group == "trained" else "bundled"
        name = base if arm == "base" else run_name(base, seed, arm)
        return results.get(name, {}).get("judged", {}).get(evaluation)

    for group in ("trained", "bundled"):
        there = {
            (arm, evaluation)
            for arm in ("base", *ARMS)
            for evaluation in EVALUATIONS
            if any(found(group, seed, arm, evaluation) for seed in SEEDS)
        }
        arms = [arm for arm in ARMS if any(one == arm for one, _ in there)]
        if not arms:
            continue
        arms = ["base", *arms]
        evaluations = [e for e in EVALUATIONS if any((arm, e) in there for arm in arms)]
        for title, judges in (("perplexity", evaluations[:6]), ("perplexity by other judges", evaluations[6:])):
            if not judges:
                continue
            print(f"\n## {group}: {title}\n\nMean over the seeds (experts); adapted with, judged by\n")
            print("| |", " | ".join(judges), "|\n|---|" + "---:|" * len(judges))
            for arm in arms:
                cells = []
                for evaluation in judges:
                    rows = [row for seed in SEEDS if (row := found(group, seed, arm, evaluation))]
                    cells.append(
                        f"{math.exp(statistics.mean(nll_of(row) for row in rows)):.3f} "
                        f"({statistics.mean(row['mean_experts'] for row in rows):.2f})"
                        + ("" if len(rows) == len(SEEDS) else f" n={len(rows)}")
                        if rows
                        else ""
                    )
                print(f"| {arm} |", " | ".join(cells), "|")
        print(f"\n## {group}: one beside another\n\nDifference of perplexity in percent, 95 % interval over the seeds\n")
        print("| adapted by judged | beside | difference | by seed |\n|---|---|---:|---|")
        for one, other in COMPARED:
            pairs = [(found(group, seed, *one), found(group, seed, *other)) for seed in SEEDS]
            differences = [nll_of(a) - nll_of(b) for a, b in pairs if a and b]
            if differences:
                each = ", ".join(f"{100 * math.expm1(d):+.2f}" for d in differences)
                print(f"| {' by '.join(one)} | {' by '.join(other)} | {percent(differences)} | {each} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run")
    command.add_argument("--olmoe", type=pathlib.Path, required=True)
    command.add_argument("--text", type=pathlib.Path, required=True)
    command.add_argument("--work", type=pathlib.Path, required=True)
    command.add_argument("--gpus", type=int, default=4)
    command.add_argument("--per-gpu", type=int, default=5)
    command.add_argument("--cores", type=int, default=os.cpu_count())
    command.add_argument("--seconds", type=float, default=540)
    command.add_argument("--steps", type=int, default=1000)
    words = lambda text: text.split(",")
    bases = ["bundled", *(f"base{seed}" for seed in SEEDS)]
    command.add_argument("--arms", type=words, default=FIRST_ARMS, help="default: all but those called _mass")
    command.add_argument("--bases", type=words, default=bases, help="default: all")
    command.add_argument("--peaks", type=words, default=PEAKS, help="of the pilot; default: " + ",".join(PEAKS))
    command.add_argument("--own", action="store_true", help="judge a model by its own evaluations alone")
    command.add_argument("--tiny", action="store_true", help="three steps on the CPU, to test this script")
    command = commands.add_parser("judge")
    command.add_argument("--olmoe", type=pathlib.Path, required=True)
    command.add_argument("--model", type=pathlib.Path, required=True)
    command.add_argument("--evaluation", choices=EVALUATIONS, required=True)
    command.add_argument("--text", type=pathlib.Path, required=True)
    command.add_argument("--out", type=pathlib.Path, required=True)
    command.add_argument("--threads", type=int, default=1)
    command = commands.add_parser("collect")
    command.add_argument("--work", type=pathlib.Path, required=True)
    command.add_argument("--out", type=pathlib.Path, required=True)
    command = commands.add_parser("report")
    command.add_argument("results", type=pathlib.Path)
    args = parser.parse_args()
    if args.command == "run":
        if not set(args.arms) <= ARMS.keys():
            parser.error(f"--arms: there are {', '.join(ARMS)}")
        if not set(args.bases) <= set(bases):
            parser.error(f"--bases: there are {', '.join(bases)}")
        for path in ("olmoe", "text", "work"):
            setattr(args, path, getattr(args, path).resolve())
        return run(args)
    {"judge": judge, "collect": collect, "report": report}[args.command](args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
