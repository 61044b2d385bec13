"""Layer-CAM of Jiang and others."""

from keras import ops

from kfeedback.explain.methods.base import register
from kfeedback.explain.methods.cam import CAM, weighted_sum


@register("layer_cam")
class LayerCAM(CAM):
    """Layer-CAM: every place of the last feature maps, by its own positive gradient.

        M = ReLU(Σ_c ReLU(∂s_k/∂A_c) ∘ A_c)

    with A_c channel c of the last feature maps, s_k the score of class k before the
    softmax or sigmoid, and M the map, which is enlarged to the image bilinearly.

    Reference:
        Jiang, Zhang, Hou, Cheng and Wei, LayerCAM: exploring hierarchical class
        activation maps for localization, 2021, equations 4 to 6.

    Departures: the last feature maps alone, not those of several layers.

    Example:

        maps = explain.saliency(model, images, method=explain.LayerCAM())
    """

    def cam(self, maps, gradient):
        """The maps, weighted: `(B, h, w, 1)`."""
        return weighted_sum(maps, ops.relu(gradient))
