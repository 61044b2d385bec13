"""Model factories, one family a file."""

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
]
