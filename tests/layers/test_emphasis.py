import numpy as np
import pytest
from keras import ops

from kfeedback.layers import Emphasis
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import operations as reference

RANDOM = np.random.default_rng(4)
FEATURES = RANDOM.normal(size=(8, 5, 4, 3)).astype("float32")
VECTOR = RANDOM.uniform(0.2, 2, (8, 3)).astype("float32")


@pytest.mark.parametrize("check", LAYER_CHECKS)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_harness(data_format, check):
    if data_format == "channels_last":
        features = FEATURES
    else:
        features = FEATURES.transpose(0, 3, 1, 2)
    check_layer(
        lambda **kwargs: Emphasis(data_format, name="emphasis", **kwargs),
        [features, VECTOR],
        checks=[check],
    )


def test_equals_the_reference():
    expected = reference.emphasis(FEATURES, VECTOR)
    last = harness.to_numpy(Emphasis("channels_last")(FEATURES, VECTOR))
    np.testing.assert_allclose(last, expected, rtol=1e-6)
    turned = FEATURES.transpose(0, 3, 1, 2)
    first = harness.to_numpy(Emphasis("channels_first")(turned, VECTOR))
    np.testing.assert_allclose(first, expected.transpose(0, 3, 1, 2), rtol=1e-6)


def test_gradients():
    layer = Emphasis()
    by_path, found = harness.gradients(
        layer, [FEATURES, VECTOR], lambda y: ops.sum(y * y) / 2
    )
    assert not by_path
    product = reference.emphasis(FEATURES, VECTOR)
    np.testing.assert_allclose(found[0], reference.emphasis(product, VECTOR), rtol=1e-5)
    np.testing.assert_allclose(
        found[1], (product * FEATURES).sum(axis=(1, 2)), rtol=1e-4
    )


@pytest.mark.parametrize("policy", harness.POLICIES)
def test_ones_change_nothing(policy):
    layer = Emphasis(dtype=policy)
    ones = np.ones_like(VECTOR)
    result = harness.to_numpy(layer(FEATURES, ones))
    expected = harness.to_numpy(ops.cast(FEATURES, layer.compute_dtype))
    harness.assert_bit_equal(result, expected, policy)


@pytest.mark.parametrize("data_format", ["channels", 1, ""])
def test_refuses(data_format):
    with pytest.raises(ValueError, match=r"^data_format must .*, got .*\.$"):
        Emphasis(data_format)


def test_the_config_of_a_subclass_has_the_arguments_of_both():
    class Louder(Emphasis):
        def __init__(self, gain=1.0, **kwargs):
            super().__init__(**kwargs)
            self.gain = gain

    layer = Louder(gain=3.0, data_format="channels_first", name="louder")
    config = layer.get_config()
    assert (config["gain"], config["data_format"]) == (3.0, "channels_first")
    twin = Louder.from_config(config)
    assert twin.get_config() == config
