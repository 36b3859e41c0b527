"""Mutants of the headers: small faults, each planted at one place of one file.

A mutant's id is made of what it changes and not of where that stands, so it outlives moved lines.
"""

import dataclasses
import hashlib
import re


@dataclasses.dataclass(frozen=True)
class Mutant:
    id: str
    header: str  # below include/
    line: int
    kind: str
    before: str
    after: str
    start: int  # in the file's text
    end: int
    replacement: str

    def apply(self, text):
        return text[: self.start] + self.replacement + text[self.end :]


# ---- What of a file may be changed


def mask(text):
    """The text, as long as before, with blanks for what must not be changed: comments, literals,
    the preprocessor, static_asserts, concepts, and what is decided while compiling."""
    masked = list(text)

    def blank(start, end):
        for i in range(start, end):
            if masked[i] != "\n":
                masked[i] = " "

    token = re.compile(
        r"//[^\n]*|/\*.*?\*/"
        r'|"(?:\\.|[^"\\\n])*"'
        r"|(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'"
        r"|^[ \t]*#(?:\\\n|[^\n])*",
        re.S | re.M,
    )
    for found in token.finditer(text):
        if found[0][0] in "\"'":  # the quotes stay: a literal is still an operand
            blank(found.start() + 1, found.end() - 1)
        else:
            blank(found.start(), found.end())
    code = "".join(masked)
    for found in re.finditer(
        r"\b(?:static_assert|if constexpr|requires|noexcept|decltype)\s*(?=\()", code
    ):
        blank(found.start(), matching(code, found.end()) + 1)
    for found in re.finditer(r"\btemplate\s*(?=<)", code):
        blank(found.start(), matching(code, found.end(), "<>") + 1)
    declared = r"\bconcept\b[^;]*;|\brequires\b[^;{]*|\b(?:using|friend)\b[^;]*;"
    for found in re.finditer(declared, code):
        blank(found.start(), found.end())
    constant = r"\bconstexpr (?:bool|auto|std::size_t|int) \w+(?:<[^;{}]*>)? =[^;{}]*;"
    for found in re.finditer(r"(?:^|\n)[^\n;{}]*" + constant, code):
        if "for (" not in found[0]:
            blank(found.start(), found.end())
    return "".join(masked)


def matching(text, start, pair="()"):
    """The index of the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        if text[i] == pair[0]:
            depth += 1
        elif text[i] == pair[1]:
            depth -= 1
            if depth == 0:
                return i
    return len(text) - 1


OPEN = "([{"
CLOSE = ")]}"


def left_operand(code, end, stops):
    """Where the operand that ends before `end` begins: after the nearest of `stops` outside of
    brackets."""
    depth = 0
    i = end
    while i > 0:
        i -= 1
        c = code[i]
        if c in CLOSE:
            depth += 1
        elif c in OPEN:
            if depth == 0:
                break
            depth -= 1
        elif depth == 0:
            found = re.compile(stops).match(code, i)
            if found and found.end() <= end:
                return found.end()
    return i + 1


def right_operand(code, start, stops):
    depth = 0
    for i in range(start, len(code)):
        c = code[i]
        if c in OPEN:
            depth += 1
        elif c in CLOSE:
            if depth == 0:
                return i
            depth -= 1
        elif depth == 0 and re.compile(stops).match(code, i):
            return i
    return len(code)


# ---- The kinds of faults. Each yields (kind, start, end, replacement).

FLIPS = {" < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ", " != ": " == "}
LEFT_STOPS = r"return\b|&&|\|\||[;?,]| = |[^:]:(?!:)| \|= "
RIGHT_STOPS = r"&&|\|\||[;?,]| :(?!:)"


def drop_conditions(code):
    for found in re.finditer(r"\s(&&|\|\|)\s", code):
        neutral = "true" if found[1] == "&&" else "false"
        start = left_operand(code, found.start(), LEFT_STOPS)
        start += len(code[start:]) - len(code[start:].lstrip())
        if start < found.start():
            yield "drop condition", start, found.start(), neutral
        end = right_operand(code, found.end(), RIGHT_STOPS)
        if code[found.end() : end].strip():
            yield "drop condition", found.end(), end, neutral


def negate_conditions(code):
    for found in re.finditer(r"\b(?:if|while) (?=\()", code):
        end = matching(code, found.end()) + 1
        if ";" not in code[found.end() : end]:
            yield "negate condition", found.end(), end, "(!" + code[found.end() : end] + ")"
    for found in re.finditer(r"\s\?\s", code):
        stops = r"return\b|[;?,]| [|+*-]?= |[^:]:(?!:)| << | \+ "
        start = left_operand(code, found.start(), stops)
        start += len(code[start:]) - len(code[start:].lstrip())
        condition = code[start : found.start()]
        if condition:
            yield "negate condition", start, found.start(), "!(" + condition + ")"


def flip_comparisons(code):
    for found in re.finditer(r" (?:<|<=|>|>=|==|!=) ", code):
        yield "flip comparison", found.start(), found.end(), FLIPS[found[0]]


def off_by_one(code):
    for found in re.finditer(r" ([+-]) 1\b(?!['.x])", code):
        for number in "02":
            yield "off by one", found.end() - 1, found.end(), number
    # Of loops one by one: others' bounds are multiples of the step.
    loop = r"\bfor \((?:[\w:]+ (\w+ = ([01])))?; \w+ (?:<|<=) ([^;()]|\([^()]*\))*(?=; \+\+)"
    for found in re.finditer(loop, code):
        if found[2]:
            yield "off by one", found.start(2), found.end(2), "1" if found[2] == "0" else "0"
        yield "off by one", found.end(), found.end(), " - 1"
    for found in re.finditer(r"\bint \w+ = ([01]);", code):
        yield "off by one", found.start(1), found.end(1), "1" if found[1] == "0" else "0"


SWAPS = {"std::min": "std::max", "std::max": "std::min", "larger": "smaller", "smaller": "larger"}


def swap_min_max(code):
    for found in re.finditer(r"(?<=[\s(!*])(std::min|std::max|larger|smaller)(?=\()", code):
        line = code[code.rfind("\n", 0, found.start()) + 1 : found.start()]
        if "FDROUTE_INLINE" in line or "Arch>" in line:
            continue  # a declaration
        yield "swap min and max", found.start(1), found.end(1), SWAPS[found[1]]


def drop_statements(code):
    place = r"[A-Za-z_][\w.]*(?:->\w+|\[[^\n;=]*?\]|\([^\n;=]*?\)|\.\w+)*"
    assignment = r"(?:^|(?<=\)))[ ]+(\*?" + place + r") [+*|&-]?= [^;{}]*;"
    for found in re.finditer(assignment, code, re.M):
        if not re.match(r"(?:return|const|auto|else)\b", found[1]):
            yield "drop statement", found.start(1), found.end(), ";"
    calls = r"(?:std::(?:fill|copy|sort|partial_sort|transform)\w*|finish|\w+\.fill"
    calls += r"|[\w.()]+\.store\w*)"
    for found in re.finditer(r"^[ ]+(" + calls + r"\([^;{}]*\);)", code, re.M):
        yield "drop statement", found.start(1), found.end(1), ";"


def swap_plus_minus(code):
    for found in re.finditer(r"(?<=[\w)\]]) ([+-]) (?=[\w(])(?!1\b)", code):
        yield "swap + and -", found.start(1), found.end(1), "-" if found[1] == "+" else "+"


def in_lambda(code, at):
    """Whether a lambda surrounds this place, whose type would no longer be known."""
    body = left_operand(code, at, r"(?!)") - 1
    while body > 0:
        if re.search(r"\][^\[\]{};]*$", code[code.rfind("\n\n", 0, body) + 1 : body]):
            return True
        body = left_operand(code, body, r"(?!)") - 1
    return False


def return_early(code):
    for found in re.finditer(r"\breturn ([^;{}]*);", code):
        if re.fullmatch(r"0|false|true|nullptr|-?1|\*this|x|1\.0|0\.0", found[1]):
            continue
        truth = re.search(r" (?:&&|\|\||==|!=|<|>|<=|>=) ", found[1]) and " ? " not in found[1]
        if truth:
            yield "return a constant", found.start(1), found.end(1), "true"
        elif not in_lambda(code, found.start()):
            yield "return a constant", found.start(1), found.end(1), "{}"


# How often each is drawn: the gross ones, which any test finds, less.
WEIGHTS = {
    "drop condition": 3.0,
    "flip comparison": 1.5,
    "swap min and max": 1.5,
    "swap + and -": 0.5,
    "return a constant": 0.5,
}

KINDS = (
    drop_conditions,
    negate_conditions,
    flip_comparisons,
    off_by_one,
    swap_min_max,
    drop_statements,
    swap_plus_minus,
    return_early,
)


def one_line(text):
    return " ".join(text.split())


def statement_around(text, start, end):
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", end)
    return first, len(text) if last < 0 else last


def make(header, text, kind, start, end, replacement, name=None, seen=None):
    first, last = statement_around(text, start, end)
    before = one_line(text[first:last])
    after = one_line(text[first:start] + replacement + text[end:last])
    if name is None:
        # The words before tell equal lines of a file apart, the number what is left equal.
        key = f"{header}|{kind}|{before}|{after}"
        seen[key] = seen.get(key, 0) + 1
        name = hashlib.sha256(f"{key}|{seen[key]}".encode()).hexdigest()[:8]
    line = text.count("\n", 0, start) + 1
    return Mutant(name, header, line, kind, before, after, start, end, replacement)


# Decides while compiling alone; tests/fail checks its words.
UNTOUCHED = ("fdroute/concepts.hpp", "fdroute/detail/checks/requirements.hpp")


def mutants_of(header, text):
    """All mutants of a header."""
    if header in UNTOUCHED:
        return []
    code = mask(text)
    seen = {}
    found = {}
    for kind in KINDS:
        for name, start, end, replacement in kind(code):
            # Literals are blank in `code`; what is kept must be the text itself.
            original = code[start:end]
            if original.strip() and original in replacement:
                replacement = replacement.replace(original, text[start:end], 1)
            mutant = make(header, text, name, start, end, replacement, seen=seen)
            found[(start, end, replacement)] = mutant
    return list(found.values())


# ---- By hand: (name, pattern, replacement). A pattern must be found once in all of the headers.

NAMED = (
    # Large logits by the kernel for small ones: rows centred at 900 to 20,000.
    ("far-rows", r" \|\| !near\)", ")"),
    # An all -inf row is left to the kernels, which give it no status.
    ("no-finite", r"(?:\w+\.)?ordinary\[\w+\] = false;", ";"),
    # The lanes after a group's end take part in its score.
    ("group-end", r"const int inside = [^;]*;", "const int inside = 16;"),
    # Of equal logits the later takes the place of the earlier.
    ("small-ties", r"key > best\[i\]", "key >= best[i]"),
    # Sets of a ranking of its own are renormalised about the row's largest logit.
    ("set-weights", r"\(keys_are_logits && !ranks\)", "true"),
    # Masked experts beyond the finite ones are ranked among themselves.
    ("masked-order", r"finite >= n \? finite : 0", "finite"),
)


def named_mutants(texts):
    """The mutants by hand, and the names of those whose code is gone or stands there twice."""
    mutants, lost = [], []
    for name, pattern, replacement in NAMED:
        places = [(h, m) for h, text in texts.items() for m in re.finditer(pattern, text)]
        if len(places) == 1:
            header, found = places[0]
            place = (found.start(), found.end(), replacement)
            mutants.append(make(header, texts[header], "by hand", *place, name=name))
        else:
            lost.append(f"{name}: {len(places)} places match {pattern!r}, one should")
    return mutants, lost


def sample(mutants, seed, number, weight):
    """`number` of the mutants by a weighted draw that depends on their ids alone: a change of one
    header leaves the draw of the others as it was."""

    def priority(mutant):
        digest = hashlib.sha256(f"{seed}|{mutant.id}".encode()).digest()
        uniform = (int.from_bytes(digest[:8], "big") + 1) / 2**64
        return uniform ** (1.0 / weight(mutant))

    return sorted(mutants, key=priority, reverse=True)[:number]
