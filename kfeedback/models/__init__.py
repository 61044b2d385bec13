"""Model factories, one family a file."""

from kfeedback.models.lrnet import LRNet

__all__ = ["LRNet"]
