"""Feedback vision networks for Keras 3: networks that look more than once."""

from kfeedback import (
    attacks,
    corruptions,
    datasets,
    explain,
    graph,
    images,
    layers,
    losses,
    metrics,
    models,
    preprocessing,
    serving,
    weights,
)
from kfeedback._version import __version__
from kfeedback.early_exit import early_exit
from kfeedback.models.cliquenet import (
    CliqueNet,
    CliqueNetS0,
    CliqueNetS1,
    CliqueNetS2,
    CliqueNetS3,
)
from kfeedback.models.crcn import CRCN
from kfeedback.models.feedback_cnn import FeedbackCNN
from kfeedback.models.feedback_convlstm import FeedbackConvLSTMNet
from kfeedback.models.lrnet import LRNet
from kfeedback.models.pretrained import load_pretrained
from kfeedback.weights.registry import list_weights

__all__ = [
    "CRCN",
    "CliqueNet",
    "CliqueNetS0",
    "CliqueNetS1",
    "CliqueNetS2",
    "CliqueNetS3",
    "FeedbackCNN",
    "FeedbackConvLSTMNet",
    "LRNet",
    "__version__",
    "attacks",
    "corruptions",
    "datasets",
    "early_exit",
    "explain",
    "graph",
    "images",
    "layers",
    "list_models",
    "list_weights",
    "load_pretrained",
    "losses",
    "metrics",
    "models",
    "preprocessing",
    "serving",
    "weights",
]


def list_models():
    """The names of all factories of `kfeedback.models`, without its backbones."""
    return list(models.registry.factories("kfeedback.models"))


def __getattr__(name):
    # A family that is a new file.
    return models.registry.attribute("kfeedback.models", name)
