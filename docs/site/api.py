"""Pages of the public headers, from their docstrings alone:

    api.py INCLUDE OUT     writes OUT/*.md for INCLUDE/fdroute; INCLUDE/fdroute/detail is left out

The headers are formatted by clang-format, and their comments are Markdown: a comment goes into its page as it is. A
folder of policies becomes one page, a header beside them a page of its own. What stands in namespace fdroute, in
extern "C" or in a class, public, is listed, with a comment or without.
"""

import html
import pathlib
import re
import sys

SIGNS = {"<=": "≤", ">=": "≥", "->": "→", "...": "…", "*": "·", "-": "−"}
GREEK = dict(alpha="α", beta="β", lambda_="λ", pi0="π<sub>0</sub>", sigma="σ", kappa="κ", tau="τ", sum="Σ")
FOLDERS = {"selection": "Rules", "null": "Null distributions", "score": "Scores",
           "ranking": "Rankings", "weights": "Weights", "output": "Output views"}


# ---- Formulas --------------------------------------------------------------------------------------------------------


def looks_like_formula(lines):
    """Whether an indented block is a formula, not code, a table or a command."""
    text = "\n".join(lines)
    if len(lines) > 4 or re.search(r"[\"$\\]|--|//|^ *(template|return|const|inline) |->", text, re.M):
        return False
    return bool(re.search(r"[\w)] += \S|<=|>=|sum_|min\(", text))


def set_line(text):
    """A line of a formula in HTML: names in italics, Greek letters, indices and exponents."""
    out, i = [], 0
    token = re.compile(r"[A-Za-z][A-Za-z0-9]*|<=|>=|->|[_^]|\.\.\.|.", re.S)
    while i < len(text):
        order = re.compile(r"([pPe])(\((\d|\w([-+]\w){0,2})\))").match(text, i)
        if order and not text[i - 1:i].isalnum():  # p(k), an order statistic
            out.append(f"<i>{order.group(1)}</i><sub>{set_line(order.group(2))}</sub>")
            i = order.end()
            continue
        found = token.match(text, i)
        word = found.group()
        i = found.end()
        if word in "_^" and i < len(text) and out and raises(text, i):
            if text[i] in "({":  # the whole group is raised or lowered
                end = closing(text, i) + 1
                inner = text[i + 1:end - 1]
            else:
                end = re.compile(r"\*|[A-Za-z0-9]+|.").match(text, i).end()
                inner = text[i:end]
            tag = "sub" if word == "_" else "sup"
            out.append(f"<{tag}>{set_line(inner)}</{tag}>")
            i = end
        elif word == "sqrt" and text[i:i + 1] == "(":
            end = closing(text, i) + 1
            out.append(f'√<span class="root">{set_line(text[i + 1:end - 1])}</span>')
            i = end
        elif word in GREEK or word == "lambda":
            out.append(GREEK.get(word) or GREEK["lambda_"])
        elif word.isalpha() and len(word) == 1:
            out.append(f"<i>{word}</i>")
        elif word == "p" or re.fullmatch(r"[a-zA-Z]\d", word):
            out.append(f"<i>{word[0]}</i><sub>{word[1:]}</sub>")
        else:
            out.append(SIGNS.get(word, html.escape(word)))
    return "".join(out)


def raises(text, i):
    """Whether the character before i begins an index or exponent, and not the second half of a name as in max_k."""
    if text[i - 1] == "^" or text[i] in "({":
        return True
    if text[:i].endswith("sum_"):
        return True
    return not re.match(r"[A-Za-z]\w", text[i:]) and not re.search(r"\b(min|max|mass)_$", text[:i])


def closing(text, start):
    """Where the bracket at `start` closes."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "({") - (text[i] in ")}")
        if depth == 0:
            return i
    return len(text) - 1


def formula(lines):
    """A block as a table: what stands before the first equals sign, and the rest."""
    at = lines[0].find(" = ")
    rows = []
    for line in lines:
        left, right = (line[:at + 1], line[at + 1:]) if at > 0 else ("", line)
        if at > 0 and not (re.match(r"= |  ", right) or right == ""):  # not aligned with the first line
            left, right = "", line
            if "=" in line:
                left, right = line[:line.find("=")], line[line.find("="):]
        rows.append(f"<tr><td>{set_line(left.strip())}</td><td>{set_line(right.rstrip())}</td></tr>")
    return ['<table class="formula">', *rows, "</table>"]


def escape(text):
    """The prose of a comment: its `a<b>` is no HTML, its <= a sign. Backticks and indented blocks stay as they are."""
    signs = {"<=": "≤", ">=": "≥", "<": "&lt;"}

    def prose(line):
        return re.sub(r"(`[^`]*`)|(?<= )[<>]=(?= )|<(?=[A-Za-z/!])", lambda m: m.group(1) or signs[m.group()], line)

    return "\n".join(line if line.startswith("    ") else prose(line) for line in text.splitlines())


def with_formulas(text):
    """Markdown with its indented blocks as formulas, code or plain text."""
    out, block, fenced = [], [], False

    def flush():
        while block and not block[-1]:
            block.pop()
        if not block:
            return
        if looks_like_formula(block):
            out.extend(formula(block) + [""])
        else:
            code = re.search(r"[;}]( *//.*)?$|^template|^\[\[", "\n".join(block), re.M)
            out.extend([f"```{'cpp' if code else 'text'}", *block, "```", ""])
        block.clear()

    before, listed = "", False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        if not fenced and not listed and line.startswith("    ") and (block or not before.strip()):
            block.append(line[4:])
        elif block and not line.strip():
            block.append("")
        else:
            flush()
            out.append(line)
        if line.strip():
            listed = bool(re.match(r"\s*([-*]|\d+\.) ", line)) or (listed and line.startswith(" "))
        before = line
    flush()
    return "\n".join(out)


# ---- Headers ---------------------------------------------------------------------------------------------------------


class Entity:
    def __init__(self, name, declaration, comment):
        self.name, self.declaration, self.comment = name, declaration, comment
        self.members = []


def skip_text(text, i):
    """Past the string, character or comment that begins at i; i itself if none does."""
    for opening, pattern in (('"', r'"(\\.|[^"\\])*"'), ("'", r"'(\\.|[^'\\])*'"), ("//", r"//[^\n]*"),
                             ("/*", r"/\*.*?\*/")):
        if text.startswith(opening, i):
            found = re.compile(pattern, re.S).match(text, i)
            return found.end() if found else i + 1
    return i


def skip_braces(text, i):
    depth = 0
    while i < len(text):
        after = skip_text(text, i)
        if after != i:
            i = after
            continue
        depth += (text[i] == "{") - (text[i] == "}")
        i += 1
        if depth == 0:
            return i
    raise ValueError("a brace has no end")


def outside(head, opening="(<", ending=")>"):
    """`head` without what stands in its brackets."""
    out, depth = "", 0
    for i, c in enumerate(head):
        arrow = c == ">" and head[i - 1] in "-="
        if c in opening and not (c == "<" and (head[i + 1:i + 2] in ("=", "<") or head[i - 1] == "<")):
            depth += 1
        elif c in ending and not arrow and depth:
            depth -= 1
        elif not depth:
            out += c
    return out


def declaration_at(text, i):
    """From i: (head, body or None, end). The head is without body and without a constructor's initialisers."""
    start, depth, initialisers = i, 0, None
    while i < len(text):
        after = skip_text(text, i)
        if after != i:
            i = after
            continue
        c = text[i]
        if c in "([":
            depth += 1
        elif c in ")]":
            depth -= 1
        elif depth == 0 and c == ";":
            return text[start:initialisers or i], None, i + 1
        elif depth == 0 and c == ":" and text[i - 1] == " " and text[i + 1] == " " and ")" in text[start:i]:
            initialisers = initialisers or i
        elif c == "{":
            head = text[start:i]
            bare = outside(re.sub(r'"[^"]*"', "", head))
            a_class = re.match(r"\s*(template\s*)?(requires.*?)?\s*(typedef )?(class|struct|enum|union)\b", bare, re.S)
            a_value = ("=" in re.sub(r"operator\S+", "", bare) or "(" not in head or text[i - 1] not in " \n"
                       or re.search(r"requires\s*(\(.*\))?\s*$", head))
            end = skip_braces(text, i)
            if depth or (a_value and not a_class):
                i = end
                continue
            if a_class:
                semicolon = text.index(";", end)
                return head, text[i + 1:end - 1], semicolon + 1
            return text[start:initialisers or i], None, end
        i += 1
    return text[start:], None, len(text)


def name_of(head):
    bare = re.sub(r"\s+", " ", outside(re.sub(r"\[\[.*?\]\]|FDROUTE_C_API|__attribute__\(\(.*?\)\)", "", head))).strip()
    bare = re.sub(r"^template ", "", bare)
    for pattern in (r"\b(?:class|struct|enum class|enum|union|concept|using) (?:alignas )?(\w+)",
                    r"(operator ?\S+)"):
        found = re.search(pattern, bare)
        if found and not (pattern.startswith(r"\b") and re.match(r"(constexpr|inline|typedef struct \w+ \w+;)", bare)):
            return found.group(1)
    before = re.split(r"\(", re.sub(r"\s+", " ", strip_template(head)))[0] if "(" in head else bare
    before = re.sub(r" ?[={].*", "", before)
    names = re.findall(r"~?\w+", outside(before, "<", ">"))
    return names[-1] if names else ""


def strip_template(head):
    """`head` without `template <...>` and the requirements after it."""
    head = re.sub(r"\[\[.*?\]\]", "", head.strip())
    while head.startswith("template"):
        i, depth = head.index("<"), 0
        while True:
            depth += (head[i] == "<") - (head[i] == ">" and head[i - 1] != "-")
            i += 1
            if depth == 0:
                break
        head = head[i:].strip()
    if head.startswith("requires"):
        head = head.split("\n", 1)[-1].strip()
    return head


def clean_comment(raw):
    """The Markdown of a comment in ///, //, or /* */."""
    if raw.startswith("/*"):
        lines = [re.sub(r"^ \* ?|^ *\* ?", "", line) for line in raw[2:-2].splitlines()]
        return "\n".join([lines[0].strip(), *lines[1:]]).strip()
    return "\n".join(re.sub(r"^\s*///? ?", "", line) for line in raw.splitlines()).strip()


HIDDEN = r"static_assert|friend|template\s*<>|extern template|using [\w:]+$"


def parse(text, is_c, public=True):
    """The entities of a namespace or class body, and the prose that stands between them."""
    entities, comment, i = [], "", 0
    while i < len(text):
        if text[i].isspace():
            if comment and re.match(r"\n[ \t]*\n", text[i:]) and not is_c:  # prose, of no declaration
                entities.append(Entity("", "", comment))
                comment = ""
            i += 1
        elif text.startswith("///<", i):
            end = text.find("\n", i)
            end = len(text) if end == -1 else end
            if entities and public:
                entities[-1].declaration += "  //" + text[i + 4:end]
            i = end
        elif text.startswith("///", i):
            end = re.compile(r"(///(?!<)[^\n]*\n?[ \t]*)+").match(text, i).end()
            comment = clean_comment(text[i:end])
            i = end
            if text[i - 1] not in "\n \t":
                continue
            if re.match(r"[ \t]*\n", text[i:]) and not is_c:
                entities.append(Entity("", "", comment))
                comment = ""
        elif text.startswith("//", i):
            i = text.find("\n", i)
            i = len(text) if i == -1 else i
        elif text.startswith("/*", i):
            end = text.index("*/", i) + 2
            line = text[text.rfind("\n", 0, i) + 1:i]
            if line.strip() and entities:
                entities[-1].declaration += "  " + text[i:end]
            elif not text[i:end].startswith("/* ----"):
                comment = clean_comment(text[i:end])
            i = end
        elif text[i] == "#":
            end = re.compile(r"[^\n]*(\\\n[^\n]*)*").match(text, i).end()
            i, comment = end, ""
        elif (access := re.compile(r"(public|private|protected):").match(text, i)):
            public, comment, i = access.group(1) == "public", "", access.end()
        else:
            head, body, end = declaration_at(text, i)
            column = i - text.rfind("\n", 0, i) - 1
            head = re.sub(rf"\n {{{column}}}", "\n", head).rstrip().replace("FDROUTE_C_API ", "")
            forward = body is None and not is_c and re.match(r"(class|struct) \w+$", strip_template(head))
            special = re.match(r"(struct|class) \w+<|inline constexpr [\w:]+ \w+<", strip_template(head))
            hidden = forward or special or re.match(HIDDEN, head)
            guide = re.search(r"\) *-> *\w+", head) and not re.search(r"\bauto\b", outside(head))
            if public and head and not hidden and not guide:
                entity = Entity(name_of(head), head, comment)
                if entity.name == "enum":  # without a name: under its first constant's
                    entity.name = body.split()[0]
                if body is not None:
                    if re.search(r"\benum\b", outside(head)):
                        entity.declaration += " {\n" + re.sub(r"///<", "//", unindent(body, 2)) + "\n}"
                    elif is_c:
                        entity.declaration += " {\n" + unindent(body, 2) + "\n}"
                    else:
                        entity.members = parse(body, is_c, not re.search(r"\bclass\b", outside(head)))
                entities.append(entity)
            comment, i = "", end
    return entities


def unindent(text, to):
    """Whole lines, indented by `to` in the place of what they share."""
    lines = [line for line in text.split("\n") if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return "\n".join(" " * to + line[margin:].rstrip() for line in lines)


def read_header(path):
    """The public entities of one header: what stands before its namespaces, and in them."""
    text = path.read_text()
    if path.suffix == ".h":
        begin = text.index("typedef enum")
        prose = clean_comment(re.search(r"/\*.*?\*/", text, re.S).group())
        end = text.rindex("#ifdef __cplusplus")
        return [Entity("", "", prose), *parse(text[begin:end], True)]
    entities = []
    first = text.find("\nnamespace ")
    preamble = text if first == -1 else text[:first + 1]
    for block in re.finditer(r"((?:^///[^\n]*\n)+)((?:#define \w+[^\n]*\n)*)", preamble, re.M):
        defined = block.group(2).strip()
        names = re.findall(r"#define (\w+)", defined)
        entities.append(Entity(names[0] if names else "", defined, clean_comment(block.group(1))))
    for space in re.finditer(r"^namespace fdroute::inline v0 \{", text, re.M):
        end = skip_braces(text, space.end() - 1)
        body = text[space.end():end - 1]
        while (inner := re.search(r"^namespace \w+(::\w+)* \{", body, re.M)):
            body = body[:inner.start()] + body[skip_braces(body, inner.end() - 1):]
        entities += parse(body, False)
    return entities


# ---- Pages -----------------------------------------------------------------------------------------------------------


def code(declaration):
    return f"```cpp\n{declaration}\n```\n"


def write_entity(entity, level, include=""):
    """What stands under an entity's heading."""
    if not entity.name:
        return with_formulas(escape(entity.comment)) + "\n"
    out = [code(include + entity.declaration), with_formulas(escape(entity.comment)), ""]
    fields = []  # neighbours without a comment of their own stand in one block

    def flush():
        if fields:
            out.append(":::{container} member\n" + code("\n".join(fields)) + ":::\n")
            fields.clear()

    for member in entity.members:
        if member.members:  # a type within the class
            flush()
            out.append(":::{container} member\n" + write_entity(member, level + 1) + ":::\n")
        elif member.comment and member.name:
            flush()
            text = code(member.declaration) + "\n" + with_formulas(escape(member.comment))
            out.append(":::{container} member\n" + text + "\n:::\n")
        elif member.name:
            fields.append(member.declaration)
        else:
            flush()
            out.append(with_formulas(escape(member.comment)) + "\n")
    flush()
    return "\n".join(out)


def write_header(path, include=""):
    """All entities of a header, overloads under one heading. `include` stands before the first."""
    out, before = [], None
    for entity in read_header(path):
        if entity.name and entity.name != before:
            out.append(f"## {entity.name}\n".replace("_", r"\_"))
        before = entity.name or before
        out.append(write_entity(entity, 2, include))
        include = "" if entity.name else include
    return "\n".join(out)


def write_pages(include, out):
    include, out = pathlib.Path(include), pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    root = include / "fdroute"
    pages = []
    for path in sorted(root.glob("*.h*")):
        title = f"# {path.name}\n\n```cpp\n#include <fdroute/{path.name}>\n```\n".replace("_", r"_")
        (out / f"{path.stem}.md").write_text(title + "\n" + write_header(path))
        pages.append(path.stem)
    for folder, title in FOLDERS.items():
        text = [f"# {title}\n"]
        for path in sorted((root / folder).glob("*.hpp")):
            text.append(write_header(path, f"#include <fdroute/{folder}/{path.name}>\n\n"))
        (out / f"{folder}.md").write_text("\n".join(text))
    missed = {path.name for path in root.iterdir() if path.is_dir()} - set(FOLDERS) - {"detail"}
    if missed:
        sys.exit(f"api.py: no page for {sorted(missed)}")
    contents = ["# API reference\n", "Every public name of `include/fdroute/`, as its header describes it.\n",
                "```{toctree}\n:maxdepth: 2\n:titlesonly:", *FOLDERS, *pages, "```\n"]
    (out / "index.md").write_text("\n".join(contents))


if __name__ == "__main__":
    write_pages(*sys.argv[1:])
