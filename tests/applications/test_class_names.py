"""A network's classes and those of the data are the same, in the same order."""

import json
import types

import pytest

from applications.common.models import check_class_names
from applications.localize import stream
from applications.localize.__main__ import _line
from applications.localize.settings import Settings
from tests import harness

NAMES = ["dog", "cat"]


@pytest.mark.parametrize(
    "known, names",
    [(NAMES, NAMES), (NAMES, ["0", "1"]), (["0", "1"], NAMES), (None, NAMES)],
)
def test_the_same_and_numbers_pass(known, names):
    check_class_names("run", known, "./voc", names)
    check_class_names("run", NAMES, "./voc", None)


def test_another_order_and_other_names_are_refused():
    for names in (["cat", "dog"], ["Dog", "cat"]):
        with pytest.raises(ValueError) as error:
            check_class_names("run", NAMES, "./voc", names)
        start = "--dataset must have the classes of --run in their order, whose class 0"
        harness.assert_one_sentence(error.value, start)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """A function of flags, and of the names in a data set, that opens it for a run."""
    (tmp_path / "run.json").write_text(json.dumps({"flags": {}, "class_names": NAMES}))
    network = types.SimpleNamespace(
        classes=2,
        model=types.SimpleNamespace(
            inputs=[types.SimpleNamespace(shape=(None, 8, 8, 3))]
        ),
    )

    def open_data(found, **flags):
        def of_data(*_, class_names, **__):  # a folder takes the names, TFDS does not
            return types.SimpleNamespace(class_names=found or class_names)

        monkeypatch.setattr(stream, "stream_boxes", of_data)
        settings = Settings(run=str(tmp_path), dataset="./voc", **flags)
        return stream.open_stream(settings, network, "test", 1)

    return open_data


def test_a_folder_has_the_names_of_the_run(opened):
    assert opened(None).class_names == NAMES
    # Who gives them knows what they are called in the folder.
    assert opened(None, class_names=("Hund", "Katze")).class_names == ["Hund", "Katze"]
    assert opened(["dog", "cat"])
    with pytest.raises(ValueError, match="--dataset must have the classes of --run"):
        opened(["cat", "dog"])


def test_a_row_names_its_run():
    given = {"run": "--run=runs/plain", "output_dir": "--output_dir=x"}
    measures = types.SimpleNamespace(row=dict)
    line = _line(Settings(given=given), {}, "gradient", measures)
    assert line["flags"] == "--run=runs/plain"
