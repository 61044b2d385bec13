"""Guided backpropagation of Springenberg and others."""

from keras import ops

from kfeedback.explain.methods.base import Method, register
from kfeedback.explain.network import Network


@register("guided_backpropagation")
class GuidedBackpropagation(Method):
    """Guided backpropagation: negative gradients stop at every ReLU.

        R_l = [x_l > 0] ∘ [R_(l+1) > 0] ∘ R_(l+1),        M(i, j) = max_c |R_0(i, j, c)|

    with x_l the input of ReLU l, R_(l+1) what comes down to its output, R_l what it
    lets down to its input, R_0 what reaches the image, and M the map over its pixels
    (i, j). It starts from the score of a class before the softmax or sigmoid. Other
    layers let down their gradient. A model needs a ReLU on its feature maps, as for
    `Feedback`; it may be of 6, leaky, or written as an operation or a `Lambda`.

    Reference:
        Springenberg, Dosovitskiy, Brox and Riedmiller, Striving for simplicity: the all
        convolutional net, 2015, section 3.4.

    Departures: the maximum of |R_0| over channels, as for the image gradient, in place
    of a picture in color. A leaky ReLU's own slope takes the place of [x > 0].

    Example:

        maps = explain.saliency(model, images, method="guided_backpropagation")
    """

    def network(self, model):
        """The model, which must have ReLUs."""
        return Network(model, gated=False, needs_relus=True)

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        return network.input_map(
            images, targets, lambda _, y: rectify(y, y), sites=network.relus
        )


def rectify(x, value):
    """`value`; only positive gradients go down, all of those, and straight to x."""

    @ops.custom_gradient
    def apply(x, value):
        def gradient(*args, upstream=None):
            up = ops.relu(args[0] if upstream is None else upstream)
            return up, ops.zeros_like(up)

        return value, gradient

    return apply(x, value)
