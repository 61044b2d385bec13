import numpy as np
import pytest
from keras import ops

from kfeedback.layers import LocalResponseNormalization
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import operations as reference

X = np.random.default_rng(5).normal(0, 2, (8, 3, 4, 12)).astype("float32")
SETTINGS = [
    {"size": 1, "alpha": 0.5, "beta": 0.75, "k": 1.0},
    {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0},
    {"size": 5, "alpha": 0.9, "beta": 0.75, "k": 2.0},
    {"size": 7, "alpha": 0.9, "beta": 0.5, "k": 1.0},
    {"size": 25, "alpha": 0.9, "beta": 1.0, "k": 0.5},
]


@pytest.mark.parametrize("check", LAYER_CHECKS)
def test_harness(check):
    check_layer(
        lambda **kwargs: LocalResponseNormalization(3, alpha=0.3, name="lrn", **kwargs),
        [X],
        checks=[check],
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_the_reference(settings):
    result = harness.to_numpy(LocalResponseNormalization(**settings)(X))
    np.testing.assert_allclose(result, reference.lrn(X, **settings), rtol=1e-5)


@harness.tensorflow_only
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_tensorflow(settings):
    import tensorflow as tf

    # TensorFlow counts the radius, and does not divide alpha by the window.
    expected = tf.nn.local_response_normalization(
        X,
        depth_radius=settings["size"] // 2,
        bias=settings["k"],
        alpha=settings["alpha"] / settings["size"],
        beta=settings["beta"],
    )
    result = harness.to_numpy(LocalResponseNormalization(**settings)(X))
    np.testing.assert_allclose(result, expected.numpy(), rtol=1e-5)


def test_gradient():
    layer = LocalResponseNormalization(3, alpha=0.6)
    x = X[:1, :1, :1]
    weights = np.random.default_rng(6).normal(size=x.shape).astype("float32")
    _, (found,) = harness.gradients(layer, [x], lambda y: ops.sum(y * weights))
    step = 1e-4
    for i in range(x.shape[-1]):
        move = np.zeros(x.shape)
        move[..., i] = step
        up, down = (
            (reference.lrn(x + sign * move, 3, 0.6, 0.75, 1.0) * weights).sum()
            for sign in (1, -1)
        )
        np.testing.assert_allclose(
            found[0, 0, 0, i], (up - down) / (2 * step), rtol=1e-3, atol=1e-4
        )


def test_large_activations_in_float16():
    """Those of images of 255 have squares that float16 cannot hold."""
    x = 200 * X
    layer = LocalResponseNormalization(dtype="float16")
    expected = reference.lrn(x, 5, 1e-4, 0.75, 1.0)
    np.testing.assert_allclose(
        harness.to_numpy(layer(x)), expected, rtol=0.01, atol=0.01
    )


@pytest.mark.parametrize("alpha", [-1e-4, float("nan"), "1"])
def test_refuses_alpha(alpha):
    with pytest.raises(ValueError) as caught:
        LocalResponseNormalization(alpha=alpha)
    harness.assert_one_sentence(caught.value, "alpha")


@pytest.mark.parametrize("argument, value", [("k", 0), ("k", -1), ("beta", -0.1)])
def test_refuses_what_divides_by_zero(argument, value):
    with pytest.raises(ValueError) as caught:
        LocalResponseNormalization(**{argument: value})
    harness.assert_one_sentence(caught.value, argument)


@pytest.mark.parametrize("size", [0, 2, -3, 3.0, True, None])
def test_refuses(size):
    with pytest.raises(ValueError, match=r"^size must .*, got .*\.$"):
        LocalResponseNormalization(size)
