import numpy as np
import pytest

from applications.common import data
from kfeedback.datasets import load_arrays


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_some_classes_are_kept(monkeypatch, backend):
    monkeypatch.setattr(data.keras.backend, "backend", lambda: backend)
    images, labels, _ = load_arrays("synthetic", "test[:60]")
    kept = np.isin(labels, [8, 1])
    settings = data.Data(dataset="synthetic", classes=("8", "1"), batch_size=16)
    found = data.get_arrays(settings, "test[:60]")
    batches, info = data.load(settings, "test[:60]")
    np.testing.assert_array_equal(found[0], images[kept])
    np.testing.assert_array_equal(found[1], labels[kept] == 1)
    assert found[2] == info and info.class_names == ("8", "1")
    batches = [batches[i] for i in range(len(batches))] if backend == "jax" else batches
    read = np.concatenate([np.asarray(y) for _, y in batches])
    np.testing.assert_array_equal(read, found[1])
