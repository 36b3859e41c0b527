#!/usr/bin/env python3
"""Plants small faults in the headers, one at a time, and says which tests find them.

    tests/mutation/mutate.py FOLDER [--jobs 32] [--limit 540]

FOLDER gets results.tsv, a row a mutant, and objects; another call with it goes on where the last
one ended. See README.md.
"""

import argparse
import collections
import concurrent.futures
import csv
import hashlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

import mutants
import suites

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "include"
TESTS = ROOT / "tests"
COLUMNS = ("id", "place", "kind", "verdict", "by", "seconds", "before", "after")
KILLED, SURVIVED, BROKEN = "killed", "survived", "does not compile"


class OutOfTime(Exception):
    pass


class Failed(Exception):
    """Without a mutant, nothing may fail."""


class Machine:
    """Runs commands until the time is out."""

    def __init__(self, limit):
        self.end = time.monotonic() + limit

    def run(self, command, log, timeout):
        """The exit status, None after `timeout` seconds; what it prints goes to the file `log`."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise OutOfTime
        with open(log, "w") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )
            try:
                return process.wait(min(timeout, left))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # the compiler's children, too
                process.wait()
                if timeout < left:
                    return None
                raise OutOfTime from None


class Build:
    """The tests without a mutant, and what of them to compile anew for one."""

    def __init__(self, folder, compiler, machine):
        self.machine = machine
        self.compiler = compiler
        self.folder = folder / "objects"
        digest = hashlib.sha256(compiler.encode())
        for path in sorted([*INCLUDE.rglob("*.h*"), *TESTS.rglob("*.[ch]pp")]):
            digest.update(path.read_bytes())
        stamp = self.folder / "stamp"
        if not stamp.exists() or stamp.read_text() != digest.hexdigest():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            stamp.write_text(digest.hexdigest())

    def object_of(self, source):
        flags = "".join(re.sub(r"\W", "_", flag) for flag in source.flags)
        return self.folder / (source.path.replace("/", "-") + flags[:60] + ".o")

    def compile(self, source, to, overlay=None):
        """Compiles a source, with the headers in `overlay` instead of their namesakes."""
        command = shlex.split(self.compiler) + ["-std=c++20", "-O1", "-w", "-DNDEBUG"]
        command += [*source.flags, *([f"-I{overlay}"] if overlay else ["-MMD"])]
        command += [f"-I{INCLUDE}", f"-I{TESTS}", "-isystem", "/usr/include/eigen3"]
        command += [f'-DFDROUTE_SOURCE_DIR="{ROOT}"', "-DDOCTEST_CONFIG_SUPER_FAST_ASSERTS"]
        partial = to.with_suffix(".partial.o")
        command += ["-MF", str(to.with_suffix(".d"))] if not overlay else []
        command += ["-c", str(TESTS / source.path), "-o", str(partial)]
        status = self.machine.run(command, to.with_suffix(".log"), 400)
        if status == 0:
            partial.rename(to)
        return status == 0

    def ready(self, source):
        target = self.object_of(source)
        if not target.exists() and not self.compile(source, target):
            raise Failed(f"{source.path} does not compile: {target.with_suffix('.log')}")

    def reads(self, source, header):
        """Whether a source includes a header."""
        return str(INCLUDE / header) in self.object_of(source).with_suffix(".d").read_text().split()

    def link(self, suite, objects, to):
        fopenmp = [f for s in suite.sources for f in s.flags if f == "-fopenmp"][:1]
        command = [*shlex.split(self.compiler), *fopenmp, *map(str, objects)]
        command += [str(self.object_of(MAIN)), "-o", str(to)]
        return self.machine.run(command, to.with_suffix(".log"), 100) == 0

    def test(self, suite, executable, timeout):
        """None if all tests pass, else what fails."""
        log = executable.with_suffix(".log")
        # A mutant may well fill memory or a disk.
        limits = "ulimit -c 0 -v 8000000 -f 200000; exec \"$@\""
        command = ["sh", "-c", limits, "sh", str(executable), "--abort-after=1", "--no-colors=1"]
        status = self.machine.run(command + list(suite.arguments), log, timeout)
        if status == 0:
            return None
        if status is None:
            return "an endless loop"
        text = log.read_text(errors="replace")
        if status < 0 or "fatal error: test case CRASHED" in text:
            return "a crash"
        named = re.findall(r"^TEST CASE: +(.*)", text, re.M)
        return named[-1] if named else f"exit status {status}"

    def check(self, name):
        """Runs a suite without a mutant and keeps how long it takes."""
        suite = suites.SUITES[name]
        seconds = self.folder / f"{name}.seconds"
        if not seconds.exists():
            executable = self.folder / name
            if not self.link(suite, [self.object_of(s) for s in suite.sources], executable):
                raise Failed(f"{name} does not link: {executable.with_suffix('.log')}")
            before = time.monotonic()
            failure = self.test(suite, executable, 400)
            if failure:
                raise Failed(f"{name} fails without a mutant: {failure}")
            executable.unlink()
            seconds.write_text(str(time.monotonic() - before))
        return float(seconds.read_text())


MAIN = suites.Source("main.cpp")


def judge(build, mutant, text, folder, checked, names):
    """The verdict about a mutant, and by what."""
    scratch = folder / "scratch" / mutant.id
    shutil.rmtree(scratch, ignore_errors=True)
    overlay = scratch / "include"
    changed = overlay / mutant.header
    changed.parent.mkdir(parents=True)
    changed.write_text(mutant.apply(text))
    try:
        tried = []
        for name in names:
            seconds = checked[name].result()
            suite = suites.SUITES[name]
            concerned = [
                s
                for s in suite.sources
                if build.reads(s, mutant.header) and (not suite.mutated or s.path in suite.mutated)
            ]
            if not concerned:
                continue
            objects = []
            for source in concerned:
                target = scratch / build.object_of(source).name
                if not target.exists() and not build.compile(source, target, overlay):
                    errors = target.with_suffix(".log").read_text(errors="replace")
                    if re.search(rf"^{TESTS}/.*error: static assertion failed", errors, re.M):
                        return KILLED, f"{name}: a static_assert"
                    return BROKEN, name
                objects.append(target)
            # The mutant's first: of a function in several objects, the linker takes the first.
            objects += [build.object_of(s) for s in suite.sources if s not in concerned]
            executable = scratch / name
            if not build.link(suite, objects, executable):
                return BROKEN, name
            failure = build.test(suite, executable, 20 + 10 * seconds)
            executable.unlink()
            if failure:
                return KILLED, f"{name}: {failure}"
            tried.append(name)
        return SURVIVED, " ".join(tried) if tried else "no test includes the header"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class Results:
    """results.tsv, a row a mutant, written as they come."""

    def __init__(self, path):
        self.path = path
        self.rows = {}
        self.lock = threading.Lock()
        if path.exists():
            with open(path, newline="") as file:
                for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                    self.rows[row["id"]] = row

    def add(self, row):
        with self.lock:
            self.rows[row["id"]] = row
            partial = self.path.with_suffix(".partial")
            with open(partial, "w", newline="") as file:
                file.write("\t".join(COLUMNS) + "\n")
                for each in self.rows.values():
                    file.write("\t".join(each[c] for c in COLUMNS) + "\n")
            partial.replace(self.path)


def report(rows):
    counts = collections.Counter(row["verdict"] for row in rows)
    judged = counts[KILLED] + counts[SURVIVED]
    return (
        f"{judged} mutants: {counts[KILLED]} killed, {counts[SURVIVED]} survived; "
        f"{counts[BROKEN]} more do not compile"
    )


def write_survivors(rows, path):
    """The list of survivors; what it says about one that is still there stays."""
    known = {}
    if path.exists():
        for line in path.read_text().splitlines():
            found = re.match(r"### (\S+)", line)
            if found:
                known[found[1]] = []
                reasons = known[found[1]]
            elif known and not re.match(r"$|- `", line):
                reasons.append(line)
    lines = ["# Mutants that no test kills", "", report(rows) + ".", ""]
    lines += ["Each says whether it is equivalent to the code, and if not, which test is to kill it."]
    for row in sorted(rows, key=lambda r: r["place"]):
        if row["verdict"] != SURVIVED:
            continue
        file = row["place"].rsplit(":", 1)[0]
        lines += ["", f"### {row['id']} {file}", ""]
        lines += [f"- `{row['before']}`", f"- `{row['after']}`", ""]
        lines += known.get(row["id"]) or ["TODO"]
    path.write_text("\n".join(lines) + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="for results.tsv and objects")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--sample", type=int, default=180, help="how many mutants to draw")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=1e9, help="seconds, after which it stops")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="these alone")
    parser.add_argument(
        "--header", action="append", metavar="PREFIX", help="of these alone, below include/fdroute/"
    )
    parser.add_argument("--suite", action="append", metavar="NAME", help="judge by these alone")
    parser.add_argument("--again", action="store_true", help="judge survivors once more")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument("--survivors", action="store_true", help="rewrite survivors.md and stop")
    # An index past an array's end is found, which a sanitizer would find, too.
    parser.add_argument("--compiler", default="g++ -D_GLIBCXX_ASSERTIONS", help="with flags")
    return parser.parse_args()


def main():
    given = arguments()
    texts = {str(p.relative_to(INCLUDE)): p.read_text() for p in sorted(INCLUDE.rglob("*.hpp"))}
    of_header = {header: mutants.mutants_of(header, text) for header, text in texts.items()}
    every = [m for found in of_header.values() for m in found]
    named, lost = mutants.named_mutants(texts)
    if given.header:
        prefixes = tuple("fdroute/" + prefix for prefix in given.header)
        every = [m for m in every if m.header.startswith(prefixes)]
        named = [m for m in named if m.header.startswith(prefixes)]

    def weight(mutant):  # long headers more, but not as much as they are longer; detail/ thrice
        folder = 3.0 if "/detail/" in mutant.header else 1.0
        kind = mutants.WEIGHTS.get(mutant.kind, 1.0)
        return folder * kind / len(of_header[mutant.header]) ** 0.5

    chosen = named + mutants.sample(every, given.seed, given.sample, weight)
    if given.only:
        chosen = [m for m in named + every if m.id in given.only]
        missing = set(given.only) - {m.id for m in chosen}
        if missing:
            sys.exit(f"no such mutant: {' '.join(sorted(missing))}")
    if given.list:
        for m in chosen:
            print(f"{m.id}  {m.header}:{m.line}  {m.kind}\n    {m.before}\n    {m.after}")
        print(f"{len(chosen)} of {len(every)} mutants", *lost, sep="\n")
        return bool(lost)

    given.folder.mkdir(parents=True, exist_ok=True)
    results = Results(given.folder / "results.tsv")
    if given.survivors:
        path = ROOT / "tests/mutation/survivors.md"
        write_survivors(results.rows.values(), path)
        return 0
    done = {i for i, r in results.rows.items() if not (given.again and r["verdict"] == SURVIVED)}
    to_do = [m for m in chosen if m.id not in done or m.id in given.only]

    build = Build(given.folder.resolve(), given.compiler, Machine(given.limit))
    names_of = {m.id: given.suite or suites.suites_of(m.header) for m in to_do}
    names = list(dict.fromkeys(n for some in names_of.values() for n in some))
    # What takes longest to compile comes first, for nothing is to wait for it.
    names.sort(key=lambda n: len(suites.SUITES[n].sources), reverse=True)
    sources = dict.fromkeys([MAIN, *(s for n in names for s in suites.SUITES[n].sources)])
    unfinished = 0
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        # Earlier tasks start earlier, so that one that waits for another cannot wait for ever.
        compiled = {s: pool.submit(build.ready, s) for s in sources}

        def check(name):
            for source in (MAIN, *suites.SUITES[name].sources):
                compiled[source].result()
            return build.check(name)

        checked = {n: pool.submit(check, n) for n in names}

        def take(mutant):
            before = time.monotonic()
            folder = given.folder.resolve()
            text = texts[mutant.header]
            verdict, by = judge(build, mutant, text, folder, checked, names_of[mutant.id])
            row = (
                mutant.id,
                f"{mutant.header}:{mutant.line}",
                mutant.kind,
                verdict,
                by,
                f"{time.monotonic() - before:.0f}",
                mutant.before,
                mutant.after,
            )
            row = dict(zip(COLUMNS, (mutants.one_line(cell) for cell in row)))
            results.add(row)
            print(f"{verdict}: {row['id']} {row['place']} {row['seconds']} s, {by}", flush=True)

        tasks = [pool.submit(take, m) for m in to_do]
        failures = set()
        for task in tasks:
            try:
                task.result()
            except OutOfTime:
                unfinished += 1
            except Failed as failure:
                failures.add(str(failure))
                unfinished += 1
    print(report([results.rows[m.id] for m in chosen if m.id in results.rows]))
    if unfinished:
        print(f"{unfinished} mutants are left: call this once more")
    for line in [*sorted(failures), *lost]:
        print(line)
    return bool(unfinished or failures or lost)


if __name__ == "__main__":
    sys.exit(main())
