"""Weights files that fail loudly: tensors by name, checked before they are read."""

from kfeedback.weights.files import check, load, save

__all__ = ["check", "load", "save"]
