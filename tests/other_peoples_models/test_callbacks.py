"""Callbacks of Keras that watch our metrics."""

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback.metrics import TimestepMetric
from tests.other_peoples_models.common import IMAGES, small


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("accuracy", "up"),
        ("sparse_categorical_accuracy", "up"),
        (keras.metrics.SparseTopKCategoricalAccuracy(2), "up"),
        ("sparse_categorical_crossentropy", "down"),
    ],
)
def test_callbacks_know_which_way_is_better(metric, direction):
    net = kfeedback.LRNet(small(), timesteps=2, return_sequences=True)
    metric = TimestepMetric(metric, name="watched")
    net.compile("sgd", kfeedback.losses.TimestepLoss("sparse_categorical_crossentropy"))
    net.compile(net.optimizer, net.loss, metrics=[metric])
    stop = keras.callbacks.EarlyStopping("val_watched", patience=5)
    labels = np.arange(5) % 3
    net.fit(
        IMAGES, labels, validation_data=(IMAGES, labels), callbacks=[stop], verbose=0
    )
    assert (stop.monitor_op(1.0, 0.0)) == (direction == "up")
