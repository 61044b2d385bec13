"""A file with other columns is refused before what takes long."""

import importlib
import pathlib
import types

import pytest

from applications.common.command_line import parse
from applications.common.rows import check_columns
from applications.evaluate import __main__ as evaluate
from applications.train import __main__ as train
from tests import harness
from tools import costs

pytestmark = harness.tensorflow_only
RESULTS = pathlib.Path(__file__).parents[2] / "applications" / "results"
FLAGS = {
    "compare": ["--model=lenet"],
    "engine_errors": ["--weights=lenet_mnist_bg_sample"],
    "feedback_speed": [],
    "input_speed": ["--images=5,3"],
    "serving_speed": ["--model=lenet"],
    "startup": [],
    "step_profile": ["--model=lenet"],
}


@pytest.mark.parametrize("name", FLAGS)
def test_it_is_refused(name, tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_text("date,error\n")
    tool = importlib.import_module(f"tools.{name}")
    settings = parse(tool.Settings, [*FLAGS[name], f"--csv={path}"])
    with pytest.raises(ValueError, match="--csv must be a file with the columns"):
        tool.main(settings)
    assert path.read_text() == "date,error\n"


def test_published_rows_have_the_columns_of_today(tmp_path):
    headers = [path.open().readline() for path in RESULTS.rglob("*.csv")]
    known = {
        name: importlib.import_module(f"tools.{name}").COLUMNS
        for name in FLAGS.keys() - {"input_speed"}
    }
    known |= {"benchmark": costs.COLUMNS, "evaluate": evaluate.EXITS}
    info = types.SimpleNamespace(num_examples=1)
    settings = train.Settings(output_dir="runs/any")
    known["train"] = train._row(settings, [], 0.0, info)
    for name, columns in known.items():
        path = tmp_path / f"{name}.csv"
        check_columns(path, columns)
        assert path.read_text() in headers, name


@pytest.mark.parametrize(
    "flag",
    ["validation_freq=2", "distribution=mirrored", "tensorboard", "results=x.csv"],
)
def test_input_speed_refuses_what_it_does_not_do(flag):
    tool = importlib.import_module("tools.input_speed")
    with pytest.raises(ValueError, match=r"must be left out with tools\.input_speed"):
        parse(tool.Settings, [f"--{flag}"])
