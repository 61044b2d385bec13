"""Gradient × input of Shrikumar and others."""

from keras import ops

from kfeedback.explain.methods.base import Method, register


@register("gradient_input")
class GradientInput(Method):
    """Gradient × input: what every pixel would add to the score of a linear network.

        M(i, j) = |Σ_c I(i, j, c) ∂s_k/∂I(i, j, c)|

    with I the image as the model takes it, c its channels, s_k the score of class k
    before the softmax or sigmoid, and M the map.

    Reference:
        Shrikumar, Greenside, Shcherbina and Kundaje, Not just a black box: learning
        important features through propagating activation differences, 2016, section 2.

    Departures: the absolute value of the sum, as maps here are not negative.

    Example:

        maps = explain.saliency(model, images, method="gradient_input")
    """

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        gradient = network.gradient(images, targets)
        return ops.abs(ops.sum(images * gradient, axis=-1))
