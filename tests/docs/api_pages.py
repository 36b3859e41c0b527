"""Compares the public names of the headers with the pages that docs/site/api.py makes of them:

    api_pages.py ROOT SCRATCH

The names are found line by line, by how clang-format lays headers out: what stands in the first column of
namespace fdroute is public, and so is what a class has two columns further, up to `private:`.
"""

import pathlib
import re
import subprocess
import sys

root, scratch = map(pathlib.Path, sys.argv[1:])
subprocess.run([sys.executable, root / "docs/site/api.py", root / "include", scratch], check=True)
folders = [path.name for path in (root / "include/fdroute").iterdir() if path.is_dir() and path.name != "detail"]

faults, total = [], 0
SPACE = re.compile(r"^namespace fdroute::inline v0 \{\n(.*?)^\}  // namespace fdroute::inline v0$", re.M | re.S)
INNER = re.compile(r"^namespace [\w:]+ \{\n.*?^\}  // namespace", re.M | re.S)
NO_NAME = r"(template|requires|namespace|static_assert|friend|using|struct|class|concept)\b"


def names(lines):
    """The names declared in lines of a namespace, and (class, member) for the functions of classes."""
    held, public = "", True
    for line in lines:
        code = re.sub(r"^( *)template <.*?> (?=\w)", r"\1", line)
        if found := re.match(r"(?:struct|class|enum class) (\w+)(?! ?<|\w|;)", code):
            held, public = found.group(1), not code.startswith("class")
            yield held, None
        elif found := re.match(r"(?:concept|using) (\w+) =", code):
            yield found.group(1), None
        elif re.match(r"[a-z\[].* ", code):
            found = re.match(r"[^(={]*?\b(?!kernel_of|is_)(\w+)(?:\(| =|;|\{)", code)
            if found and not re.match(NO_NAME, code) and not re.search(r" operator|<decltype\(", code):
                yield found.group(1), None
        elif code.startswith("}"):
            held = ""
        elif re.match(r" (public|private):", code):
            public = "public" in code
        elif public and held and (found := re.match(r"  [a-z\[][^(=]*[ &*](\w+)\(", code)):
            if not re.match(r"  (static_assert|friend|return|requires|if|for)\b", code):
                yield held, found.group(1)


for header in sorted((root / "include/fdroute").glob("**/*.hpp")):
    folder = header.parent.name
    if "detail" in header.parts:
        continue
    page = scratch / f"{folder if folder in folders else header.stem}.md"
    text = page.read_text().replace("\\_", "_")
    for body in SPACE.findall(header.read_text()):
        for name, member in names(INNER.sub("", body).splitlines()):
            total += 1
            own = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
            if not own:
                faults.append(f"{header.name}: {name} is not on {page.name}")
            elif member and not re.search(rf"\b{member}\(", own.group(1)):
                faults.append(f"{header.name}: {name}::{member}() is not on {page.name}")

c_page = (scratch / "c_api.md").read_text().replace("\\_", "_")
for name in re.findall(r"^\w+$", (root / "tests/c_api/symbols.txt").read_text(), re.M):
    total += 1
    if f"\n## {name}\n" not in c_page:
        faults.append(f"c_api.h: {name} is not on c_api.md")

# A page of docs/ that is not in the contents cannot be found by reading.
contents = (root / "docs/site/conf.py").read_text()
for page in (root / "docs").glob("*.md"):
    if f'"docs/{page.stem}"' not in contents:
        faults.append(f"docs/{page.name} is not in the contents of docs/site/conf.py")

if total < 300:
    faults.append(f"only {total} names were found")
print(f"{total} names")
sys.exit("\n".join(faults) or 0)
