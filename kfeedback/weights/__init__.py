"""Weights files that fail loudly: tensors by name, checked before they are read."""

from kfeedback.weights.files import check, holds_feedback, load, save

__all__ = ["check", "holds_feedback", "load", "save"]
