"""Weights files that fail loudly: tensors by name, checked before they are read."""

from kfeedback.weights.cards import card
from kfeedback.weights.files import (
    ABOUT,
    LONGEST,
    check_weights,
    describe,
    holds_feedback,
    load,
    save,
)
from kfeedback.weights.origins import origin
from kfeedback.weights.registry import Entry

__all__ = [
    "ABOUT",
    "LONGEST",
    "Entry",
    "card",
    "check_weights",
    "describe",
    "holds_feedback",
    "load",
    "origin",
    "save",
]
