import keras
import numpy as np
import pytest

from kfeedback.layers import CeilMaxPooling2D
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import operations as reference

X = np.random.default_rng(5).normal(-3, 1, (8, 6, 7, 2)).astype("float32")


@pytest.mark.parametrize("check", LAYER_CHECKS)
def test_harness(check):
    # No two are equal in float16 either, so that one of a window has the gradient.
    x = np.random.default_rng(1).permutation(X.size).reshape(X.shape) / 64
    check_layer(
        lambda **kwargs: CeilMaxPooling2D(name="pool", **kwargs),
        [x],
        checks=[check],
    )


@pytest.mark.parametrize("sides", [(3, 4), (5, 6), (7, 13), (14, 112)])
@pytest.mark.parametrize("size, stride", [(3, 2), (2, 2), (3, 1), (3, 3), (5, 3)])
def test_equals_the_reference(sides, size, stride):
    x = np.random.default_rng(0).normal(-3, 1, (2, *sides, 3)).astype("float32")
    expected = reference.ceil_max_pool(x, size, stride)
    result = harness.to_numpy(CeilMaxPooling2D(size, stride)(x))
    assert result.shape[1:3] == tuple(-((size - n) // stride) + 1 for n in sides)
    np.testing.assert_array_equal(result, expected)


def test_the_smallest_image():
    x = np.arange(8.0).reshape(1, 2, 2, 2).astype("float32")
    np.testing.assert_array_equal(CeilMaxPooling2D()(x), [[[[6.0, 7.0]]]])


def test_keras_agrees_where_it_can():
    """On even sides with "same", on odd ones with "valid"."""
    for side, padding in ((12, "same"), (13, "valid")):
        x = np.random.default_rng(0).normal(-3, 1, (2, side, side, 3)).astype("float32")
        other = keras.layers.MaxPooling2D(3, 2, padding=padding)(x)
        np.testing.assert_array_equal(CeilMaxPooling2D()(x), other)


@pytest.mark.parametrize("size, strides", [((3, 2), (2, 1)), (3, (1, 2))])
def test_sides_apart_and_unknown(size, strides):
    layer = CeilMaxPooling2D(size, strides)
    result = layer(X)
    assert layer.compute_output_shape((None, None, 7, 2)) == (
        None,
        None,
        result.shape[2],
        2,
    )
    image = keras.Input((None, None, 2))
    model = keras.Model(image, CeilMaxPooling2D(size, strides)(image))
    np.testing.assert_array_equal(model(X), result)


@harness.tensorflow_only
def test_channels_first():
    layer = CeilMaxPooling2D(data_format="channels_first")
    symbolic = layer(keras.Input((2, 6, 7)))
    assert symbolic.shape == (None, 2, 3, 3)


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"pool_size": 2, "strides": 3}, "strides"),
        ({"pool_size": (3, 1)}, "strides"),
        ({"padding": "same"}, "padding"),
    ],
    ids=str,
)
def test_refuses(arguments, name):
    with pytest.raises(ValueError) as caught:
        CeilMaxPooling2D(**arguments)
    harness.assert_one_sentence(caught.value, name)
