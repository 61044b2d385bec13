"""Occlusion of Zeiler and Fergus."""

import math

from keras import ops

from kfeedback import checks
from kfeedback.backend import loop_body
from kfeedback.explain.methods.base import Method, fixed_shape, register
from kfeedback.explain.network import target_scores


@register("occlusion")
class Occlusion(Method):
    """Occlusion: how much a posterior falls when a square is covered.

        M(i, j) = max(0, mean over all squares at (i, j) of p_k(I) − p_k(I covered))

    with p_k the posterior of class k, and M the map. Squares lie on a grid, and those
    at the border are cut off by it.

    Args:
        window: the side of a square, as a share of the shorter side of an image, > 0
            and ≤ 1.
        stride: the step of the grid, as a share of the square's side, > 0 and ≤ 1.
        baseline: what covers a square, as the model takes it.

    Raises:
        ValueError: if an argument is not as above, or images have no fixed size.

    Reference:
        Zeiler and Fergus, Visualizing and understanding convolutional networks, 2014,
        section 4.2.

    Departures: the mean of all squares over a pixel; the positive part of the fall, as
    maps here are not negative.

    Example:

        maps = explain.saliency(model, images, method=explain.Occlusion(window=0.2))
    """

    def __init__(self, window=0.15, stride=0.5, baseline=0.0):
        self.window = checks.number("window", window, above=0, most=1)
        self.stride = checks.number("stride", stride, above=0, most=1)
        self.baseline = checks.number(
            "baseline", baseline, above=-math.inf, below=math.inf
        )

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        height, width, _ = fixed_shape(images)
        side = max(1, round(self.window * min(height, width)))
        step = max(1, round(self.stride * side))
        rows, columns = ((n - 1) // step + 1 for n in (height, width))

        def posterior(x):
            return target_scores(network.posterior(network.scores(x)), targets)

        plain = posterior(images)

        def add(n, state):
            fall, count = state
            square = ops.matmul(
                _line(n // columns, step, side, height)[:, None],
                _line(n % columns, step, side, width)[None],
            )
            cover = square[None, :, :, None]
            covered = images * (1 - cover) + self.baseline * cover
            drop = plain - posterior(covered)
            return fall + drop[:, None, None] * square, count + square

        # Types by name, as those of Keras follow floatx.
        count = ops.zeros((height, width), dtype="float32")
        start = (ops.zeros_like(images[..., 0]), count)
        body = loop_body(add)
        fall, count = ops.fori_loop(0, rows * columns, body, start)
        return ops.relu(fall / count)


def _line(n, step, length, size):
    """1 on `length` places around the middle of step n, 0 elsewhere: `(size,)`.

    As a length is at least a step, every place has a 1 for some n.
    """
    place = ops.arange(size, dtype="int32")
    first = n * step - (length - step) // 2
    inside = ops.logical_and(place >= first, place < first + length)
    return ops.cast(inside, "float32")
