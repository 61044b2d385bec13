"""Grad-CAM++ of Chattopadhay and others."""

from keras import ops

from kfeedback.explain.methods.base import register
from kfeedback.explain.methods.cam import CAM, weighted_sum


@register("grad_cam_plus_plus")
class GradCAMPlusPlus(CAM):
    """Grad-CAM++: gradients count by how much of a channel's activation they hold.

        M = ReLU(Σ_c w_c A_c),        w_c = Σ_ij α_c(i, j) ReLU(g_c(i, j)),
        α_c(i, j) = g_c(i, j)² / (2 g_c(i, j)² + g_c(i, j)³ Σ_ab A_c(a, b))

    with A_c channel c of the last feature maps, g_c = ∂s_k/∂A_c, s_k the score of class
    k before the softmax or sigmoid, and M the map, which is enlarged to the image
    bilinearly.

    Reference:
        Chattopadhay, Sarkar, Howlader and Balasubramanian, Grad-CAM++: generalized
        gradient-based visual explanations for deep convolutional networks, 2018,
        equations 5, 7 and 19.

    Departures: the paper's factor exp(s_k) of all weights is left out; α is 0 where its
    denominator is not positive.

    Example:

        maps = explain.saliency(model, images, method=explain.GradCAMPlusPlus())
    """

    def cam(self, maps, gradient):
        """The maps, weighted: `(B, h, w, 1)`."""
        # Without the scale of the gradients, whose cubes would vanish.
        total = ops.sum(maps, axis=(1, 2), keepdims=True)
        denominator = 2 + gradient * total
        positive = ops.logical_and(denominator > 0, gradient != 0)
        alpha = ops.where(positive, 1 / ops.where(positive, denominator, 1.0), 0.0)
        weight = ops.sum(alpha * ops.relu(gradient), axis=(1, 2), keepdims=True)
        return weighted_sum(maps, weight)
