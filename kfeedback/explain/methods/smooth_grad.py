"""SmoothGrad of Smilkov and others, around any method."""

import numpy as np
from keras import ops

from kfeedback import checks
from kfeedback.backend import loop_body
from kfeedback.explain.methods.base import Method, fixed_shape, get_method, register


@register("smooth_grad")
class SmoothGrad(Method):
    """SmoothGrad: the mean of a method's maps of noisy copies of an image.

        M(I) = 1/n Σ_m M'(I + ε_m),     ε_m ~ N(0, σ²),   σ = noise · (max I − min I)

    with I the image as the model takes it, n the samples, and M' what the method maps.

    Args:
        method: a saliency method, or its name.
        samples: int ≥ 1, n.
        noise: > 0 and ≤ 1, the deviation as a share of the range of an image.
        seed: int ≥ 0, of the noise, which is the same for all images.

    Raises:
        TypeError: if `method` is a class.
        ValueError: if an argument is not as above, or images have no fixed size.

    Reference:
        Smilkov, Thorat, Kim, Viégas and Wattenberg, SmoothGrad: removing noise by
        adding noise, 2017, section 3.

    Departures: around any method, not the gradient alone.

    Example:

        method = explain.SmoothGrad(explain.GuidedBackpropagation(), samples=25)
        maps = explain.saliency(model, images, method=method)
    """

    def __init__(self, method="gradient", samples=25, noise=0.15, seed=0):
        self.method = get_method(method)
        self.samples = checks.integer("samples", samples)
        self.noise = checks.number("noise", noise, above=0, most=1)
        self.seed = checks.integer("seed", seed, least=0)

    @property
    def energy(self):
        """The share of energy of the method's own boxes."""
        return self.method.energy

    def network(self, model):
        """The model as the method calls it."""
        return self.method.network(model)

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        shape = fixed_shape(images)
        noise = np.random.default_rng(self.seed).standard_normal(
            (self.samples, *shape), dtype=np.float32
        )
        noise = ops.convert_to_tensor(noise)
        axes = (1, 2, 3)
        spread = ops.max(images, axes, True) - ops.min(images, axes, True)

        def add(sample, total):
            x = images + self.noise * spread * ops.take(noise, sample, axis=0)[None]
            _, features = network.first_pass(x)
            return total + self.method.maps(network, x, targets, features)

        zeros = ops.zeros_like(images[..., 0])
        total = ops.fori_loop(0, self.samples, loop_body(add), zeros)
        return total / self.samples
