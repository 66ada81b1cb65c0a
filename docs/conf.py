"""The site, built by `make docs` from the pages as they are; README's list of pages is its navigation."""

import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

project = "EquiRAN"
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**"]
exclude_patterns = [".*", "build", "runs", "site", "tests"]
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "EquiRAN"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
highlight_language = "none"
pygments_style, pygments_dark_style = "default", "github-dark"

DECISIONS = "docs/decisions/README"


def navigation(page: str) -> str:
    """One table of contents for each line `- **Caption:** links` of the page."""
    tables = []
    for caption, links in re.findall(r"^- \*\*(.+?):\*\* ((?:.+\n)(?:  .+\n)*)", page, re.MULTILINE):
        names = re.findall(r"\]\(([^)#:]+)\.md\)", links)
        tables.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```"]))
    return "\n\n".join(tables)


def add_navigation(_: Sphinx, name: str, source: list[str]) -> None:
    """The pages stay plain Markdown: what only Sphinx reads is added here."""
    if name == root_doc:
        source[0] += "\n\n" + navigation(source[0])
    elif name == DECISIONS:
        source[0] += "\n\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```"


def write_inline(writer: Any, node: nodes.math) -> None:
    """As MathML, which browsers draw without a script."""
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def write_block(writer: Any, node: nodes.math_block) -> None:
    """The same, on lines of its own."""
    writer.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def add_index(app: Sphinx, error: Exception | None) -> None:
    """The folder opens with the README."""
    if error is None:
        shutil.copyfile(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    """Sphinx's hook."""
    app.add_html_math_renderer("mathml", inline_renderers=(write_inline, None), block_renderers=(write_block, None))
    app.connect("source-read", add_navigation)
    app.connect("build-finished", add_index)
