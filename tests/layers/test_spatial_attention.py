import keras
import numpy as np
import pytest

from kfeedback.layers import SpatialAttention
from kfeedback.layers.spatial_attention import COMPATIBILITIES
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import vgg_attention as reference

RANDOM = np.random.default_rng(6)
LOCAL = RANDOM.normal(size=(8, 3, 4, 5)).astype("float32")
GLOBAL = RANDOM.normal(size=(8, 5)).astype("float32")


def make(compatibility, **kwargs):
    return SpatialAttention(compatibility, name="attention", **kwargs)


CASES = [
    (compatibility, check)
    for compatibility in COMPATIBILITIES
    for check in LAYER_CHECKS
    # The one without a gradient for the global feature; see below.
    if (compatibility, check) != ("parametrized", "gradients")
]


@pytest.mark.parametrize("compatibility, check", CASES)
def test_harness(compatibility, check):
    check_layer(
        lambda **kwargs: make(compatibility, **kwargs), [LOCAL, GLOBAL], checks=[check]
    )


@pytest.mark.parametrize("compatibility", COMPATIBILITIES)
def test_equals_the_reference(compatibility):
    layer = make(compatibility)
    layer(LOCAL, GLOBAL)
    harness.randomize(layer)
    weights = [w.numpy() for w in layer.weights]
    assert len(weights) == (compatibility == "parametrized")
    expected = reference.spatial_attention(LOCAL, GLOBAL, *weights)
    result = harness.to_numpy(layer(LOCAL, GLOBAL))
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert np.abs(result - LOCAL.mean((1, 2))).max() > 0.1


def test_only_the_dot_product_lets_the_global_feature_choose():
    """⟨u, g⟩ is one number for all places, and the softmax takes it away."""
    for compatibility in COMPATIBILITIES:
        layer = make(compatibility)
        layer(LOCAL, GLOBAL)
        harness.randomize(layer)
        results = [harness.to_numpy(layer(LOCAL, g)) for g in (GLOBAL, GLOBAL[::-1])]
        differ = np.abs(results[0] - results[1]).max()
        by_path, (for_local, for_global) = harness.gradients(
            layer, [LOCAL, GLOBAL], lambda y: keras.ops.sum(y * y)
        )
        harness.assert_all_flow({**by_path, "local": for_local}, compatibility)
        if compatibility == "dot":
            assert differ > 0.1 and np.abs(for_global).max() > 0.1
        else:
            assert differ < 1e-5 and np.abs(for_global).max() < 1e-4


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
def test_a_map_of_one_place_is_that_place():
    one = LOCAL[:, :1, :1]
    result = harness.to_numpy(SpatialAttention()(one, GLOBAL))
    np.testing.assert_array_equal(result, one[:, 0, 0])


def test_takes_a_map_of_unknown_size():
    image, vector = keras.Input((None, None, 5)), keras.Input((5,))
    layer = SpatialAttention("dot")
    model = keras.Model([image, vector], layer(image, vector))
    assert model.output.shape == (None, 5)
    expected = reference.spatial_attention(LOCAL, GLOBAL)
    result = harness.to_numpy(model([LOCAL, GLOBAL]))
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("compatibility", ["x", "", 1, None, True, ["dot"]], ids=str)
def test_refuses_compatibilities(compatibility):
    with pytest.raises(ValueError) as caught:
        SpatialAttention(compatibility)
    harness.assert_one_sentence(caught.value, "compatibility")


@pytest.mark.parametrize(
    "local, vector",
    [((8, 3, 4, 5), (8, 4)), ((8, 12, 5), (8, 5)), ((8, 3, 4, 5), (8, 1, 5))],
    ids=str,
)
def test_refuses_shapes(local, vector):
    with pytest.raises(ValueError) as caught:
        SpatialAttention()(np.zeros(local, "float32"), np.zeros(vector, "float32"))
    harness.assert_one_sentence(caught.value, "global_feature")
