"""The image gradient of Simonyan, Vedaldi and Zisserman."""

from kfeedback.explain.methods.base import Method, register


@register("gradient")
class Gradient(Method):
    """Image gradient: how much the score of a class changes with a pixel.

        M(i, j) = max_c |∂s_k/∂I(i, j, c)|

    with I the image as the model takes it, c its channels, s_k the score of class k
    before the softmax or sigmoid, and M the map.

    Reference:
        Simonyan, Vedaldi and Zisserman, Deep inside convolutional networks: visualising
        image classification models and saliency maps, 2014, section 3.1.

    Departures: none.

    Example:

        maps = explain.saliency(model, images, method=explain.Gradient())
    """

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        return network.input_map(images, targets)
