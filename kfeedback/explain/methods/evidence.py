"""Evidence for a class against its rivals, and where it stands in an image."""

import math

from keras import ops

from kfeedback.explain.methods.cam import at_places, enlarged
from kfeedback.explain.network import take


def contrast(scores, targets):
    """How far a class's score is above those of its rivals, to be differentiated.

        J = s_k − T log Σ_j exp(s_j / T)

    with T the standard deviation of the scores s over the classes, taken as a constant.
    The gradient ∂J/∂s_j = [j = k] − softmax(s / T)_j does not depend on the scale of
    the scores: in every network it stands against the same share of rivals.

    Args:
        scores: float32 `(B, classes)`.
        targets: int32 `(B,)`, the classes k.

    Returns:
        float32 `(B,)`.
    """
    deviation = ops.stop_gradient(ops.std(scores, axis=-1, keepdims=True))
    deviation = ops.where(deviation > 0, deviation, ops.ones_like(deviation))
    rivals = ops.logsumexp(scores / deviation, axis=-1)
    return take(scores, targets) - ops.squeeze(deviation, -1) * rivals


def evidence(network, images, targets, objective):
    """What every place of the last feature maps adds to an objective, if it is for it.

        E = max(0, Σ_c y_c ∂J/∂y_c)

    The sum over the channels c lets what speaks for and against cancel at a place.

    Args:
        network: `Network`.
        images: `(B, H, W, C)`.
        targets: int32 `(B,)`.
        objective: function of scores and targets that gives J `(B,)`.

    Returns:
        float32 `(B, H, W)`, enlarged bilinearly, the sum where there are several last
        maps; or `None` where there is none of more than one pixel.
    """
    return enlarged(images, network.last_maps(images, targets, objective), at_places)


def blur(maps, deviation):
    """Maps `(B, H, W)` filtered by a Gaussian; beyond the border they are zero.

    Args:
        maps: float32 tensor `(B, H, W)`.
        deviation: ≥ 0, of the Gaussian, as a share of the longer side.

    Returns:
        float32 `(B, H, W)`.
    """
    if deviation == 0:
        return maps
    _, height, width = ops.shape(maps)
    sigma = deviation * ops.cast(ops.maximum(height, width), "float32")
    rows, columns = _gaussians(height, sigma), _gaussians(width, sigma)
    return ops.matmul(ops.matmul(rows, maps), columns)


def _gaussians(length, sigma):
    """A matrix whose row i is a Gaussian around i."""
    place = ops.cast(ops.arange(length), "float32")
    distance = (place[:, None] - place[None, :]) / sigma
    return ops.exp(-0.5 * ops.square(distance)) / (sigma * math.sqrt(2 * math.pi))
