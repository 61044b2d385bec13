"""Tests of `tools.curves`."""

import csv
import json

import pytest

from tests.applications.command import run_alone
from tools import curves

_HEAD = "epoch,accuracy_t1,accuracy_t2,loss,val_accuracy_t1,val_accuracy_t2\n"


def _run(folder, text, experiment):
    folder.mkdir()
    (folder / "epochs.csv").write_text(text)
    about = {"flags": {"experiment": experiment}}
    (folder / "run.json").write_text(json.dumps(about))
    return folder


@pytest.fixture
def one(tmp_path):
    lines = "0,0.5,0.625,2.0,0.25,0.375\n1,0.75,0.875,1.0,0.5,0.9044\n"
    return _run(tmp_path / "one-0", _HEAD + lines, "two_looks")


def test_errors_of_every_look(one):
    rows = curves.epochs(one)
    assert [*rows[0]] == [
        *("experiment", "epoch", "training_error_t1", "training_error_t2"),
        *("test_error_t1", "test_error_t2"),
    ]
    assert [*rows[1].values()] == ["two_looks", 2, "25.00", "12.50", "50.00", "9.56"]


def test_runs_of_unlike_looks(one, tmp_path):
    text = "epoch,accuracy_t1,loss,val_accuracy_t1\n0,0.5,1.0,0.25\n"
    other = _run(tmp_path / "other", text, "")
    flags = [f"--runs={one},{other}", f"--csv={tmp_path / 'all.csv'}"]
    run_alone("tools.curves", *flags, f"--png={tmp_path / 'all.png'}", "--title=Two")
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["experiment"] for row in rows] == ["two_looks"] * 2 + ["other"]
    assert rows[2]["test_error_t1"] == "75.00" and rows[2]["test_error_t2"] == ""
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_draws_the_last_look(one, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves.figures, "save", lambda figure, *_: drawn.append(figure))
    curves.draw(curves.epochs(one), tmp_path / "one.png")
    training, test = drawn[0].axes[0].lines
    assert [*training.get_ydata()] == [37.5, 12.5]
    assert [*test.get_ydata()] == [62.5, 9.56]
    assert test.get_label() == "two_looks: 9.56 %"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "must be folders of applications.train"),
        ("epoch,loss\n", "with an error after each epoch"),
        ("epoch,accuracy_t1,val_accuracy_t1\n0,0.5,\n", "an error after each epoch"),
    ],
)
def test_what_is_no_finished_run(tmp_path, text, error):
    folder = tmp_path / "nothing" if text is None else _run(tmp_path / "a", text, "a")
    with pytest.raises(ValueError, match=error):
        curves.epochs(folder)
