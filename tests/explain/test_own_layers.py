"""Layers of somebody's own: what they do with their `activation`, and their names."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from kfeedback import explain
from kfeedback.explain.network import Network
from tests.explain import common

layers = keras.layers


class Block(layers.Layer):
    """A batch norm, a convolution and an activation, in some order."""

    def __init__(self, activation="relu", order="norm conv act", **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.norm = layers.BatchNormalization()
        self.conv = layers.Conv2D(4, 3, padding="same", kernel_initializer="zeros")
        self.order = order

    def call(self, x):
        steps = {"norm": self.norm, "conv": self.conv, "act": self.activation}
        for name in self.order.split():
            x = steps[name](x)
        return x


class Convolution(layers.Conv2D):
    """Ends in its activation, as Keras' own does."""


class Shifted(layers.Layer):
    """Has no weights, and an activation that is not its end."""

    activation = staticmethod(keras.activations.relu)

    def call(self, x):
        return self.activation(x) - 1.0


class Named(layers.Layer):
    """Holds the name of its activation, which says nothing of where it is used."""

    def build(self, shape):
        self.activation, self.scale = "relu", self.add_weight((shape[-1],))

    def call(self, x):
        return ops.relu(x * self.scale)


def network(layer, more="relu", shape=(8, 8, 2)):
    x = inputs = keras.Input(shape)
    x = layers.Conv2D(3, 3, name="conv", activation=more)(layer(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(3, activation="softmax")(x)
    return keras.Model(inputs, x, name="net")


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Block(order="norm act conv", name="own"),
        lambda: Block(order="norm act conv act", name="own"),
        lambda: Shifted(name="own"),
        lambda: Named(name="own"),
    ],
    ids=["pre-activation", "twice", "shifted", "name"],
)
@pytest.mark.parametrize("method", ["deconvnet", "guided_backpropagation", "feedback"])
def test_an_activation_inside_of_a_layer_is_none_that_it_ends_in(method, layer):
    with pytest.warns(UserWarning, match="count as none: in 'net' own may have some"):
        explainer = explain.Explainer(network(layer()), method)
    found = explainer.network
    assert [site.operation.name for site in found.relus] == ["conv"]
    # What the method edits stays the network that it explains.
    images = ops.convert_to_tensor(common.images(2, (8, 8, 2)) / 255)
    edited = found.scores(images, lambda n, y: y, sites=found.relus)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.softmax(edited)),
        ops.convert_to_numpy(found.model(images)),
        atol=1e-6,
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("sides", [8, None])
@pytest.mark.parametrize(
    "layer",
    [
        lambda **kwargs: Block(order="conv norm act", **kwargs),
        lambda **kwargs: Convolution(4, 3, activation="relu", **kwargs),
        lambda **kwargs: Block(
            lambda x: ops.maximum(x, 0.0), "norm conv act", **kwargs
        ),
    ],
    ids=["norm", "convolution", "function"],
)
def test_a_layer_that_ends_in_its_activation_is_a_relu(layer, sides, policy):
    model = network(layer(name="own", dtype=policy), shape=(sides, sides, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explain.Explainer(model, "deconvnet").network
    assert [site.operation.name for site in found.relus] == ["own", "conv"]


def test_other_activations_inside_hide_no_relu():
    model = network(Block("silu", "norm act conv"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explain.Explainer(model, "feedback").network
    assert [site.operation.name for site in found.relus] == ["conv"]


class PoolFormerBlock(layers.Layer):
    """Only its name says that it pools."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(5, 3, padding="same")

    def call(self, x):
        return x[..., :1] + self.conv(x)


class DropoutBlock(PoolFormerBlock):
    """Only its name says that it drops."""


@pytest.mark.parametrize("block", [PoolFormerBlock, DropoutBlock])
def test_a_block_with_weights_is_no_pooling_whatever_its_name(block):
    x = inputs = keras.Input((8, 8, 2))
    x = layers.MaxPooling2D()(layers.Conv2D(3, 3, activation="relu")(x))
    x = layers.Dropout(0.1)(layers.MaxPooling2D()(block(name="last")(x)))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    (found,) = Network(model, gated=False).features
    assert found is model.get_layer("last").output
