"""Make the training, development and held-out text of the nano OLMoE from files that Debian 12 packages ship.

    apt-get install --no-install-recommends bible-kjv bible-kjv-text wordnet-base dict-jargon dict-devil \\
        libpython3.11-stdlib postgresql-doc-15 sqlite3-doc
    python3 prepare_text.py --train ../../build/hf/text --held-out ../model/text --development ../model/development

Seven domains, each public domain or permissively licensed; the copyright file of every package is hashed into
TRAIN/sources.json next to its version, and ../model/MODEL_CARD.md says what those files grant:

    bible     King James Version              bible-kjv-text         public domain
    wordnet   glosses and examples            wordnet-base           WordNet 3.0 licence (permissive)
    jargon    The Jargon File 4.4.7           dict-jargon            public domain
    devil     The Devil's Dictionary          dict-devil             public domain
    python    standard library sources        libpython3.11-stdlib   PSF licence (permissive)
    postgres  manual, HTML                    postgresql-doc-15      PostgreSQL licence (permissive)
    sqlite    documentation, HTML             sqlite3-doc            public domain

Text is NFC, LF, no trailing blanks, paragraphs one blank line apart, hard-wrapped prose unwrapped. A document is a
chapter, forty synsets, a dictionary entry, a source file or a page. A paragraph of 60 characters or more is kept only
where it first occurs, so none stands in two of the three parts. The split is by whole documents in the order of their
names' hashes, none above 16 KiB: 32 KiB or a little more go to the held-out slice, the next 16 KiB to the development
slice, on which choices about training and parameters of policies are made, and all else to TRAIN/<domain>.txt, where a
line holding <|endoftext|> separates documents. Slices separate them by a blank line. Beside a slice, <domain>.documents
says where they lie: a line "BYTES NAME" for each, in order; the blank line before a document belongs to it. There the
entries of a dictionary are grouped, in the slice's order, until a group has 3 KiB, so that documents are of one size.

Run with: Python 3.11 on Debian 12, the package versions in MODEL_CARD.md.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html.parser
import json
import pathlib
import re
import subprocess
import unicodedata
from collections.abc import Iterator

SEPARATOR = "<|endoftext|>"
HELD_OUT_BYTES, DEV_BYTES = 32 * 1024, 16 * 1024
SLICE_DOCUMENT_BYTES = 16 * 1024
GROUP_BYTES = 3 * 1024  # of dictionary entries that make one document of a slice
SHARE = pathlib.Path("/usr/share")

Documents = Iterator[tuple[str, str]]  # (name, text)


def unwrap(paragraph: str) -> str:
    """One line of a hard-wrapped paragraph; verse, which is indented further than prose, keeps its lines."""
    lines = [line.rstrip() for line in paragraph.split("\n")]
    return "\n".join(lines) if lines[0].startswith("    ") else " ".join(line.strip() for line in lines)


def bible() -> Documents:
    printed = subprocess.run(["bible", "-f", "Gen1:1-Rev22:21"], capture_output=True, text=True, check=True).stdout
    chapters: dict[str, list[str]] = {}
    for line in printed.splitlines():
        verse = re.fullmatch(r"(\w+?)(\d+):(\d+) (.*)", line)
        if verse is None:
            raise ValueError(f"bible printed {line!r}")
        chapters.setdefault(f"{verse[1]} {verse[2]}", []).append(verse[4].strip())
    for name, verses in chapters.items():
        yield name, "\n\n".join(" ".join(verses[i : i + 6]) for i in range(0, len(verses), 6))


def wordnet() -> Documents:
    for part in ("noun", "verb", "adj", "adv"):
        entries = []
        for line in (SHARE / "wordnet" / f"data.{part}").read_text().splitlines():
            if line.startswith("  "):  # the licence at the head of the file
                continue
            fields, _, gloss = line.partition(" | ")
            fields = fields.split()
            words = [fields[4 + 2 * i].split("(")[0].replace("_", " ") for i in range(int(fields[3], 16))]
            entries.append(f"{', '.join(words)} ({part}): {gloss.strip()}")
        for i in range(0, len(entries), 40):
            yield f"{part} {i}", "\n\n".join(entries[i : i + 40])


def jargon() -> Documents:
    with gzip.open(SHARE / "dictd" / "jargon.dict.dz", "rt", encoding="utf-8") as file:
        text = file.read()
    text = text[text.index("\n(TM)\n") :]
    for entry in re.split(r"\n(?=\S)", text):
        # Entries indent everything; four columns more mark quotations and transcripts.
        head, _, body = entry.strip("\n").partition("\n")
        pronunciation, _, body = body.partition("\n\n")
        paragraphs = [unwrap(re.sub(r"(?m)^ {4}", "", p)) for p in body.split("\n\n")]
        text = "\n\n".join([f"{head.strip()}  {pronunciation.strip()}".strip(), *paragraphs])
        yield head, re.sub(r"\{([^{}]*)\}", r"\1", text)


def devil() -> Documents:
    with gzip.open(SHARE / "dictd" / "devil.dict.dz", "rt", encoding="utf-8") as file:
        text = file.read()
    text = text[text.index("\nABASEMENT") :]
    for entry in re.split(r"\n(?=[A-Z][A-Z' -]+[,.])", text):
        yield entry.strip().split(",")[0][:40], "\n\n".join(unwrap(p) for p in entry.strip("\n").split("\n\n"))


def python() -> Documents:
    root = pathlib.Path("/usr/lib/python3.11")
    listed = subprocess.run(
        ["dpkg-query", "-L", "libpython3.11-stdlib"], capture_output=True, text=True, check=True
    ).stdout
    generated = ("encodings/", "pydoc_data/", "_sysconfigdata", "html/entities", "stringprep", "lib2to3/")
    for path in sorted(map(pathlib.Path, listed.split())):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
        if path.suffix == ".py" and not path.is_symlink() and path.is_file() and not name.startswith(generated):
            yield name, path.read_text(encoding="utf-8")


class Page(html.parser.HTMLParser):
    """Readable text of a documentation page: a paragraph a block, a line a table row, <pre> as it stands."""

    BLOCKS = {
        "p",
        "div",
        "li",
        "dt",
        "dd",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "blockquote",
        "table",
        "ul",
        "ol",
        "dl",
        "tr",
        "center",
    }
    SKIPPED = {"script", "style", "svg", "head", "button", "form"}
    SKIPPED_CLASSES = {
        "navheader",
        "navfooter",
        "nosearch",
        "toc",
        "fancy_toc",
        "menu",
        "mainmenu",
        "submenu",
        "searchmenu",
        "imgcontainer",
    }

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.paragraphs: list[str] = []
        self.words: list[str] = []
        self.skipping: list[str] = []  # open elements since the one that started a skip
        self.preformatted = 0

    def flush(self) -> None:
        text = "".join(self.words)
        if not self.preformatted:
            text = " ".join(text.split()).removesuffix(" |")
        if any(map(str.isalnum, text)):
            self.paragraphs.append(text.strip("\n"))
        self.words = []

    def handle_starttag(self, tag, attributes):
        classes = set((dict(attributes).get("class") or "").split())
        if self.skipping:
            if tag == self.skipping[0]:
                self.skipping.append(tag)
        elif tag in self.SKIPPED or (tag in {"div", "table"} and classes & self.SKIPPED_CLASSES):
            self.flush()
            self.skipping.append(tag)
        elif tag == "pre":
            self.flush()
            self.preformatted += 1
        elif tag in self.BLOCKS and not self.preformatted:
            self.flush()
        elif tag == "br":
            self.words.append("\n" if self.preformatted else " ")

    def handle_endtag(self, tag):
        if self.skipping:
            if tag == self.skipping[0]:
                self.skipping.pop()
        elif tag == "pre" and self.preformatted:
            self.flush()
            self.preformatted -= 1
        elif tag in ("td", "th"):
            self.words.append(" | ")
        elif tag in self.BLOCKS and not self.preformatted:
            self.flush()

    def handle_data(self, data):
        if not self.skipping:
            self.words.append(data)


def pages(root: pathlib.Path, unwanted: str) -> Documents:
    for path in sorted(root.rglob("*.html")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink() or re.match(unwanted, name):
            continue
        page = Page()
        page.feed(path.read_text(encoding="utf-8", errors="strict"))
        page.close()
        page.flush()
        yield name, "\n\n".join(page.paragraphs)


def postgres() -> Documents:
    return pages(
        SHARE / "doc" / "postgresql-doc-15" / "html", r"release|bookindex|biblio|features|index\.html|legalnotice"
    )


def sqlite() -> Documents:
    return pages(
        SHARE / "doc" / "sqlite3",
        r"c3ref/|session/|releaselog/|requirements|syntaxdiagrams|syntax/|changes|chronology|oldnews|news|sitemap|"
        r"keyword_index|doc_\w+_crossref|copyright|codeofethics|search|hp1|index\.html|docs\.html|matrix|toc",
    )


DOMAINS = {
    "bible": (bible, "bible-kjv-text"),
    "wordnet": (wordnet, "wordnet-base"),
    "jargon": (jargon, "dict-jargon"),
    "devil": (devil, "dict-devil"),
    "python": (python, "libpython3.11-stdlib"),
    "postgres": (postgres, "postgresql-doc-15"),
    "sqlite": (sqlite, "sqlite3-doc"),
}


def normalize(text: str) -> list[str]:
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\xa0", " ").expandtabs(8))
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return [p.strip("\n") for p in re.split(r"\n{2,}", text) if p.strip()]


def provenance(package: str) -> dict[str, str]:
    version = subprocess.run(
        ["dpkg-query", "-W", "-f=${Version}", package], capture_output=True, text=True, check=True
    ).stdout
    licence = (SHARE / "doc" / package / "copyright").read_bytes()
    return {"package": package, "version": version, "copyright_sha256": hashlib.sha256(licence).hexdigest()}


def take(ranked: list[str], documents: dict[str, str], size: int) -> list[str]:
    """Remove names from the head of `ranked` until their documents reach `size` bytes; returns them in name order."""
    taken = []
    while size > 0:
        taken.append(ranked.pop(0))
        size -= len(documents[taken[-1]].encode())
    return sorted(taken)


def write_slice(folder: pathlib.Path, domain: str, names: list[str], documents: dict[str, str]) -> None:
    """Write FOLDER/<domain>.txt and, beside it, <domain>.documents."""
    pieces = ["\n" * (i > 0) + documents[name] for i, name in enumerate(names)]
    (folder / f"{domain}.txt").write_text("".join(pieces), encoding="utf-8")
    least = GROUP_BYTES if domain in ("jargon", "devil") else 0
    groups: list[tuple[int, list[str]]] = []
    for name, piece in zip(names, pieces, strict=True):
        size = len(piece.encode())
        if groups and groups[-1][0] < least:
            groups[-1] = (groups[-1][0] + size, [*groups[-1][1], name])
        else:
            groups.append((size, [name]))
    if len(groups) > 1 and groups[-1][0] < least / 2:
        size, last = groups.pop()
        groups[-1] = (groups[-1][0] + size, groups[-1][1] + last)
    lines = [f"{size} {g[0] if len(g) == 1 else g[0] + ' to ' + g[-1]}\n" for size, g in groups]
    (folder / f"{domain}.documents").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=pathlib.Path, required=True)
    parser.add_argument("--held-out", type=pathlib.Path, required=True)
    parser.add_argument("--development", type=pathlib.Path, required=True)
    args = parser.parse_args()
    for folder in (args.train, args.held_out, args.development):
        folder.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    sources = {}
    for domain, (read, package) in DOMAINS.items():
        documents = {}
        for name, text in read():
            paragraphs = [p for p in normalize(text) if len(p) < 60 or p not in seen]
            seen.update(p for p in paragraphs if len(p) >= 60)
            if sum(map(len, paragraphs)) >= 200:
                documents[name] = "\n\n".join(dict.fromkeys(paragraphs)) + "\n"
        ranked = sorted(
            (n for n in documents if len(documents[n].encode()) <= SLICE_DOCUMENT_BYTES),
            key=lambda name: hashlib.sha256(f"{domain}/{name}".encode()).digest(),
        )
        held_out = take(ranked, documents, HELD_OUT_BYTES)
        dev = take(ranked, documents, DEV_BYTES)
        write_slice(args.held_out, domain, held_out, documents)
        write_slice(args.development, domain, dev, documents)
        for name in (*held_out, *dev):
            del documents[name]
        (args.train / f"{domain}.txt").write_text(f"{SEPARATOR}\n".join(documents.values()), encoding="utf-8")
        sources[domain] = provenance(package) | {
            "documents": len(documents),
            "bytes": (args.train / f"{domain}.txt").stat().st_size,
            "held_out_documents": held_out,
            "held_out_bytes": (args.held_out / f"{domain}.txt").stat().st_size,
        }
        print(domain, json.dumps(sources[domain]))
    (args.train / "sources.json").write_text(json.dumps(sources, indent=2) + "\n")


if __name__ == "__main__":
    main()
