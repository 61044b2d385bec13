"""Evidence for a class against its rivals, and where it stands in an image."""

import math

from keras import ops

from kfeedback.explain.methods.cam import enlarged, weighted_sum


def contrast(plain, targets):
    """How far a class's score is above those of its rivals, to be differentiated.

        J(s) = s_k − Σ_j p_j s_j,      p = softmax over j ≠ k of s°_j / T

    with s° the scores of the plain network and T their standard deviation over the
    classes. The scale of the scores does not change p. As p is a constant, J never
    saturates, however far the gates raise s_k above the rivals.

    Args:
        plain: float32 `(B, classes)`, s°.
        targets: int32 `(B,)`, the classes k.

    Returns:
        function of scores s and targets that gives J, float32 `(B,)`.
    """
    deviation = ops.std(plain, axis=-1, keepdims=True)
    deviation = ops.where(deviation > 0, deviation, ops.ones_like(deviation))
    own = ops.one_hot(targets, plain.shape[-1], dtype="float32")
    rivals = ops.softmax(ops.where(own > 0, -math.inf, plain / deviation), axis=-1)
    weights = ops.stop_gradient(own - rivals)
    return lambda scores, targets: ops.sum(weights * scores, axis=-1)


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
    return enlarged(images, network.last_maps(images, targets, objective), weighted_sum)


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
