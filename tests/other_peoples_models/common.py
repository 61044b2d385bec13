"""A small classifier as people write one, images for it, and how errors read."""

import keras
import numpy as np
from keras import ops

layers = keras.layers

IMAGES = np.random.default_rng(0).uniform(0, 1, (5, 28, 28, 1)).astype("float32")


def softmax(x):
    e = ops.exp(x - ops.max(x, axis=-1, keepdims=True))
    return e / ops.sum(e, axis=-1, keepdims=True)


def small(classes=3, activation="softmax", end=None, name="small"):
    x = inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 5, 2, activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(classes, activation=activation, name="scores")(x)
    return keras.Model(inputs, x if end is None else end(x), name=name)


def one_sentence(error):
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text, text
    return text
