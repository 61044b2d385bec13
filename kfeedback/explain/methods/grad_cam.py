"""Grad-CAM of Selvaraju and others."""

from keras import ops

from kfeedback.explain.methods.base import Method, register


@register("grad_cam")
class GradCAM(Method):
    """Grad-CAM: the last feature maps, each weighted by its mean gradient.

        M = ReLU(Σ_c w_c A_c),        w_c = 1/Z Σ_ij ∂s_k/∂A_c(i, j)

    with A_c channel c of the last feature maps before the classifier and its pooling
    that have more than one pixel,
    Z the number of their pixels, s_k the score of class k before the softmax or
    sigmoid, and M the map, which is enlarged to the image bilinearly.

    Reference:
        Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, Grad-CAM: visual
        explanations from deep networks via gradient-based localization, 2017,
        equations 1 and 2.

    Departures: the maps of a classifier that sees several last feature maps are added.

    Example:

        maps = explain.saliency(model, images, method=explain.GradCAM())
    """

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
        for x, gradient in zip(*network.last_maps(images, targets), strict=True):
            if x.shape[1] == x.shape[2] == 1:  # of an image of unknown size
                raise ValueError(_no_map(network.model))
            weight = ops.mean(gradient, axis=(1, 2), keepdims=True)
            cam = ops.relu(ops.sum(weight * x, axis=-1, keepdims=True))
            cam = ops.cast(cam, "float32")
            cam = ops.image.resize(cam, size, data_format="channels_last")
            total = total + ops.squeeze(cam, axis=-1)
        return total


def _no_map(model):
    return (
        "model must have a feature map of more than one pixel before its classifier, "
        f"got '{model.name}' without one."
    )
