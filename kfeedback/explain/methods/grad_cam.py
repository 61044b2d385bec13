"""Grad-CAM of Selvaraju and others."""

from keras import ops

from kfeedback.explain.methods.base import register
from kfeedback.explain.methods.cam import CAM, weighted_sum


@register("grad_cam")
class GradCAM(CAM):
    """Grad-CAM: the last feature maps, each weighted by its mean gradient.

        M = ReLU(Σ_c w_c A_c),        w_c = 1/Z Σ_ij ∂s_k/∂A_c(i, j)

    with A_c channel c of the last feature maps before the classifier and its pooling
    that have more than one pixel, Z the number of their pixels, s_k the score of class
    k before the softmax or sigmoid, and M the map, which is enlarged to the image
    bilinearly.

    Reference:
        Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, Grad-CAM: visual
        explanations from deep networks via gradient-based localization, 2017,
        equations 1 and 2.

    Departures: the maps of a classifier that sees several last feature maps are added.

    Example:

        maps = explain.saliency(model, images, method=explain.GradCAM())
    """

    def cam(self, maps, gradient):
        """The maps, weighted: `(B, h, w, 1)`."""
        return weighted_sum(maps, ops.mean(gradient, axis=(1, 2), keepdims=True))
