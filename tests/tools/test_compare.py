import csv

import keras
import pytest

from tests import harness
from tools import compare

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports are TensorFlow's affair"
)
QUICK = {"model": "lenet", "batch_size": 2, "repeats": 1, "seconds": 0.01}


def test_each_precision_has_a_network_of_its_own():
    settings = compare.Settings(**QUICK)
    found = [
        compare.build(settings, name).layers[1].compute_dtype
        for name in ("bfloat16", "float32", "bfloat16")
    ]
    assert found == ["bfloat16", "float32", "bfloat16"]
    assert keras.config.dtype_policy().name == "float32"


def test_a_row_for_each(tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("openvino")
    peer = tmp_path / "peer.py"
    peer.write_text(
        "import torch\n"
        "def make():\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))\n"
    )
    path = tmp_path / "rows.csv"
    compare.main(
        compare.Settings(
            **QUICK, engines=("keras", "openvino"), peer=str(peer), csv=str(path)
        )
    )
    with path.open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["mode"], row["precision"], row["engine"]) for row in rows}
    assert len(rows) == 10 and found == {
        (mode, precision, engine)
        for mode in ("inference", "training")
        for precision in ("float32", "bfloat16")
        for engine in ("keras", "openvino", "peer")
        if (mode, engine) != ("training", "openvino")
    }
    for row in rows:
        assert float(row["images_per_s"]) > 0 and float(row["to_peer"]) > 0
        assert (float(row["to_peer"]) == 1) == (row["engine"] == "peer")
    assert "lenet, batch 2" in capsys.readouterr().out


def test_a_peer_that_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError) as error:
        compare.Settings(**QUICK, peer=str(tmp_path / "none.py")).check()
    harness.assert_one_sentence(error.value, "--peer must be a file")


@pytest.mark.parametrize(
    "options",
    [
        {"engines": ("onnx", "litert"), "precisions": ("bfloat16",)},
        {"engines": ("xla", "openvino"), "mode": ("training",)},
    ],
)
def test_engines_that_compute_nothing_of_it_are_refused(options):
    with pytest.raises(ValueError) as error:
        compare.main(compare.Settings(**{**QUICK, **options}))
    harness.assert_one_sentence(
        error.value, "--engines must be some that compute in --mode and --precisions"
    )
