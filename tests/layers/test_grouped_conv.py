import keras
import numpy as np
import pytest

from kfeedback.layers import GroupedConv2D
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import operations as reference

X = np.random.default_rng(5).normal(0, 1, (8, 6, 7, 4)).astype("float32")


@pytest.mark.parametrize("check", LAYER_CHECKS)
def test_harness(check):
    check_layer(
        lambda **kwargs: GroupedConv2D(6, 3, groups=2, name="conv", **kwargs),
        [X],
        checks=[check],
    )


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("padding, stride", [("same", 1), ("valid", 2)])
def test_equals_the_reference(groups, padding, stride):
    layer = GroupedConv2D(8, 3, stride, padding, groups=groups, activation="relu")
    layer.build(X.shape)
    harness.randomize(layer)
    result = harness.to_numpy(layer(X))
    kernel, bias = (harness.to_numpy(w) for w in layer.weights)
    assert kernel.shape == (3, 3, 4 // groups, 8)
    parts = [
        reference.conv2d(x, k, 0.0, padding, stride)
        for x, k in zip(
            np.split(X, groups, -1), np.split(kernel, groups, -1), strict=True
        )
    ]
    expected = reference.relu(np.concatenate(parts, axis=-1) + bias)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_equals_keras():
    layers = [
        make(6, 3, groups=2, name="conv")
        for make in (GroupedConv2D, keras.layers.Conv2D)
    ]
    results = []
    for layer in layers:
        layer.build(X.shape)
        harness.randomize(layer)
        results.append(harness.to_numpy(layer(X)))
    assert [w.path for w in layers[0].weights] == [w.path for w in layers[1].weights]
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)
