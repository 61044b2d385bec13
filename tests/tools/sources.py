"""Small models and what is converted into them: published tensors, their logits."""

from unittest import mock

import keras
import numpy as np

import kfeedback
from kfeedback.models import cliquenet, registry
from tests import harness
from tests.tools import published

TOLERANCE = 1e-5
CELLS = [[(4, 1), (4, 1)], [(6, 2), (6, 1)], [(5, 2)]]
TF_OPTIONS = {
    "II+II": {},
    "attention": {"attentional_transition": True},
    "all": {
        "attentional_transition": True,
        "bottleneck": True,
        "compression": True,
    },
    "I+I": {"block_feature": "I", "transition_feature": "I"},
    "X=0": {"updates": 0},
    "X=2": {"updates": 2},
}


def assert_parity(model, images, expected):
    difference = np.max(np.abs(harness.to_numpy(model(images)) - expected))
    print(f"largest difference {difference:.2g}")
    assert np.std(expected) > 0.1
    assert difference <= TOLERANCE


def cliquenet_tf(option="II+II"):
    """Model, images, published tensors and logits."""
    options = TF_OPTIONS[option]
    model = kfeedback.CliqueNet(
        input_shape=(8, 8, 3),
        filters=[4, 3],
        layers=[3, 4],
        classes=5,
        classifier_activation=None,
        **options,
    )
    images = harness.random_images((8, 8, 3), count=2)
    source = published.CliqueNetTF()
    expected = source.logits(
        images,
        [4, 3],
        [3, 4],
        5,
        attention=options.get("attentional_transition", False),
        bottleneck=options.get("bottleneck", False),
        compression=options.get("compression", False),
        stages=1 if "block_feature" in options else 2,
        updates=options.get("updates"),
    )
    return model, images, source.tensors, expected


with mock.patch.object(registry.TABLE, "_entries", {}):  # other tests see none of it
    TINY_IMAGENET = cliquenet._imagenet_variant("Tiny", [4, 6], [2, 3], "few")


def tiny_imagenet(**kwargs):
    return TINY_IMAGENET(classes=5, classifier_activation=None, **kwargs)


def cliquenet_torch(attention=False):
    model = tiny_imagenet(input_shape=(32, 40, 3), attentional_transition=attention)
    images = harness.random_images((32, 40, 3), count=2)
    source = published.CliqueNetTorch()
    expected = source.logits(
        images, [4, 6], [2, 3], 5, attention, bottleneck=True, compression=True
    )
    return model, images, source.tensors, expected


def convlstm(timesteps=3):
    model = kfeedback.FeedbackConvLSTMNet(
        input_shape=(16, 32, 3),
        cells=CELLS,
        classes=5,
        head_units=7,
        timesteps=timesteps,
        return_sequences=True,
        classifier_activation=None,
    )
    images = harness.random_images((16, 32, 3), count=2)
    source = published.FeedbackConvLSTM()
    return model, images, source.tensors, source.logits(images, CELLS, timesteps, 5, 7)


def vgg():
    layers = keras.layers
    x = image = keras.Input((8, 12, 3))
    blocks = [(4, 5), (6,)]
    for block, filters in enumerate(blocks, start=1):
        for number, count in enumerate(filters, start=1):
            x = layers.Conv2D(
                count,
                3,
                padding="same",
                activation="relu",
                name=f"block{block}_conv{number}",
            )(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(9, activation="relu", name="fc1")(x)
    x = layers.Dense(8, activation="relu", name="fc2")(x)
    model = keras.Model(image, layers.Dense(5, name="predictions")(x), name="vgg")
    images = harness.random_images((8, 12, 3), count=2)
    source = published.VGG()
    return model, images, source.tensors, source.logits(images, blocks, (9, 8), 5)
