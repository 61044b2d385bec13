"""The pages: links lead somewhere, blocks are run, names and numbers are there."""

import doctest
import importlib.util
import inspect
import io
import pathlib
import re
import sys

import keras
import matplotlib
import numpy as np
import pytest

import kfeedback
from tests import harness

ROOT = pathlib.Path(__file__).parents[1]
DOCS = sorted(path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts)
RESULTS = sorted(ROOT.glob("applications/results/**/*.md"))
PAGES = [*ROOT.glob("*.md"), *DOCS, *RESULTS]
MOST_WORDS = 1200
# Directives of a page that hold no code.
NO_CODE = ("{toctree}", "{literalinclude}", "{eval-rst}")

_spec = importlib.util.spec_from_file_location(
    "docstrings", ROOT / "docs" / "_ext" / "docstrings.py"
)
docstrings = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(docstrings)


def _anchors(page):
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles
    }


def _blocks(page):
    """`(language, code, the comment before it)` of each fenced block."""
    pattern = r"(?:^<!-- ([^\n]+) -->\n)?^```([^\n]*)\n(.*?)^```$"
    return [
        (language.split(" ")[0], code, comment)
        for comment, language, code in re.findall(pattern, page, re.M | re.S)
    ]


def test_links():
    count = 0
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?:", link):
                continue
            path, _, anchor = link.partition("#")
            folder = ROOT if path.startswith("/") else page.parent
            target = (folder / path.lstrip("/")).resolve() if path else page
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
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= MOST_WORDS
    assert text.count("![") == 1
    assert "![" in "\n".join(text.split("\n")[:8])


# --- Code ----------------------------------------------------------------------------


def _not_run(text):
    """The blocks that nothing runs and that do not say why."""
    found = []
    for language, code, comment in _blocks(text):
        is_run = language in ("{code-cell}", *NO_CODE)
        reason = re.match(r"not run: \S+ \S+", comment)
        if not is_run and not reason:
            found.append(code)
    return found


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_every_block_is_run_or_says_why_not(page):
    assert not _not_run(page.read_text())


def test_a_block_that_is_not_run_is_found():
    assert _not_run("text\n\n```python\nimport keras\n```\n") == ["import keras\n"]
    assert _not_run("<!-- not run: -->\n```\nmake\n```\n") == ["make\n"]
    assert not _not_run("<!-- not run: needs a server -->\n```\nmake\n```\n")
    assert not _not_run("```{code-cell}\nimport keras\n```\n")


@harness.tensorflow_only
def test_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    random = np.random.default_rng(0)
    keras.utils.save_img("mine.jpg", random.uniform(0, 255, (300, 400, 3)))
    kfeedback.models.backbones.LeNet().save("my_model.keras")
    names = {
        "images": random.uniform(size=(16, 28, 28, 1)).astype("float32"),
        "labels": random.integers(10, size=16),
    }
    count = 0
    for language, code, comment in _blocks((ROOT / "README.md").read_text()):
        if language == "python":
            # The weights of VGG16 are a download, and its loop is long.
            exec(
                code.replace('weights="imagenet"', "weights=None, iterations=1"), names
            )
            count += 1
        else:
            assert comment.startswith("not run: ")
    assert count == 4
    assert keras.utils.load_img("where.png").size[0] > 100
    assert names["posteriors"].shape == (16, 10)


def test_a_picture_of_an_own_image_takes_five_lines():
    first = _blocks((ROOT / "README.md").read_text())[0]
    assert "where.png" in first[1]
    assert sum(map(bool, first[1].split("\n"))) <= 5


# --- Names ---------------------------------------------------------------------------


def _public():
    """`(module, name, value)` of every public name."""
    return [
        (module, name, value)
        for module in docstrings.public_modules().values()
        for name, value in docstrings.members(module).items()
    ]


@harness.tensorflow_only
def test_every_public_name_has_a_place_on_a_page():
    modules = docstrings.public_modules()
    assert {"kfeedback", "kfeedback.layers", "kfeedback.explain.metrics"} <= set(
        modules
    )
    for module in modules.values():
        page = docstrings.page(module)
        for name in docstrings.members(module):
            assert re.search(rf"^\.\. .+:: {module.__name__}\.{name}$", page, re.M)


@harness.tensorflow_only
def test_every_argument_has_a_description():
    missing, count = {}, 0
    for module, name, value in _public():
        if not callable(value):
            continue
        where, full = sys.modules[value.__module__], f"{module.__name__}.{name}"
        asked = {full: (value, None)}
        if inspect.isclass(value):
            for method, function in docstrings.methods(value).items():
                asked[f"{full}.{method}"] = function, value
        for asked_name, (function, owner) in asked.items():
            count += 1
            found = docstrings.undescribed(function, where, owner)
            if found or not function.__doc__:
                missing[asked_name] = found
    assert not missing
    assert count > 200


def test_an_argument_without_a_description_is_found():
    def known(images, sigma, *rest):
        """Blurs.

        Args:
            images: what to blur.
            *rest: more.
        """

    assert docstrings.undescribed(known, kfeedback) == {"sigma"}


# --- Numbers -------------------------------------------------------------------------


def _numbers(text):
    """Numbers with two decimals, as percentages have them; no versions."""
    return set(re.findall(r"(?<!Python ≥ )(?<![\d.])\d+\.\d\d(?![\d.])", text))


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "docs" / "results.md", *ROOT.glob("docs/papers/*.md")],
    ids=lambda page: page.stem,
)
def test_numbers_are_those_of_the_results(page):
    measured = set().union(*(_numbers(path.read_text()) for path in RESULTS))
    found = _numbers(page.read_text())
    assert found
    assert found <= measured, found - measured


class _Checker(doctest.OutputChecker):
    """An example that shows no output may give any."""

    def check_output(self, want, got, optionflags):
        return not want or super().check_output(want, got, optionflags)


def _examples():
    """`(name, value)` of every public name with examples that run as they are."""
    for module, name, value in _public():
        text = inspect.getdoc(value) or ""
        needs_files = '"./' in text or '"birds' in text or '"imagenet")' in text
        if callable(value) and ">>>" in text and not needs_files:
            yield f"{module.__name__}.{name}", value


def test_many_names_have_examples():
    assert len(dict(_examples())) > 60


@harness.tensorflow_only
@pytest.mark.parametrize("name, value", _examples(), ids=dict(_examples()))
def test_the_example_of(name, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    given = {"keras": keras, "np": np, "kfeedback": kfeedback}
    given["images"] = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    pool = keras.layers.GlobalAveragePooling2D()
    layers = [keras.Input((32, 32, 3)), pool, keras.layers.Dense(10, "softmax")]
    given["model"] = keras.Sequential(layers)
    given["model"].compile(loss="sparse_categorical_crossentropy")
    names = {**vars(sys.modules[value.__module__]), **given}
    text, said = inspect.getdoc(value), io.StringIO()
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    runner = doctest.DocTestRunner(_Checker(), False, doctest.ELLIPSIS)
    assert not runner.run(test, out=said.write).failed, said.getvalue()
