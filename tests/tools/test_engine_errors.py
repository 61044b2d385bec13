import csv

import keras
import pytest

from applications.common.command_line import parse
from tests import harness
from tools import engine_errors

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports are TensorFlow's affair"
)
TAG = "lenet_mnist_bg_sample"


@pytest.mark.slow
def test_errors_of_engines(tmp_path):
    pytest.importorskip("nncf")
    path = tmp_path / "rows.csv"
    engine_errors.main(
        engine_errors.Settings(weights=TAG, calibration=50, csv=str(path))
    )
    with path.open() as file:
        rows = list(csv.DictReader(file))
    errors = {(row["precision"], row["engine"]): float(row["error"]) for row in rows}
    assert len(rows) == len(errors) == 6
    # What the card of the weights says.
    assert errors["float32", "keras"] == errors["float32", "openvino"] == 5.17
    assert all(abs(error - 5.17) < 1 for error in errors.values())
    assert keras.config.dtype_policy().name == "float32"


def test_preprocessing_is_that_of_the_weights():
    with pytest.raises(ValueError, match="--preprocessing must be left out with"):
        parse(engine_errors.Settings, [f"--weights={TAG}", "--preprocessing=torch"])


def test_engines_that_compute_nothing_of_it_are_refused():
    settings = engine_errors.Settings(
        weights=TAG, engines=("onnx",), precisions=("bfloat16",)
    )
    with pytest.raises(ValueError) as error:
        engine_errors.main(settings)
    harness.assert_one_sentence(
        error.value, "--engines must be some that compute in --precisions, got onnx"
    )
