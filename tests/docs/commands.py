"""Checks what the pages show but no test runs:

    commands.py ROOT OLMOE

Code blocks are of one of these kinds. An indented block, or ```sh, is not run, so its commands are read here.

    ```console          commands and what they print: console.sh runs them
    ```cpp, ```c        compiled; ```cpp statements is what stands in a function
    ```cmake            what the tests `install` and `consumer_*` build with
    ```python           Python
    ```text             what something prints
    ```sh, indented     commands, formulas and other lines: too long, too large or not to be had in a test

Of a command of olmoe, wherever it stands, there is the subcommand, and it has the options; of ./bootstrap and
`cmake --preset`, the word; and a path into the repository's folders leads somewhere.
"""

import functools
import glob
import json
import pathlib
import re
import subprocess
import sys

root, olmoe = pathlib.Path(sys.argv[1]), sys.argv[2]
KINDS = {"console", "cpp", "cpp statements", "c", "cmake", "python", "text", "sh"}
FOLDERS = ("bench", "docs", "include", "reference", "tests")
words = re.search(r"usage: \./bootstrap ([\w|-]+)", (root / "bootstrap").read_text()).group(1).split("|")
presets = {preset["name"] for preset in json.loads((root / "CMakePresets.json").read_text())["configurePresets"]}
faults, seen = [], 0


@functools.cache
def help_of(command):
    """What `olmoe COMMAND --help` prints; nothing if there is no such command."""
    done = subprocess.run([olmoe, *([command] if command else []), "--help"], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def blocks(text):
    """(kind, line number, lines) of each block of a page; the kind of an indented one is empty."""
    lines, i = text.splitlines(), 0
    while i < len(lines):
        begin = i
        if lines[i].startswith("```"):
            i += 1
            while not lines[i].startswith("```"):
                i += 1
            yield lines[begin][3:], begin + 1, lines[begin + 1:i]
        elif lines[i].startswith("    ") and (i == 0 or not lines[i - 1].strip()):
            while i + 1 < len(lines) and (lines[i + 1].startswith("    ") or not lines[i + 1].strip()):
                i += 1
            yield "", begin + 1, [line[4:] for line in lines[begin:i + 1]]
        i += 1


def check_olmoe(place, line):
    """A command that begins after the word olmoe."""
    global seen
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "''", line)
    for call in re.finditer(r"(?:^|[\s/(])olmoe +([a-z-]+)(?![\w/.])([^|;&<>()`]*)", bare):
        command, rest = call.groups()
        if command.startswith("--"):
            continue
        seen += 1
        described = help_of(command)
        if not described:
            faults.append(f"{place}: olmoe has no subcommand '{command}'")
            continue
        for option in re.findall(r"(?:^|\s)(--?[a-z][\w-]*)", rest.split("#")[0]):
            if not re.search(rf"(^|[\s,]){re.escape(option)}\b(?!-)", described):
                faults.append(f"{place}: olmoe {command} has no option '{option}'")


def check_line(place, line, folder):
    check_olmoe(place, line)
    code = line.split(" #")[0]
    for word in re.findall(r"\./bootstrap ([\w-]+)", code):
        if word not in words:
            faults.append(f"{place}: ./bootstrap does not know '{word}'")
    for name in re.findall(r"cmake (?:--workflow )?--preset ([\w-]+)", code):
        if name not in presets:
            faults.append(f"{place}: there is no preset '{name}'")
    for path in re.findall(r"(?<![\w/.-])(?:\.\./\.\./)?((?:" + "|".join(FOLDERS) + r")/[\w./*-]+)", code):
        if not glob.glob(str(root / path)) and not glob.glob(str(folder / path)) and "build/" not in path:
            faults.append(f"{place}: there is no {path}")


pages = [*root.glob("*.md"), *(page for folder in FOLDERS for page in (root / folder).glob("**/*.md"))]
for page in sorted(pages):
    text, name = page.read_text(), page.relative_to(root)
    if "CHANGELOG" in page.name or "survivors" in page.name:  # of other versions; no commands
        continue
    for kind, number, lines in blocks(text):
        if kind and kind not in KINDS:
            faults.append(f"{name}:{number}: a block is of no known kind: ```{kind}")
        if kind == "python":
            compile("\n".join(lines), f"{name}:{number}", "exec")
        if kind in ("", "sh"):
            joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
            for line in joined.split("\n"):
                check_line(f"{name}:{number}", line, page.parent)
    for quoted in re.findall(r"`(olmoe [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
        check_olmoe(name, " ".join(quoted.split()))

if seen < 40:
    faults.append(f"only {seen} commands of olmoe were found")
print(f"{seen} commands of olmoe")
sys.exit("\n".join(faults) or 0)
