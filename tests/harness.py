"""Random weights and images, gradients and comparisons, for layers and models."""

import os
import zlib

import keras
import numpy as np
import pytest
from keras import ops

# A batch of 8 and 8 single images are matrix products of other shapes, so sums run in
# another order: float32 probabilities differ in their last bits, never by more.
BATCH_RTOL, BATCH_ATOL = 2e-5, 2e-6

# JAX compiles each operation for each shape; what takes it long runs elsewhere.
tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="slow on other backends"
)

# Another backend compiles every operation for each: its quick run has one.
POLICIES = os.environ.get(
    "HARNESS_POLICIES", "float32,mixed_bfloat16,mixed_float16"
).split(",")


def fresh_names(policy="float32"):
    """Forgets the names that Keras has given, as a new process would."""
    keras.backend.clear_session(free_memory=False)  # this resets the policy, too
    keras.config.set_dtype_policy(policy)


def random_images(shape, count=8, seed=0):
    """`count` images with pixels in [-1, 1]."""
    uniform = np.random.default_rng(seed).uniform
    return uniform(-1, 1, (count, *shape)).astype("float32")


def to_numpy(value):
    """A float32 array of a tensor of any float dtype."""
    return ops.convert_to_numpy(ops.cast(value, "float32"))


def randomize(layer, seed=0):
    """Gives every float weight a random value that depends on its path and the seed.

    So weights that start at zero take part, and models that share paths share
    values. Variances stay positive and scales stay near 1, to keep signals alive.
    """
    for variable in layer.weights:
        if "float" not in variable.dtype:
            continue
        random = np.random.default_rng([seed, zlib.crc32(variable.path.encode())])
        shape = tuple(variable.shape)
        name = variable.path.rsplit("/", 1)[-1]
        if "variance" in name:
            value = random.uniform(0.5, 1.5, shape)
        elif name == "gamma":
            value = random.uniform(0.7, 1.3, shape)
        elif len(shape) > 1:
            # The last axis of a depthwise kernel is no sum's result.
            inputs = np.prod(shape[:-1] if shape[-1] > 1 else shape[:-2])
            value = random.normal(0, np.sqrt(2 / inputs), shape)
        else:
            value = random.normal(0, 0.1, shape)
        variable.assign(value.astype("float32"))
    for one in layer._flatten_layers():
        if isinstance(one, keras.layers.Normalization):
            one.finalize_state()  # it keeps what follows from its weights
    return layer


def settle(model, images):
    """Sets the statistics of every batch norm to those of `images`.

    In a deep network with random statistics signals fade or explode, and then every
    image gives one prediction, which hides faults.
    """
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(ops.convert_to_tensor(images), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model


def gradients(layer, inputs, objective, training=None):
    """Gradients of `objective(layer(*inputs))`, as float32 arrays.

    Returns:
        `(by_path, for_inputs)`: a dict from the path of each trainable weight, and a
        list with one array for each input. `None` stands for no gradient at all.
    """
    inputs = [ops.convert_to_tensor(x) for x in inputs]
    if not layer.built:
        layer(*inputs)
    variables = layer.trainable_variables
    kwargs = {} if training is None else {"training": training}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = objective(layer(*inputs, **kwargs))
        found = tape.gradient(value, [v.value for v in variables] + inputs)
    else:
        import jax

        def function(trainable, inputs):
            fixed = [v.value for v in layer.non_trainable_variables]
            outputs, _ = layer.stateless_call(trainable, fixed, *inputs, **kwargs)
            return objective(outputs)

        values = [v.value for v in variables]
        for_weights, for_inputs = jax.grad(function, (0, 1))(values, inputs)
        found = [*for_weights, *for_inputs]
    arrays = [None if g is None else to_numpy(g) for g in found]
    paths = [v.path for v in variables]
    assert len(set(paths)) == len(paths), f"weights share a path: {paths}"
    return dict(zip(paths, arrays, strict=False)), arrays[len(paths) :]


def assert_all_flow(found, what):
    """Asserts that every gradient is there, finite and not zero everywhere."""
    assert found, f"{what}: nothing to train"
    missing = [name for name, g in found.items() if g is None]
    assert not missing, f"{what}: no gradient for {missing}"
    wild = [name for name, g in found.items() if not np.isfinite(g).all()]
    assert not wild, f"{what}: gradient is not finite for {wild}"
    zero = [name for name, g in found.items() if not np.any(g)]
    assert not zero, f"{what}: gradient is zero for {zero}"


def assert_bit_equal(actual, expected, what):
    """Asserts equal shapes and bits."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: {actual.shape}, {expected.shape}"
    difference = np.abs(actual.astype("float64") - expected.astype("float64"))
    assert np.array_equal(actual, expected), f"{what}: differ by {difference.max()}"


def assert_one_sentence(error, argument):
    """Asserts that an error is one sentence that starts with the argument's name."""
    text = str(error)
    assert "\n" not in text, text
    assert text.startswith(argument), f"does not start with {argument!r}: {text}"
    assert text.endswith("."), f"is no sentence: {text}"
    assert "got" in text or "do not fit" in text, f"does not say what it got: {text}"
    # A point followed by a space ends a sentence.
    assert ". " not in text, f"is more than one sentence: {text}"


def run_checks(checks, wanted, case):
    """Runs the wanted checks; an error says which one it was."""
    for name in checks if wanted is None else wanted:
        try:
            checks[name](case)
        except Exception as error:
            error.add_note(f"harness check: {name}")
            raise
