"""Where in an image a classifier sees a class: maps, boxes, and how good they are."""

from kfeedback.explain import boxes, metrics
from kfeedback.explain.explainer import Explainer
from kfeedback.explain.functions import localize, look_twice, saliency
from kfeedback.explain.methods.base import Method, get_method, list_methods, register
from kfeedback.explain.methods.center import Center
from kfeedback.explain.methods.deconvnet import Deconvnet
from kfeedback.explain.methods.feedback import (
    OBJECTIVES,
    READOUTS,
    STARTS,
    UPDATE_RULES,
    Feedback,
)
from kfeedback.explain.methods.grad_cam import GradCAM
from kfeedback.explain.methods.grad_cam_plus_plus import GradCAMPlusPlus
from kfeedback.explain.methods.gradient import Gradient
from kfeedback.explain.methods.gradient_input import GradientInput
from kfeedback.explain.methods.guided_backpropagation import GuidedBackpropagation
from kfeedback.explain.methods.hires_cam import HiResCAM
from kfeedback.explain.methods.integrated_gradients import IntegratedGradients
from kfeedback.explain.methods.layer_cam import LayerCAM
from kfeedback.explain.methods.occlusion import Occlusion
from kfeedback.explain.methods.rise import RISE
from kfeedback.explain.methods.score_cam import ScoreCAM
from kfeedback.explain.methods.smooth_grad import SmoothGrad
from kfeedback.explain.plots import plot
from kfeedback.explain.sanity import randomized_layers

__all__ = [
    "OBJECTIVES",
    "READOUTS",
    "RISE",
    "STARTS",
    "UPDATE_RULES",
    "Center",
    "Deconvnet",
    "Explainer",
    "Feedback",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "GradientInput",
    "GuidedBackpropagation",
    "HiResCAM",
    "IntegratedGradients",
    "LayerCAM",
    "Method",
    "Occlusion",
    "ScoreCAM",
    "SmoothGrad",
    "boxes",
    "get_method",
    "list_methods",
    "localize",
    "look_twice",
    "metrics",
    "plot",
    "randomized_layers",
    "register",
    "saliency",
]
