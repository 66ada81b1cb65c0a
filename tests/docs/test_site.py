"""The site: every page is in it, no warning, and it asks nobody outside for anything."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from page_commands import PAGES, ROOT

pytestmark = pytest.mark.docs
LINK = r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)="(?:\w+:)?//[^>]*>"""
IMPORT = r"""@import|url\(["']?(?:\w+:)?//"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it, without a warning."""
    folder = tmp_path_factory.mktemp("site")
    words = re.search(r"\$\(BIN\)/sphinx-build (.*) site$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert words
    line = [sys.executable, "-m", "sphinx", "-d", folder / "trees", *words[1].split(), folder / "site"]
    told = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    return folder / "site"


def test_every_page_is_built_and_is_in_the_navigation(site: Path) -> None:
    entry = (site / "index.html").read_text(encoding="utf-8")
    for page in PAGES:
        built = page.relative_to(ROOT).with_suffix(".html")
        assert (site / built).is_file()
        assert f'href="{built}"' in entry or built.name == "README.html"


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > len(PAGES)
    for path in files:
        assert not re.findall(f"{LINK}|{IMPORT}", path.read_text(encoding="utf-8")), path


def test_equations_are_mathml_and_need_no_script(site: Path) -> None:
    page = (site / "docs/methods.html").read_text(encoding="utf-8")
    assert page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') >= 9
    assert "$$" not in page
    assert not re.findall(r"<script[^>]*math", page, re.IGNORECASE)
