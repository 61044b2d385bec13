import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.layers import Feedback
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import lrnet as reference
from tests.reference import operations


def posterior(classes=10, count=8, seed=3):
    scores = np.random.default_rng(seed).normal(0, 2, (count, classes))
    return operations.softmax(scores).astype("float32")


@pytest.mark.parametrize("check", LAYER_CHECKS)
def test_harness(check):
    check_layer(
        lambda **kwargs: Feedback(7, name="feedback", **kwargs),
        [posterior()],
        output_dtype="float32",
        checks=[check],
    )


def test_starts_at_exactly_one_for_every_number_of_channels():
    p = ops.convert_to_tensor(posterior(classes=3, count=2))
    # 49, 98, 103, … are those where n * (1 / n) is not 1 in floating point.
    channels = [1, 3, 49, 98, 103, 187, 197, 513]
    if keras.backend.backend() == "tensorflow":  # JAX compiles for each of them
        channels += [*range(1, 601, 8), 192, 600, 2048]
    wrong = []
    for count in channels:
        vector = harness.to_numpy(Feedback(count)(p))
        if not np.array_equal(vector, np.ones((2, count))):
            wrong.append(count)
    assert not wrong


@pytest.mark.parametrize("policy", harness.POLICIES)
def test_starts_at_exactly_one_under_every_policy(policy):
    for channels in (3, 20, 50, 192, 513):
        vector = Feedback(channels, dtype=policy)(posterior())
        assert np.array_equal(harness.to_numpy(vector), np.ones((8, channels)))


@pytest.mark.parametrize("classes, channels", [(1, 4), (2, 1), (10, 20), (100, 192)])
def test_equals_the_reference(classes, channels):
    layer = Feedback(channels, name="feedback")
    p = posterior(classes)
    layer.build(p.shape)
    harness.randomize(layer)
    kernel, bias = layer.get_weights()
    assert kernel.shape == (classes, channels)
    assert bias.shape == (channels,)
    vector = harness.to_numpy(layer(p))
    np.testing.assert_allclose(vector, reference.feedback(p, kernel, bias), rtol=1e-5)
    np.testing.assert_allclose(vector.mean(axis=1), 1.0, rtol=1e-5)
    assert (vector > 0).all()


@pytest.mark.parametrize("policy", harness.POLICIES[1:])
def test_computes_in_the_dtype_of_its_weights(policy):
    results = []
    for dtype in ("float32", policy):
        layer = Feedback(50, name="feedback", dtype=dtype)
        layer.build((None, 10))
        results.append(harness.to_numpy(harness.randomize(layer)(posterior())))
    harness.assert_bit_equal(results[1], results[0], policy)


def test_survives_large_scores():
    layer = Feedback(6, kernel_initializer=keras.initializers.RandomNormal(0, 500))
    vector = harness.to_numpy(layer(posterior()))
    assert np.isfinite(vector).all()
    np.testing.assert_allclose(vector.mean(axis=1), 1.0, rtol=1e-5)


def test_learns_from_zero():
    layer = Feedback(5)
    p = posterior(4)
    layer.build(p.shape)
    target = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    by_path, _ = harness.gradients(layer, [p], lambda a: ops.sum(a * target))
    harness.assert_all_flow(by_path, "zero weights")
    # By hand: da_i/dâ_j = [i = j] - 1/C at a = 1, and â = W p + b.
    scores = target - target.mean(axis=1, keepdims=True)
    kernel, bias = by_path.values()
    np.testing.assert_allclose(kernel, p.T @ scores, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias, scores.sum(axis=0), rtol=1e-4, atol=1e-6)


def test_regularizer_acts_on_the_kernel_only():
    layer = Feedback(5, kernel_regularizer="l2", kernel_initializer="ones")
    layer(posterior())
    assert len(layer.losses) == 1
    np.testing.assert_allclose(float(layer.losses[0]), 0.01 * 50, rtol=1e-5)


@pytest.mark.parametrize("channels", [0, -1, 1.5, True, None, "7"])
def test_refuses(channels):
    with pytest.raises(ValueError, match=r"^channels must .*, got .*\.$"):
        Feedback(channels)
