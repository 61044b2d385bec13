"""Layers and variables without names, or with odd ones."""

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback import weights
from tests import harness
from tests.other_peoples_models.common import IMAGES, one_sentence

layers = keras.layers


@harness.tensorflow_only
def test_names_that_begin_with_an_underscore_are_exported(tmp_path):
    """Keras itself cannot: TensorFlow writes no variable of such a name."""
    import tensorflow as tf

    x = inputs = keras.Input((28, 28, 1), name="_image")
    x = layers.Conv2D(4, 5, 2, activation="relu", name="_conv_stem")(x)
    x = layers.BatchNormalization(name="-norm")(x)
    x = layers.GlobalAveragePooling2D(name="_pool")(x)
    outputs = layers.Dense(3, activation="softmax", name="_scores")(x)
    net = kfeedback.LRNet(keras.Model(inputs, outputs), return_sequences=True)
    harness.randomize(net)
    names = [v.value.name for v in net.variables]
    assert any(name.startswith("_conv_stem") for name in names)
    path = kfeedback.serving.export(net, tmp_path / "m", warmup_batches=())
    served = tf.saved_model.load(str(path)).signatures["timesteps"]
    found = served(images=tf.constant(IMAGES))["probabilities"]
    np.testing.assert_allclose(found, net(IMAGES), atol=1e-5)
    assert [v.value.name for v in net.variables] == names


class Unnamed(layers.Layer):
    """Two branches and a weight without names, built in one or the other order."""

    def __init__(self, left_first=True, **kwargs):
        super().__init__(**kwargs)
        self.left_first = left_first
        makers = {"left": lambda: layers.Dense(3), "right": lambda: layers.Dense(3)}
        for name in makers if left_first else reversed(makers):
            setattr(self, name, makers[name]())
        self.more = [layers.Dense(3), layers.Dense(3)]

    def build(self, shape):
        order = (self.left, self.right) if self.left_first else (self.right, self.left)
        for layer in (*order, *self.more):
            layer.build(shape)
        self.scale = self.add_weight(shape=(3,), initializer="ones")

    def call(self, x):
        x = self.left(x) - 2 * self.right(x)
        return self.scale * self.more[1](self.more[0](x))


def unnamed(**kwargs):
    x = inputs = keras.Input((3,))
    return keras.Model(inputs, Unnamed(name="own", **kwargs)(x))


@pytest.mark.parametrize("left_first", [True, False])
def test_keys_of_unnamed_parts_come_back(tmp_path, left_first):
    first = unnamed()
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    for _ in range(3):
        layers.Dense(2).build((None, 2))  # the process has counted on
    second = unnamed(left_first=left_first)
    weights.load(second, tmp_path / "w.h5")
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    np.testing.assert_allclose(
        harness.to_numpy(first(x)), harness.to_numpy(second(x)), atol=1e-6
    )
    names = set(weights.describe(tmp_path / "w.h5")["tensors"])
    assert {"own/scale", "own/left/kernel", "own/more_1/bias"} < names


class OwnModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.second, self.first = layers.Dense(3), layers.Dense(3)
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return self.scale * self.second(self.first(x))


def test_keys_of_a_model_with_a_call_of_its_own_come_back(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    first, second = OwnModel(), OwnModel()
    first(x), second(x)
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    weights.load(second, tmp_path / "w.h5")
    np.testing.assert_allclose(
        harness.to_numpy(first(x)), harness.to_numpy(second(x)), atol=1e-6
    )


def test_a_variable_that_nothing_names_is_refused_at_save(tmp_path):
    class Hidden(layers.Layer):
        def build(self, shape):
            weight = self.add_weight(shape=(shape[-1],))
            self.get = lambda: weight

        def call(self, x):
            return x * self.get()

    x = inputs = keras.Input((3,))
    model = keras.Model(inputs, Hidden(name="hidden")(x))
    with pytest.raises(ValueError, match="hidden/variable") as error:
        weights.save(model, tmp_path / "w.h5")
    one_sentence(error)
    assert not list(tmp_path.iterdir())


def test_layers_without_names_get_a_hint(tmp_path):
    def build():
        x = inputs = keras.Input((3,))
        return keras.Model(inputs, layers.Dense(2)(layers.Dense(3)(x)))

    weights.save(build(), tmp_path / "w.h5")
    with pytest.raises(ValueError, match="name the layers"):
        weights.load(build(), tmp_path / "w.h5")
