"""Where in an image a classifier sees a class: maps, boxes, and how good they are."""

from kfeedback.explain import boxes, metrics
from kfeedback.explain._explainer import Explainer
from kfeedback.explain._functions import localize, look_twice, saliency
from kfeedback.explain._methods import METHODS, UPDATE_RULES

__all__ = [
    "METHODS",
    "UPDATE_RULES",
    "Explainer",
    "boxes",
    "localize",
    "look_twice",
    "metrics",
    "saliency",
]
