import keras
import numpy as np
import pytest

from kfeedback.layers import FusedBatchNormalization
from kfeedback.layers.fused_batch_norm import _parts, batch_norm, normalize_by_moments
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer

X = np.random.default_rng(3).normal(2, 3, (8, 4, 5, 6)).astype("float32")
KERAS = keras.layers.BatchNormalization


def make(layer_type=FusedBatchNormalization, shape=X.shape, **kwargs):
    harness.fresh_names(kwargs.pop("policy", "float32"))
    layer = layer_type(name="norm", **kwargs)
    layer.build(shape)
    return harness.randomize(layer)


@pytest.mark.parametrize("check", LAYER_CHECKS)
def test_harness(check):
    check_layer(
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
@pytest.mark.parametrize("function", ["layer", "batch_norm", "normalize_by_moments"])
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
            return normalize_by_moments(x, gamma, beta, mean, variance, self.epsilon)

    tested = FusedBatchNormalization if function == "layer" else Bare
    found = harness.gradients(
        make(tested, x.shape, policy=policy), [x], objective, training=True
    )[0]
    centered = (x - 1) / 2
    if function != "normalize_by_moments":
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


def reference(x, gamma, beta, epsilon, upstream):
    """Batch norm and its gradients for `x`, γ and β, in NumPy."""
    axes = (0, 1, 2)
    mean, variance = x.mean(axes), x.var(axes)
    inverse = 1 / np.sqrt(variance + epsilon)
    normal = (x - mean) * inverse
    of_gamma, of_beta = (upstream * normal).sum(axes), upstream.sum(axes)
    count = x.size / x.shape[3]
    of_x = upstream - of_beta / count - normal * of_gamma / count
    moments = (mean, variance)
    return (
        normal * gamma + beta,
        *moments,
        gamma * inverse * of_x,
        of_gamma,
        of_beta,
    )


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a kernel of TensorFlow"
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "height, width, channels, parts",
    [(8, 8, 16, 1), (6, 6, 36, 4), (7, 8, 20, 4), (4, 4, 3, 16), (7, 7, 36, 1)],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_pixels_side_by_side_change_nothing(
    height, width, channels, parts, batch, dtype
):
    import tensorflow as tf

    assert _parts((None, height, width, channels)) == parts
    random = np.random.default_rng(5)
    x, upstream = random.normal(1, 2, (2, batch, height, width, channels))
    gamma, beta = random.uniform(0.5, 2, (2, channels))
    x, upstream = (np.asarray(tf.cast(one, dtype), "float64") for one in (x, upstream))
    tensors = (
        tf.constant(x, dtype),
        *(tf.constant(one, "float32") for one in (gamma, beta)),
    )

    @tf.function  # where the number of images is not known
    def run(x, gamma, beta):
        with tf.GradientTape() as tape:
            tape.watch([x, gamma, beta])
            y, mean, variance = batch_norm(x, gamma, beta, 0.1)
            loss = tf.reduce_sum(y * tf.constant(upstream, dtype))
        return y, mean, variance, *tape.gradient(loss, [x, gamma, beta])

    shapes = [tf.TensorSpec((None, *x.shape[1:]), dtype), *tensors[1:]]
    found = run.get_concrete_function(*shapes)(*tensors)
    wanted = reference(x, gamma, beta, 0.1, upstream)
    for one, value in zip(found, wanted, strict=True):
        tolerance = 2e-5 if one.dtype == tf.float32 else 0.02
        scale = np.abs(value).max() * tolerance
        np.testing.assert_allclose(np.asarray(one, "float64"), value, atol=scale)
