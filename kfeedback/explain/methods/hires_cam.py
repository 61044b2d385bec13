"""HiResCAM of Draelos and Carin."""

from kfeedback.explain.methods.base import register
from kfeedback.explain.methods.cam import CAM


@register("hires_cam")
class HiResCAM(CAM):
    """HiResCAM: what every place of the last feature maps adds to the score.

        M = ReLU(Σ_c ∂s_k/∂A_c ∘ A_c)

    with A_c channel c of the last feature maps, s_k the score of class k before the
    softmax or sigmoid, and M the map, which is enlarged to the image bilinearly.

    Reference:
        Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of
        convolutional neural networks, 2020, equation 3.

    Departures: the ReLU, as maps here are not negative.

    Example:

        maps = explain.saliency(model, images, method=explain.HiResCAM())
    """
