"""The pages: their links lead somewhere, and the README stays short."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("applications/results/**/*.md"),
]
MOST_WORDS = 1200


def _anchors(page):
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles
    }


def test_links():
    count = 0
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if re.match(r"https?:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), (page, link)
            if anchor:
                assert anchor in _anchors(target), (page, link)
            count += 1
    assert count > 50


def test_every_result_is_on_its_page():
    for folder in (ROOT / "applications" / "results").iterdir():
        if folder.is_dir():
            text = (folder / "README.md").read_text()
            for file in folder.iterdir():
                assert f"]({file.name})" in text or file.name == "README.md", file


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= MOST_WORDS
