"""The papers' feedforward baselines, to train first and then to give feedback to."""

from kfeedback.models.backbones.alexnet import AlexNet
from kfeedback.models.backbones.googlenet import GoogLeNet
from kfeedback.models.backbones.lenet import LeNet
from kfeedback.models.backbones.nin import LNIN, NIN
from kfeedback.models.backbones.rcnn import RCNN128
from kfeedback.models.backbones.vgg import VGGSmall
from kfeedback.models.backbones.vgg16 import VGG16
from kfeedback.models.backbones.vgg_attention import VGGAttention

__all__ = [
    "LNIN",
    "NIN",
    "RCNN128",
    "VGG16",
    "AlexNet",
    "GoogLeNet",
    "LeNet",
    "VGGAttention",
    "VGGSmall",
]


def __getattr__(name):
    # A backbone that is a new file.
    from kfeedback.models import registry

    return registry.attribute(__name__, name)
