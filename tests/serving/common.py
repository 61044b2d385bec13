"""Models to serve, small enough to be exported in a second or two."""

import keras
from keras import layers

import kfeedback
from kfeedback.models.backbones import LeNet
from tests import harness
from tests.explain.common import three_layers
from tests.models.common import conv_net, stacked_net


def lrnet(**kwargs):
    kwargs = {"timesteps": 3, "return_sequences": True, **kwargs}
    return kfeedback.LRNet(conv_net(), **kwargs)


def crcn():
    loops = [("conv3", "conv2"), ("conv5", "conv4")]
    return kfeedback.CRCN(stacked_net(), timesteps=2, loops=loops)


def cliquenet():
    return kfeedback.CliqueNet(
        filters=4,
        layers=6,
        input_shape=(16, 16, 3),
        classes=4,
        attentional_transition=True,
    )


def feedback_convlstm(**kwargs):
    arguments = {
        "cells": (((4, 1), (4, 1)), ((6, 2),)),
        "input_shape": (16, 16, 3),
        "classes": 4,
        "timesteps": 3,
        "return_sequences": True,
        "head_units": 8,
    }
    return kfeedback.FeedbackConvLSTMNet(**{**arguments, **kwargs})


def feedback_cnn():
    network, _ = three_layers()
    return kfeedback.FeedbackCNN(network, top=2, preprocess="center")


def lenet():
    return LeNet(input_shape=(16, 16, 1), classes=4)


SMALL = {
    "lrnet": lrnet,
    "crcn": crcn,
    "cliquenet": cliquenet,
    "feedback_convlstm": feedback_convlstm,
    "lenet": lenet,
}


def make(factory, **kwargs):
    """A model with random weights, whose predictions depend on the images."""
    harness.fresh_names()
    model = harness.randomize(factory(**kwargs))
    for weight in model.weights:
        # Else the gates of an LSTM hardly open: of an image little comes through.
        if weight.path.endswith("_gates/kernel"):
            weight.assign(weight * 8)
    return model


def tiny():
    """A network that is exported in a moment."""
    image = keras.Input((4, 4, 1))
    x = layers.Flatten()(image)
    return keras.Model(image, layers.Dense(3, activation="softmax")(x), name="tiny")
