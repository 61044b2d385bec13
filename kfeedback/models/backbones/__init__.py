"""The papers' feedforward baselines, to train first and then to give feedback to."""

import keras

from kfeedback.models.backbones.alexnet import AlexNet
from kfeedback.models.backbones.googlenet import GoogLeNet
from kfeedback.models.backbones.lenet import LeNet
from kfeedback.models.backbones.nin import LNIN, NIN
from kfeedback.models.backbones.rcnn import RCNN128
from kfeedback.models.backbones.vgg import VGGSmall
from kfeedback.models.backbones.vgg_attention import VGGAttention

__all__ = [
    "LNIN",
    "NIN",
    "RCNN128",
    "AlexNet",
    "GoogLeNet",
    "LeNet",
    "VGGAttention",
    "VGGSmall",
    "by_name",
]

BACKBONES = {
    "lenet": LeNet,
    "nin": NIN,
    "lnin": LNIN,
    "rcnn128": RCNN128,
    "vgg_small": VGGSmall,
    "vgg_attention": VGGAttention,
    "alexnet": AlexNet,
    "googlenet": GoogLeNet,
    "vgg16": keras.applications.VGG16,
}


def by_name(name):
    """The factory of a backbone.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in BACKBONES:
        raise ValueError(
            f"backbone must be a functional keras.Model or one of "
            f"{', '.join(BACKBONES)}, got {name!r}."
        )
    return BACKBONES[name]
