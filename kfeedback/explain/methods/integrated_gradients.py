"""Integrated gradients of Sundararajan, Taly and Yan."""

import math

from keras import ops

from kfeedback import checks
from kfeedback.backend import loop_body
from kfeedback.explain.methods.base import Method, register


@register("integrated_gradients")
class IntegratedGradients(Method):
    """Integrated gradients: the gradient along the way from a blank to the image.

        G = (I − I₀) ∘ 1/n Σ_m ∂s_k/∂I (I₀ + (m − ½)/n (I − I₀)),   m = 1 … n,
        M(i, j) = |Σ_c G(i, j, c)|

    with I the image as the model takes it, I₀ the blank, s_k the score of class k
    before the softmax or sigmoid, n the steps, and M the map. The sum of G over all
    pixels and channels is s_k(I) − s_k(I₀), to the precision of the sum.

    Args:
        steps: int ≥ 1, n, a forward and a backward pass each.
        baseline: value of every pixel of I₀, as the model takes it.

    Raises:
        ValueError: if an argument is not as above.

    Reference:
        Sundararajan, Taly and Yan, Axiomatic attribution for deep networks, 2017,
        equations 1 and 3.

    Departures: the middle of each step instead of its end; the absolute value of the
    sum over channels, as maps here are not negative.

    Example:

        maps = explain.saliency(model, images, method=explain.IntegratedGradients(50))
    """

    def __init__(self, steps=50, baseline=0.0):
        self.steps = checks.integer("steps", steps)
        self.baseline = checks.number(
            "baseline", baseline, above=-math.inf, below=math.inf
        )

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        way = images - self.baseline

        def add(step, total):
            share = (ops.cast(step, "float32") + 0.5) / self.steps
            x = self.baseline + share * way
            return total + network.gradient(x, targets)

        total = ops.fori_loop(0, self.steps, loop_body(add), ops.zeros_like(images))
        return ops.abs(ops.sum(way * total / self.steps, axis=-1))
