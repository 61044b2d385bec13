"""What class activation maps share: sums over channels of the last feature maps."""

import abc

from keras import ops

from kfeedback.explain.methods.base import Method


class CAM(Method):
    """A map made of the last feature maps and their gradients, and enlarged.

    The last feature maps are those before the classifier and its pooling that have more
    than one pixel; where a classifier sees several, their maps are added.
    """

    @abc.abstractmethod
    def cam(self, maps, gradient):
        """The map of feature maps `(B, h, w, C)` and ∂s_k of them: `(B, h, w, 1)`."""

    def pairs(self, network, images, targets):
        """The last feature maps, and what stands for their gradients: two lists."""
        return network.last_maps(images, targets)

    def network(self, model):
        """The model, which must have feature maps of more than one pixel."""
        network = super().network(model)
        if not network.features:
            raise ValueError(_no_map(network.model))
        return network

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        size = tuple(ops.shape(images)[1:3])
        total = 0.0
        for x, gradient in zip(*self.pairs(network, images, targets), strict=True):
            if x.shape[1] == x.shape[2] == 1:  # of an image of unknown size
                raise ValueError(_no_map(network.model))
            x, gradient = ops.cast(x, "float32"), ops.cast(gradient, "float32")
            cam = ops.relu(self.cam(x, gradient))
            cam = ops.image.resize(cam, size, data_format="channels_last")
            total = total + ops.squeeze(cam, axis=-1)
        return total


def _no_map(model):
    return (
        "model must have a feature map of more than one pixel before its classifier, "
        f"got '{model.name}' without one."
    )
