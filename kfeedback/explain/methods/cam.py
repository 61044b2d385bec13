"""What class activation maps share: sums over channels of the last feature maps."""

from keras import ops

from kfeedback.explain.methods.base import Method


class CAM(Method):
    """A map made of the last feature maps and their gradients, and enlarged.

    The last feature maps are those before the classifier and its pooling that have more
    than one pixel; where a classifier sees several, their maps are added.
    """

    def cam(self, maps, gradient):
        """The map of feature maps `(B, h, w, C)` and ∂s_k of them: `(B, h, w, 1)`.

        Args:
            maps: feature maps `(B, h, w, C)`.
            gradient: what `pairs` gave for them, in most methods the gradient `(B, h,
                w, C)`.
        """
        return weighted_sum(maps, gradient)

    def pairs(self, network, images, targets):
        """The last feature maps, and what stands for their gradients: two lists.

        Args:
            network: what `network` gave.
            images: `(B, H, W, C)`, as the model takes them.
            targets: int32 `(B,)`.
        """
        return network.last_maps(images, targets)

    def network(self, model):
        """The model, which must have feature maps of more than one pixel."""
        network = super().network(model)
        if not network.features:
            raise ValueError(_no_map(network.model))
        return network

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        found = enlarged(images, self.pairs(network, images, targets), self.cam)
        if found is None:
            raise ValueError(_no_map(network.model))
        return found


def enlarged(images, pairs, cam):
    """The sum of the positive parts of maps, each enlarged to the images bilinearly.

    Args:
        images: `(B, H, W, C)`.
        pairs: two lists, feature maps `(B, h, w, C)` and what weighs them.
        cam: function of one of each that gives `(B, h, w, 1)`.

    Returns:
        float32 `(B, H, W)`, or `None` if no map has more than one pixel, as can be
        where the model takes images of any size.
    """
    size, total = tuple(ops.shape(images)[1:3]), None
    for x, weights in zip(*pairs, strict=True):
        if x.shape[1] == x.shape[2] == 1:
            continue
        x, weights = ops.cast(x, "float32"), ops.cast(weights, "float32")
        one = ops.relu(cam(x, weights))
        one = ops.image.resize(one, size, data_format="channels_last")
        one = ops.squeeze(one, axis=-1)
        total = one if total is None else total + one
    return total


def weighted_sum(maps, weights):
    """`Σ_c w_c A_c` of maps `(B, h, w, C)` and weights, one a channel or a place."""
    return ops.sum(weights * maps, axis=-1, keepdims=True)


def _no_map(model):
    return (
        "model must have a feature map of more than one pixel before its classifier, "
        f"got '{model.name}' without one."
    )
