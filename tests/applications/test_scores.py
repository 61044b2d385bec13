import types

import keras
import numpy as np
import pytest

from applications.common import scores
from applications.evaluate.__main__ import predict
from applications.robustness.settings import Settings
from applications.robustness.sweep import Sweep


def test_the_label_is_among_the_k_best():
    posteriors = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    found = [scores.top_k_error(posteriors, np.array([2, 2]), k) for k in (1, 2, 3)]
    assert found == [100, 50, 0]


def test_several_labels_have_no_top_k_error():
    with pytest.raises(ValueError, match=r"one class a sample, \(N,\), got"):
        scores.top_k_error(np.ones((3, 2)), np.ones((3, 2)), 1)
    info = types.SimpleNamespace(multi_label=True, name="voc")
    with pytest.raises(ValueError, match="--dataset must have one label an image"):
        scores.require_one_label(info)


def test_the_mean_of_an_image_and_its_mirror():
    image = keras.Input((2, 3, 1))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    images = np.random.default_rng(0).normal(size=(4, 2, 3, 1)).astype("float32")
    batches = [(images, np.zeros(4, int))]
    found, _ = predict(model, batches, flip_average=True)
    both = model.predict_on_batch(images), model.predict_on_batch(images[:, :, ::-1])
    np.testing.assert_allclose(found[:, 0], sum(both) / 2, atol=1e-6)
    assert np.abs(found - predict(model, batches)[0]).max() > 0.01


def test_rows_of_other_crops_are_other_rows():
    def dataset(**flags):
        settings = Settings(dataset="folder", image_size=8, **flags)
        return Sweep._dataset(types.SimpleNamespace(_settings=settings))

    assert dataset() == "folder image_size=8"
    assert dataset(center_crop=0.875) == "folder image_size=8 center_crop=0.875"
