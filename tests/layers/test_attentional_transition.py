import numpy as np
import pytest

from kfeedback.layers import AttentionalTransition
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import operations as reference

X = np.random.default_rng(3).normal(size=(8, 4, 5, 6)).astype("float32")


@pytest.mark.parametrize("check", LAYER_CHECKS)
def test_harness(check):
    check_layer(
        lambda **kwargs: AttentionalTransition(name="attention", **kwargs),
        [X],
        checks=[check],
    )


def test_equals_the_reference():
    layer = AttentionalTransition(name="attention")
    layer.build(X.shape)
    harness.randomize(layer)
    weights = {w.name: np.asarray(w.numpy()) for w in layer.weights}
    hidden = reference.dense(X.mean((1, 2)), weights["kernel_1"], weights["bias_1"])
    scores = reference.dense(
        reference.relu(hidden), weights["kernel_2"], weights["bias_2"]
    )
    expected = reference.emphasis(X, 1 / (1 + np.exp(-scores)))
    np.testing.assert_allclose(harness.to_numpy(layer(X)), expected, atol=1e-5)


def test_parameters():
    layer = AttentionalTransition()
    layer.build((None, 7, 7, 144))
    assert layer.count_params() == 144 * 72 * 2 + 72 + 144


def test_refuses_an_odd_number_of_channels():
    with pytest.raises(ValueError) as caught:
        AttentionalTransition().build((None, 4, 4, 7))
    harness.assert_one_sentence(caught.value, "x")
