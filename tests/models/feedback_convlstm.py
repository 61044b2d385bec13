"""A tiny FeedbackConvLSTMNet, its images and its weights."""

import numpy as np

from kfeedback import FeedbackConvLSTMNet
from tests import harness

CELLS = (((4, 1), (4, 1)), ((6, 2),))
TINY = {"cells": CELLS, "input_shape": (16, 16, 2), "head_units": 8, "classes": 4}
OPTIONS = {
    "default": {},
    "no batch norm": {"batch_norm": False},
    "logits": {"classifier_activation": None},
    "sigmoid": {"classifier_activation": "sigmoid"},
}
IMAGES = harness.random_images((16, 16, 2))


def tiny(option="default", **kwargs):
    return FeedbackConvLSTMNet(**{**TINY, **OPTIONS[option], **kwargs})


def arrays(model):
    return {w.path: np.asarray(w.numpy(), "float64") for w in model.weights}


def predict(model, images=IMAGES, **kwargs):
    return harness.to_numpy(model(images, **kwargs))


def lively(model):
    """Random weights with which signals do not fade from cell to cell.

    Half-open gates halve them twice in each.
    """
    harness.randomize(model)
    for weight in model.weights:
        if weight.path.endswith(("gates/kernel", "dense/kernel")):
            weight.assign(6 * weight)
    return model
