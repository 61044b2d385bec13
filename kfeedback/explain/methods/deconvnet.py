"""The deconvolutional network of Zeiler and Fergus."""

from kfeedback.explain.methods.base import register
from kfeedback.explain.methods.guided_backpropagation import (
    GuidedBackpropagation,
    rectify,
)


@register("deconvnet")
class Deconvnet(GuidedBackpropagation):
    """Deconvnet: what goes down passes through the ReLU, whatever came up.

        R_l = ReLU(R_(l+1)),        M(i, j) = max_c |R_0(i, j, c)|

    with R_(l+1) what comes down to the output of ReLU l, R_l what it lets down to its
    input, R_0 what reaches the image, and M the map over its pixels (i, j). It starts
    from the score of a class before the softmax or sigmoid. Other layers let down their
    gradient, max-pooling to where its maximum was. A model needs a ReLU on its feature
    maps, as for `GuidedBackpropagation`.

    Reference:
        Zeiler and Fergus, Visualizing and understanding convolutional networks, 2014,
        section 2.1.

    Departures: it starts from a class instead of one activation of a feature map, and
    the map is the maximum of |R_0| over channels.

    Example:

        maps = explain.saliency(model, images, method="deconvnet")
    """

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        # One that a layer repeats inside cannot be left out there.
        relus = [
            site
            for site in network.relus
            if not getattr(site.operation, "has_relus_inside", False)
        ]

        def edit(n, y):
            return rectify(y, relus[n].activate(y))

        linear = {site.operation for site in relus}
        return network.input_map(images, targets, edit, sites=relus, linear=linear)
