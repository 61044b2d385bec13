"""Where in an image a classifier sees a class: maps, boxes, and how good they are."""

from kfeedback.explain import boxes, metrics
from kfeedback.explain.explainer import Explainer
from kfeedback.explain.functions import localize, look_twice, saliency
from kfeedback.explain.methods.base import Method, get_method, list_methods, register
from kfeedback.explain.methods.deconvnet import Deconvnet
from kfeedback.explain.methods.feedback import STARTS, UPDATE_RULES, Feedback
from kfeedback.explain.methods.grad_cam import GradCAM
from kfeedback.explain.methods.gradient import Gradient
from kfeedback.explain.methods.guided_backpropagation import GuidedBackpropagation

__all__ = [
    "STARTS",
    "UPDATE_RULES",
    "Deconvnet",
    "Explainer",
    "Feedback",
    "GradCAM",
    "Gradient",
    "GuidedBackpropagation",
    "Method",
    "boxes",
    "get_method",
    "list_methods",
    "localize",
    "look_twice",
    "metrics",
    "register",
    "saliency",
]
