"""Tests of `tools.curves`."""

import json

import pytest

from applications.common.command_line import parse
from tests.applications.command import read_rows
from tools import curves

_HEAD = "epoch,accuracy_t1,accuracy_t2,loss,val_accuracy_t1,val_accuracy_t2\n"
_TWO = _HEAD + "0,0.5,0.625,2.0,0.25,0.375\n1,0.75,0.875,1.0,0.5,0.9044\n"
_ONE = "epoch,accuracy_t1,loss,val_accuracy_t1\n0,0.5,1.0,0.25\n"


def _run(folder, text, experiment=""):
    folder.mkdir()
    (folder / "epochs.csv").write_text(text)
    about = {"flags": {"experiment": experiment, "seed": 3}}
    (folder / "run.json").write_text(json.dumps(about))
    return folder


@pytest.fixture
def two_looks(tmp_path):
    return _run(tmp_path / "one-0", _TWO, "two_looks")


def test_errors_of_every_look(two_looks):
    rows = curves.epochs(two_looks)
    assert rows[1] == {
        "experiment": "two_looks",
        "seed": 3,
        "epoch": 2,
        "training_error_t1": "25.00",
        "training_error_t2": "12.50",
        "test_error_t1": "50.00",
        "test_error_t2": "9.56",
    }


def test_runs_of_unlike_looks(two_looks, tmp_path):
    other = _run(tmp_path / "other", _ONE)
    flags = [f"--runs={two_looks},{other}", f"--csv={tmp_path / 'new' / 'all.csv'}"]
    flags += [f"--png={tmp_path / 'new' / 'all.png'}", "--names=a,b", "--title=Two"]
    curves.main(parse(curves.Settings, flags))
    rows = read_rows(tmp_path / "new" / "all.csv")
    assert [row["experiment"] for row in rows] == ["two_looks"] * 2 + ["other"]
    assert rows[2]["test_error_t1"] == "75.00" and rows[2]["test_error_t2"] == ""
    assert (tmp_path / "new" / "all.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_draws_the_last_look_of_each(two_looks, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves.figures, "save", lambda figure, *_: drawn.append(figure))
    one_look = curves.epochs(_run(tmp_path / "other", _ONE))
    curves.draw([("a", curves.epochs(two_looks)), ("b", one_look)], "unused.png")
    lines = drawn[0].axes[0].lines
    found = [[*line.get_ydata()] for line in lines]
    assert found == [[37.5, 12.5], [62.5, 9.56], [50.0], [75.0]]
    assert lines[1].get_label() == "a: test 9.56 %"
    assert len({line.get_color() for line in lines}) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", None),
        ("run.json", ""),
        ("run.json", "[]"),
        ("run.json", "{}"),
        ("epochs.csv", None),
        ("epochs.csv", ""),
        ("epochs.csv", "epoch,loss\n"),
        ("epochs.csv", "accuracy_t1,val_accuracy_t1\n0.5,0.5\n"),
        ("epochs.csv", "epoch,accuracy_t1,val_accuracy_t1\n0,0.5,\n"),
        ("epochs.csv", "epoch,accuracy_t1,val_accuracy_t1\n0,0.5\n"),
        ("epochs.csv", "epoch,accuracy_t1\n0,0.5\n"),
        ("epochs.csv", "epoch,accuracy_t1,val_accuracy_t1\n0,0.5,abc\n"),
    ],
)
def test_what_is_no_run(two_looks, name, text):
    (two_looks / name).unlink()
    if text is not None:
        (two_looks / name).write_text(text)
    with pytest.raises(ValueError, match=r"^--runs must be .* got .*one-0"):
        curves.epochs(two_looks)


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--csv=a.csv"], "--runs must be given, got none"),
        (["--csv=a.csv", "--runs="], "--runs must be given, got none"),
        (["--csv={run}/epochs.csv", "--runs={run}"], "--csv must be outside"),
        (["--csv=a.csv", "--runs={run},{run}/"], "--runs must be different"),
        (["--csv=a.csv", "--runs={run}", "--png=a.xyz"], "--png must be a file.png"),
        (["--csv=a.csv", "--runs={run}", "--title=a"], "--title"),
        (
            ["--csv=a.csv", "--runs={run}", "--png=a.png", "--names=a,b"],
            "--names must name each of the 1 runs, got 2",
        ),
    ],
)
def test_flags_that_cannot_be(two_looks, flags, error):
    flags = [flag.format(run=two_looks) for flag in flags]
    with pytest.raises(ValueError, match=f"^{error}"):
        parse(curves.Settings, flags)
