import itertools

import numpy as np
import pytest

from kfeedback.layers import RecurrentConv2D
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import rcnn as reference

U = np.random.default_rng(7).normal(size=(8, 5, 6, 3)).astype("float32")


@pytest.mark.parametrize("check", LAYER_CHECKS)
def test_harness(check):
    check_layer(
        lambda **kwargs: RecurrentConv2D(
            4, iterations=2, alpha=0.1, name="rcl", **kwargs
        ),
        [U],
        checks=[check],
    )


@pytest.mark.parametrize("iterations", [0, 1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_equals_the_reference(iterations, kernel_size):
    layer = RecurrentConv2D(
        4, kernel_size, iterations, size=3, alpha=0.2, beta=0.6, name="rcl"
    )
    layer.build(U.shape)
    harness.randomize(layer)
    expected = reference.rcl(U, *layer.get_weights(), iterations, 3, 0.2, 0.6)
    result = harness.to_numpy(layer(U))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_iterations_share_their_weights_and_matter():
    results = []
    for iterations in range(4):
        layer = RecurrentConv2D(4, iterations=iterations, name="rcl")
        layer.build(U.shape)
        assert [tuple(w.shape) for w in layer.weights] == [
            (3, 3, 3, 4),
            (3, 3, 4, 4),
            (4,),
        ]
        results.append(harness.to_numpy(harness.randomize(layer)(U)))
    for one, next_one in itertools.pairwise(results):
        assert np.abs(one - next_one).max() > 1e-2


def test_the_two_kernels_start_different():
    layer = RecurrentConv2D(3)
    layer.build(U.shape)
    kernel, recurrent_kernel, _ = layer.get_weights()
    assert kernel.shape == recurrent_kernel.shape
    assert not np.array_equal(kernel, recurrent_kernel)


@pytest.mark.parametrize("filters, size", [(1, 1), (8, 3), (96, 13), (128, 17)])
def test_window_of_the_paper(filters, size):
    assert RecurrentConv2D(filters).size == size


@pytest.mark.parametrize(
    "argument, value",
    [
        ("filters", 0),
        ("filters", 1.5),
        ("filters", True),
        ("kernel_size", 0),
        ("kernel_size", 2),
        ("kernel_size", (3, 3)),
        ("iterations", -1),
        ("iterations", 1.0),
        ("iterations", True),
        ("size", 2),
        ("size", 0),
    ],
)
def test_refuses(argument, value):
    with pytest.raises(ValueError, match=rf"^{argument} must .*, got .*\.$"):
        RecurrentConv2D(**{"filters": 4, argument: value})


@pytest.mark.parametrize("value", [-1, float("nan"), "1"])
@pytest.mark.parametrize("argument", ["alpha", "beta"])
def test_refuses_a_normalization_that_has_no_root(argument, value):
    with pytest.raises(ValueError, match=rf"^{argument} must .*, got .*\.$"):
        RecurrentConv2D(4, **{argument: value})
