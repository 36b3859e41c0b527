# The documentation site: ./bootstrap docs. Its pages are README.md, docs/*.md and what api.py makes of the headers.
import pathlib
import re
import sys

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here))
import api  # noqa: E402

project = "fdroute"
author = "The fdroute authors"
number = re.findall(r"#define FDROUTE_VERSION_[A-Z]+ (\d+)", (here / "../../include/fdroute/version.hpp").read_text())
version = release = ".".join(number)
html_title = f"fdroute {version}"

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # a page of the headers begins where the header does
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "api/*.md", "bench/README.md",
                    "bench/*/README.md", "reference/*/*.md", "tests/*/README.md", "tests/mutation/survivors.md"]
highlight_language = "none"
html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_search_summary = False  # it would have to fetch pages, which a browser forbids for files
html_copy_source = html_show_sourcelink = html_show_copyright = False
pygments_style, pygments_dark_style = "tango", "monokai"

CONTENTS = {
    "Start": ["docs/install", "docs/quickstart", "docs/your-model", "docs/command-line", "docs/python"],
    "Concepts": ["docs/rankings", "docs/scores", "docs/nulls", "docs/rules", "docs/weights", "docs/results",
                 "docs/residency", "docs/numerics", "docs/rationale"],
    "Policies": ["docs/policies", "docs/presets"],
    "Engines": ["docs/embedding", "docs/c-api", "docs/eigen", "docs/llama-cpp", "docs/onnxruntime", "docs/pytorch",
                "docs/toolchains"],
    "The reference": ["docs/reference-model", "docs/experiments", "docs/corrections", "docs/benchmarks",
                      "reference/model/MODEL_CARD", "reference/hf/README", "bench/README"],
    "Reliability": ["docs/reliability", "docs/security", "tests/mutation/README", "tests/mutation/survivors"],
    "The code": ["docs/architecture", "api/index", "CONTRIBUTING", "CHANGELOG"],
}


def read_page(app, name, source):
    """A page as the site has it: formulas set, links to headers lead to their reference; the first has the contents."""
    if name.startswith("api/"):
        return
    up = "../" * name.count("/")
    header = r"\]\((?:\.\./)*include/fdroute/(\w+)(?:\.hpp|\.h|/(?:\w+\.hpp)?)\)"
    text = re.sub(header, rf"]({up}api/\1.md)", source[0])
    if name == "README":
        for caption, pages in CONTENTS.items():
            text += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"
    source[0] = api.with_formulas(text)


def setup(app):
    app.connect("source-read", read_page)
