"""Score-CAM of Wang and others."""

from keras import ops

from kfeedback.backend import loop_body
from kfeedback.explain.methods.base import register
from kfeedback.explain.methods.cam import CAM
from kfeedback.explain.network import target_scores


@register("score_cam")
class ScoreCAM(CAM):
    """Score-CAM: the last feature maps, by the score of what they leave of the image.

        M = ReLU(Σ_c w_c A_c),        w = softmax over c of s_k(I ∘ H_c) − s_k(0)

    with A_c channel c of the last feature maps, H_c the same enlarged to the image
    bilinearly and stretched to 0 to 1, I the image as the model takes it, s_k the score
    of class k before the softmax or sigmoid, and M the map, which is enlarged to the
    image. It takes a forward pass a channel.

    Reference:
        Wang, Wang, Du, Yang, Zhang, Ding, Mardziel and Hu, Score-CAM: score-weighted
        visual explanations for convolutional neural networks, 2020, definition 2 and
        algorithm 1.

    Departures: s_k(0) is left out, as a softmax does not see what is the same for all.

    Example:

        maps = explain.saliency(model, images, method=explain.ScoreCAM())
    """

    def pairs(self, network, images, targets):
        """The last maps and the weights of their channels: two lists."""
        maps, _ = network.last_maps(images, targets)
        return maps, [_weights(network, images, targets, x) for x in maps]


def _weights(network, images, targets, maps):
    size = tuple(ops.shape(images)[1:3])
    channels = maps.shape[-1]

    def add(n, scores):
        one = ops.take(maps, n, axis=-1)[..., None]
        one = ops.cast(one, "float32")
        one = ops.image.resize(one, size, data_format="channels_last")
        low = ops.min(one, axis=(1, 2), keepdims=True)
        spread = ops.max(one, axis=(1, 2), keepdims=True) - low
        one = (one - low) / ops.where(spread > 0, spread, ops.ones_like(spread))
        score = target_scores(network.scores(images * one), targets)
        return scores + score[:, None] * ops.one_hot(n, channels, dtype="float32")

    zeros = ops.zeros_like(ops.cast(maps[:, 0, 0, :], "float32"))
    scores = ops.fori_loop(0, channels, loop_body(add), zeros)
    return ops.softmax(scores, axis=-1)[:, None, None, :]
