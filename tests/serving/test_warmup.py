"""The requests that a server runs before it serves a version."""

import sys

import keras
import numpy as np
import pytest

import kfeedback
from applications.common.bare_process import ask
from tests.serving.common import lenet, make, tiny

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's affair"
)


def records(path):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    file = path / "assets.extra" / "tf_serving_warmup_requests"
    return [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(file))
    ]


def test_every_record_is_a_prediction_log_that_runs(tmp_path):
    pytest.importorskip("tensorflow_serving")
    model = make(kfeedback.LRNet, backbone=lenet(), timesteps=2, return_sequences=True)
    path = kfeedback.serving.export(
        model, tmp_path / "named", preprocessing="scale", warmup_batches=(1, 3)
    )
    logs = [log.predict_log.request for log in records(path)]
    assert {log.model_spec.name for log in logs} == {"named"}
    expected = ("serving_default", "image_bytes", "timesteps", "early_exit")
    found = [log.model_spec.signature_name for log in logs]
    assert found == [name for name in expected for _ in range(2)]
    answers = ask([(path, x.model_spec.signature_name, dict(x.inputs)) for x in logs])
    for n, answer in enumerate(answers):
        assert answer.error is None, answer.error
        assert len(answer.outputs["probabilities"]) == (1, 3)[n % 2]
        assert np.isfinite(answer.outputs["probabilities"]).all()


@pytest.mark.parametrize("batches", [{}, {"warmup_batches": [3]}])
def test_without_the_package_all_else_is_written(tmp_path, monkeypatch, batches):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.warns(UserWarning, match=r"warming up are left out.*\[serving\]"):
        path = kfeedback.serving.export(tiny(), tmp_path / "m", **batches)
    assert (path / "saved_model.pb").is_file()
    assert [file.name for file in (path / "assets.extra").iterdir()] == ["README.md"]


def test_without_the_package_nothing_is_said_of_what_nobody_wants(
    tmp_path, monkeypatch, recwarn
):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    kfeedback.serving.export(tiny(), tmp_path / "m", warmup_batches=())
    assert not [one for one in recwarn if "warming" in str(one.message)]


def test_no_more_requests_than_a_server_takes(tmp_path):
    pytest.importorskip("tensorflow_serving")
    with pytest.raises(ValueError, match="at most 1000 requests"):
        kfeedback.serving.export(tiny(), tmp_path / "m", warmup_batches=[1] * 1001)
    assert not list((tmp_path / "m").iterdir())
