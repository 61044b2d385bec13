import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.layers import Contextual, contextual
from kfeedback.layers.contextual import MODULES
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import crcn as reference

RANDOM = np.random.default_rng(5)
BOTTOM_UP = RANDOM.normal(size=(8, 4, 6, 3)).astype("float32")
TOP_DOWN = {
    "same size, same channels": (4, 6, 3),
    "half the size, other channels": (2, 3, 5),
    "half the size, same channels": (2, 3, 3),
    "same size, other channels": (4, 6, 2),
}
TOP_DOWN = {
    name: RANDOM.normal(size=(8, *shape)).astype("float32")
    for name, shape in TOP_DOWN.items()
}

# JAX compiles each operation for each shape: the other sizes run there by
# KERAS_BACKEND=jax python -m pytest -m slow tests/layers/test_contextual.py
QUICK = TOP_DOWN
if keras.backend.backend() != "tensorflow":
    QUICK = ("half the size, other channels",)
SIZES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in TOP_DOWN
]


@pytest.mark.parametrize("check", LAYER_CHECKS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("module", MODULES)
def test_harness(module, sizes, check):
    check_layer(
        lambda **kwargs: Contextual(module, name="contextual", **kwargs),
        [BOTTOM_UP, TOP_DOWN[sizes]],
        checks=[check],
    )


@pytest.mark.parametrize("sizes", TOP_DOWN)
@pytest.mark.parametrize("module", MODULES)
def test_equals_the_reference(module, sizes):
    layer = Contextual(module, name="contextual")
    layer(BOTTOM_UP, TOP_DOWN[sizes])
    harness.randomize(layer)
    weights = {w.path.removeprefix("contextual/"): w.numpy() for w in layer.weights}
    assert ("align/kernel" in weights) == ("other channels" in sizes)
    expected = reference.contextual(BOTTOM_UP, TOP_DOWN[sizes], weights, module)
    result = harness.to_numpy(layer(BOTTOM_UP, TOP_DOWN[sizes]))
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert np.abs(result - BOTTOM_UP).max() > 0.1


def test_enlarges_by_any_integer():
    bottom_up = RANDOM.normal(size=(2, 6, 9, 2)).astype("float32")
    top_down = RANDOM.normal(size=(2, 2, 3, 2)).astype("float32")
    layer = Contextual(name="contextual")
    layer(bottom_up, top_down)
    harness.randomize(layer)
    weights = {w.path.removeprefix("contextual/"): w.numpy() for w in layer.weights}
    expected = reference.contextual(bottom_up, top_down, weights, "proposed")
    result = harness.to_numpy(layer(bottom_up, top_down))
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_the_reference_tells_the_modules_apart():
    """Where they have weights of the same shapes."""
    layer = Contextual(1, name="contextual")
    layer(BOTTOM_UP, BOTTOM_UP)
    harness.randomize(layer)
    weights = {w.path.removeprefix("contextual/"): w.numpy() for w in layer.weights}
    one, three = (
        reference.contextual(BOTTOM_UP, BOTTOM_UP[::-1], weights, module)
        for module in (1, 3)
    )
    assert np.abs(one - three).max() > 0.1


@pytest.mark.parametrize("policy", harness.POLICIES)
@pytest.mark.parametrize("sizes", TOP_DOWN)
@pytest.mark.parametrize("module", MODULES)
def test_a_fresh_layer_gives_the_bottom_up_operand(module, sizes, policy):
    layer = Contextual(module, dtype=policy)
    result = layer(BOTTOM_UP, 100 * TOP_DOWN[sizes])
    expected = keras.ops.cast(BOTTOM_UP, layer.compute_dtype)
    harness.assert_bit_equal(
        harness.to_numpy(result), harness.to_numpy(expected), policy
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_fresh_layer_learns(module):
    """Zeros at the start are in no way of the gradient of what starts at zero."""
    layer = Contextual(module, name="contextual")
    by_path, _ = harness.gradients(
        layer,
        [BOTTOM_UP, TOP_DOWN["half the size, other channels"]],
        lambda y: keras.ops.sum(y * y),
    )
    moving = {path.split("/")[-2] for path, g in by_path.items() if np.any(g)}
    assert ("contextual" if module == 3 else "gate") in moving


def test_regularizes_the_kernels_alone():
    layer = Contextual(1, kernel_regularizer="l2", kernel_initializer="ones")
    layer(BOTTOM_UP, TOP_DOWN["half the size, other channels"])
    # Those of `gate`, `align` and `contextual`.
    assert len(layer.losses) == 3


@pytest.mark.parametrize(
    "module",
    [5, 0, 4, -1, True, False, 1.0, "x", "", "1", None, [1], np.array([1, 2])],
    ids=str,
)
def test_refuses_modules(module):
    with pytest.raises(ValueError) as caught:
        Contextual(module)
    harness.assert_one_sentence(caught.value, "module")


def test_takes_an_integer_of_numpy():
    layer = Contextual(np.int64(2))
    assert type(layer.get_config()["module"]) is int


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    "shape",
    [
        (3, 3, 3),  # of no integer factor
        (2, 6, 3),  # of one factor for the height, another for the width
        (1, 5, 4),
        (2, 3, 5),
        (8, 7, 3),  # larger
    ],
    ids=str,
)
def test_any_size_is_brought_to_that_of_the_lower_layer(shape, module, dynamic):
    top_down = np.random.default_rng(2).normal(size=(8, *shape)).astype("float32")
    inputs = [keras.Input((None, None, 3)), keras.Input((None, None, shape[-1]))]
    layer = Contextual(module, name="contextual")
    model = keras.Model(inputs, layer(*inputs)) if dynamic else None
    layer(BOTTOM_UP, top_down)
    harness.randomize(layer)
    weights = {w.path.removeprefix("contextual/"): w.numpy() for w in layer.weights}
    expected = reference.contextual(BOTTOM_UP, top_down, weights, module)
    run = model.predict_on_batch if dynamic else lambda given: layer(*given)
    found = harness.to_numpy(run([BOTTOM_UP, top_down]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_an_integer_factor_repeats_bit_for_bit(factor):
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype("float32")
    for axis in (1, 2):
        size = factor * x.shape[axis]
        expected = np.repeat(x, factor, axis)
        found = contextual._resized(ops.convert_to_tensor(x), size, axis)
        np.testing.assert_array_equal(ops.convert_to_numpy(found), expected)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 2, 3, 3)], ids=str)
def test_refuses_what_is_no_feature_map(shape):
    with pytest.raises(ValueError) as caught:
        Contextual()(BOTTOM_UP, np.zeros((8, *shape), "float32"))
    harness.assert_one_sentence(caught.value, "top_down")


def test_refuses_unknown_channels():
    with pytest.raises(ValueError) as caught:
        Contextual()(keras.Input((4, 4, 3)), keras.Input((2, 2, None)))
    harness.assert_one_sentence(caught.value, "top_down")
