import keras
import numpy as np
import pytest

from kfeedback.layers import FusedBatchNormalization
from tests import harness

X = np.random.default_rng(3).normal(2, 3, (8, 4, 5, 6)).astype("float32")
KERAS = keras.layers.BatchNormalization


def make(layer_type=FusedBatchNormalization, shape=X.shape, **kwargs):
    harness.fresh_names(kwargs.pop("policy", "float32"))
    layer = layer_type(name="norm", **kwargs)
    layer.build(shape)
    return harness.randomize(layer)


@pytest.mark.parametrize("check", harness.LAYER_CHECKS)
def test_harness(check):
    harness.check_layer(
        lambda **kwargs: FusedBatchNormalization(name="norm", **kwargs),
        [X],
        checks=[check],
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("policy", harness.POLICIES)
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"epsilon": 0.1, "momentum": 0.5},
        {"scale": False},
        {"axis": 1},
        {"trainable": False},
    ],
)
def test_equals_keras(kwargs, policy, training):
    results, states = [], []
    for layer_type in (FusedBatchNormalization, KERAS):
        layer = make(layer_type, policy=policy, **kwargs)
        results.append(harness.to_numpy(layer(X, training=training)))
        states.append([np.asarray(w.numpy()) for w in layer.weights])
    tolerance = 1e-5 if policy == "float32" else 0.05
    np.testing.assert_allclose(*results, rtol=tolerance, atol=tolerance)
    for fused, plain in zip(*states, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=tolerance, atol=tolerance)


def test_gradients_equal_those_of_keras():
    weights = np.random.default_rng(4).normal(size=X.shape).astype("float32")
    fused, plain = (
        harness.gradients(
            make(layer_type),
            [X],
            lambda y: keras.ops.sum(y * weights),
            training=True,
        )
        for layer_type in (FusedBatchNormalization, KERAS)
    )
    for name, gradient in fused[0].items():
        np.testing.assert_allclose(gradient, plain[0][name], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(fused[1][0], plain[1][0], rtol=1e-3, atol=1e-4)


def test_other_ranks_are_those_of_keras():
    x = X[:, 0, 0]
    fused, plain = (
        harness.to_numpy(make(layer_type, x.shape)(x, training=True))
        for layer_type in (FusedBatchNormalization, KERAS)
    )
    harness.assert_bit_equal(fused, plain, "rank 2")
