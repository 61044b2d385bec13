import keras
import numpy as np
import pytest

from kfeedback.layers import FusedBatchNormalization
from kfeedback.layers.fused_batch_norm import affine, batch_norm
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
@pytest.mark.parametrize("policy", [*harness.POLICIES, "float64"])
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


@pytest.mark.parametrize("policy", harness.POLICIES)
@pytest.mark.parametrize("function", ["layer", "batch_norm", "affine"])
def test_gradients_are_sums_in_float32(policy, function):
    """Of 65,536 terms each: in 16 bits such a sum stops growing long before."""
    random = np.random.default_rng(4)
    x = random.normal(1, 2, (64, 32, 32, 3)).astype("float32")
    weights = np.abs(x) / 60

    def objective(y):
        return keras.ops.sum(keras.ops.cast(y, "float32") * weights)

    class Bare(FusedBatchNormalization):
        def call(self, inputs, training=None):
            x = keras.ops.cast(inputs, self.compute_dtype)
            gamma, beta = (
                keras.ops.convert_to_tensor(v) for v in (self.gamma, self.beta)
            )
            if function == "batch_norm":
                return batch_norm(x, gamma, beta, self.epsilon)[0]
            moments = x.shape[-1:]
            mean, variance = keras.ops.ones(moments), 4 * keras.ops.ones(moments)
            return affine(x, gamma, beta, mean, variance, self.epsilon)

    tested = FusedBatchNormalization if function == "layer" else Bare
    found = harness.gradients(
        make(tested, x.shape, policy=policy), [x], objective, training=True
    )[0]
    centered = (x - 1) / 2
    if function != "affine":
        centered = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    tolerance = 1e-3 if policy == "float32" else 0.02
    np.testing.assert_allclose(
        found["norm/beta"], weights.sum((0, 1, 2)), rtol=tolerance
    )
    np.testing.assert_allclose(
        found["norm/gamma"], (weights * centered).sum((0, 1, 2)), rtol=tolerance
    )


def test_other_ranks_are_those_of_keras():
    x = X[:, 0, 0]
    fused, plain = (
        harness.to_numpy(make(layer_type, x.shape)(x, training=True))
        for layer_type in (FusedBatchNormalization, KERAS)
    )
    harness.assert_bit_equal(fused, plain, "rank 2")
