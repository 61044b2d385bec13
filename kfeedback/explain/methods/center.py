"""The middle of an image: what a saliency method has to be better than."""

from keras import ops

from kfeedback import checks
from kfeedback.explain.methods.base import Method, register


@register("center")
class Center(Method):
    """A Gaussian in the middle, whatever the image, the class and the network.

        M(i, j) = exp(−((i − (H − 1) / 2)² / H² + (j − (W − 1) / 2)² / W²) / (2 σ²))

    for row i and column j of an image of H × W pixels. It is a control: photographers
    put objects in the middle, so that a part of every success is no merit of a method.

    Args:
        spread: σ > 0, as a share of a side. By default a box of 80 % of the energy,
            that of a second look, takes 60 % of each side.

    Raises:
        ValueError: if `spread` is no number > 0.

    Reference:
        Choe et al., Evaluating weakly supervised object localization methods right,
        2020, section 5.2, the center-Gaussian baseline.

    Departures: σ, which is one side there.

    Example:

        control = explain.Explainer(model, "center").look_twice(photographs)
    """

    def __init__(self, spread=1 / 6):
        self.spread = checks.number("spread", spread, above=0)

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        shape = ops.shape(images)
        lines = []
        for size in shape[1:3]:
            place = ops.arange(size, dtype="float32") - (size - 1) / 2
            lines.append(ops.exp(-((place / (self.spread * size)) ** 2) / 2))
        one = lines[0][:, None] * lines[1]
        return ops.broadcast_to(one[None], (shape[0], *one.shape))
