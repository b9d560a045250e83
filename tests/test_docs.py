"""The README and the pages in docs/: what they promise can be checked by a machine in part."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_readme_links_every_page():
    text = (ROOT / "README.md").read_text()
    assert not [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in text]


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().split()) <= 1200


def test_the_lines_of_python_in_the_readme_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) == 4
    names = {"image": torch.full((3, 96, 160), 128, dtype=torch.uint8)}
    exec(lines, names)
    (output,) = names["outputs"]
    assert output["instances"].image_size == (96, 160)
    assert 0 < output["bits"] < 8 * 96 * 160
    # Grey comes back grey: the weights are trained ones.
    assert (output["reconstruction"].float() - 128).abs().mean() < 10
