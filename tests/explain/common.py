"""Small classifiers whose maps the tests look at."""

import keras
import numpy as np
from keras import ops


def images(count=3, shape=(9, 9, 2), seed=0):
    """Values of 0 to 255."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (count, *shape)).astype("float32")


def three_layers(classes=4, seed=3):
    """Two convolutions, one with a fused ReLU, and a dense layer; takes 0 to 1."""
    rng = np.random.default_rng(seed)
    shapes = [(3, 3, 2, 5), (2, 2, 5, 6)]
    weights = [
        (
            rng.normal(size=s).astype("float32") / np.sqrt(np.prod(s[:3]) / 2),
            rng.normal(size=s[3]).astype("float32") / 10,
        )
        for s in shapes
    ]
    dense = rng.normal(size=(6 * 6 * 6, classes)).astype("float32") / 10
    weights.append((dense, np.zeros(classes, "float32")))
    x = inputs = keras.Input((9, 9, 2))
    x = keras.layers.Conv2D(5, 3, activation="relu", name="conv1")(x)
    x = keras.layers.Conv2D(6, 2, name="conv2")(x)
    x = keras.layers.ReLU(name="relu2")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(classes, activation="softmax", name="predictions")(x)
    model = keras.Model(inputs, x, name="three_layers")
    model.set_weights([array for pair in weights for array in pair])
    return model, weights


def of_vectors(layers, vector, classes_kernel):
    """A net of 1×1 convolutions on one pixel: a dense net with gated hidden layers.

    Args:
        layers: list of `(kernel, bias)`, kernels `(inputs, units)`.
        vector: `(N, inputs)`.
        classes_kernel: `(units, classes)`.

    Returns:
        `(model, images)`.
    """
    x = inputs = keras.Input((1, 1, vector.shape[1]))
    for kernel, _ in layers:
        x = keras.layers.Conv2D(kernel.shape[1], 1, activation="relu")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(classes_kernel.shape[1], use_bias=False)(x)
    model = keras.Model(inputs, x)
    arrays = [a for k, b in layers for a in (k[None, None], b)]
    model.set_weights([*arrays, classes_kernel])
    return model, vector[:, None, None, :].astype("float32")


def tangled():
    """Every kind of ReLU, a shared one, a batch norm, an addition, a nested model."""
    shared = keras.layers.ReLU(name="shared")
    inner_in = keras.Input((8, 8, 4))
    inner_out = keras.layers.LeakyReLU(name="leaky")(
        keras.layers.Conv2D(4, 1, name="inner_conv")(inner_in)
    )
    inner = keras.Model(inner_in, inner_out, name="inner")
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = shared(keras.layers.BatchNormalization()(x))
    y = keras.layers.SeparableConv2D(
        4, 3, padding="same", activation="relu6", name="fused6"
    )(inputs)
    y = inner(y)
    x = shared(keras.layers.Add()([x, -1 * y]))
    x = keras.layers.ReLU(6.0, negative_slope=0.1, name="both")(x)
    x = keras.layers.Activation("relu", name="activation")(x)
    x = ops.relu(x - 0.01)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5, activation="relu", name="dense")(x)
    x = keras.layers.Dense(3, activation="sigmoid", name="predictions")(x)
    return keras.Model(inputs, x)


def bright():
    """A network whose class k is the mean of channel k."""
    x = inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(2, 1, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    eye = np.eye(2, dtype="float32")
    model.set_weights(
        [eye[None, None], np.zeros(2, "float32"), eye / 20, np.zeros(2, "float32")]
    )
    return model
