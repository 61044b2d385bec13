"""Small networks that the tests of several families give feedback to; predictions."""

import keras
from keras import layers

from tests import harness


def conv_net(activation="softmax", classes=4, name="net", fused=True):
    """Two named 3×3 convolutions, a batch norm, and a dense layer; 8×8×2 images."""
    image = keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(3, 3, activation="relu", name="conv1")(image)
    x = layers.Conv2D(5, 1, name="mix")(x)
    x = layers.Conv2D(4, 3, use_bias=False, name="conv2")(x)
    x = layers.BatchNormalization(name="bn2")(x)
    x = layers.ReLU(name="relu2")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(
        classes,
        activation=activation if fused else None,
        dtype="float32",
        name="predictions",
    )(x)
    if not fused:
        x = layers.Activation(activation, dtype="float32", name="probabilities")(x)
    return keras.Model(image, x, name=name)


def sequential():
    """The same kind of network as a Sequential."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(3, 3, name="conv1"),
            layers.LeakyReLU(name="leaky"),
            layers.Conv2D(4, 3, name="conv2"),
            layers.Dropout(0.5, name="dropout"),
            layers.Flatten(name="flatten"),
            layers.Dense(4, activation="softmax", name="predictions"),
        ],
        name="sequential_net",
    )


def nested():
    """A classifier around a nested model of feature extraction."""
    inner_image = keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 3, name="conv1")(inner_image)
    x = layers.BatchNormalization(name="bn1")(x)
    inner = keras.Model(inner_image, layers.ReLU(name="relu1")(x), name="features")
    image = keras.Input((8, 8, 2))
    x = inner(image, training=False)
    x = layers.Conv2D(4, 3, name="conv2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(4, activation="softmax", name="predictions")(x)
    return keras.Model(image, x, name="nested_net")


def residual():
    """A network with a residual, a dense and a shared connection."""
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    y = layers.Add(name="add")([x, shared(x)])
    y = layers.Concatenate(name="concatenate")([y, shared(y)])
    y = layers.Conv2D(4, 3, activation="relu", name="last")(y)
    y = layers.GlobalMaxPooling2D(name="pool")(y)
    y = layers.Dense(4, activation="softmax", name="predictions")(y)
    return keras.Model(image, y, name="residual_net")


def two_branches():
    """Two branches of convolutions that only the dense layer brings together."""
    image = keras.Input((8, 8, 2))
    left = layers.Conv2D(3, 3, name="left")(image)
    right = layers.Conv2D(4, 3, name="right")(image)
    left = layers.GlobalAveragePooling2D(name="avg_pool")(left)
    right = layers.GlobalMaxPooling2D(name="max_pool")(right)
    x = layers.Concatenate(name="timesteps")([left, right])
    x = layers.Dense(4, name="posterior")(x)
    return keras.Model(image, x, name="two_branches_net")


def residual_without_dense():
    """The scores are the mean of a sum of convolutions."""
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    y = layers.Conv2D(4, 3, padding="same", name="inner")(x)
    y = layers.Conv2D(4, 1, name="last")(y)
    x = layers.Add(name="add")([x, y])
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return keras.Model(image, layers.Softmax(name="softmax")(x), name="mean_net")


def stacked_net(batch_norm=False, size=8):
    """Five convolutions and two poolings, for two loops one above the other.

    Plain, `conv1` to `conv5` have their ReLU in them; with batch norms `relu1` to
    `relu5` follow.
    """
    image = keras.Input((size, size, 2), name="image")
    x = image
    for number, filters in enumerate((3, 4, 4, 5, 6), start=1):
        activation = None if batch_norm else "relu"
        x = layers.Conv2D(
            filters, 3, padding="same", activation=activation, name=f"conv{number}"
        )(x)
        if batch_norm:
            x = layers.BatchNormalization(name=f"bn{number}")(x)
            x = layers.ReLU(name=f"relu{number}")(x)
        if number in (2, 4):
            x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(4, activation="softmax", dtype="float32", name="predictions")(x)
    return keras.Model(image, x, name="stacked")


def predict(model, images):
    return harness.to_numpy(model(images, training=False))
