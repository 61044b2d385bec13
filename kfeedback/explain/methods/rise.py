"""RISE of Petsiuk, Das and Saenko."""

import numpy as np
from keras import ops

from kfeedback import checks
from kfeedback.backend import loop_body
from kfeedback.explain.methods.base import Method, fixed_shape, register
from kfeedback.explain.network import target_scores


@register("rise")
class RISE(Method):
    """RISE: the mean of random masks, by the posterior of what they leave.

        M = 1/(n p) Σ_m p_k(I ∘ m) m

    with I the image as the model takes it, p_k the posterior of class k, m the n masks:
    grids whose cells are 1 with the probability p and 0 else, enlarged bilinearly to
    more than the image and cut out at a random place.

    Args:
        masks: int ≥ 1, n, a forward pass each.
        grid: int ≥ 1, cells a side.
        share: p, > 0 and < 1.
        seed: int ≥ 0, of the masks, which are the same for all images.

    Raises:
        ValueError: if an argument is not as above, or images have no fixed size.

    Reference:
        Petsiuk, Das and Saenko, RISE: randomized input sampling for explanation of
        black-box models, 2018, equation 6 and section 3.2.

    Departures: fewer masks by default; the paper has 4,000 or 8,000.

    Example:

        maps = explain.saliency(model, images, method=explain.RISE(masks=4000))
    """

    def __init__(self, masks=500, grid=7, share=0.5, seed=0):
        self.masks = checks.integer("masks", masks)
        self.grid = checks.integer("grid", grid)
        self.share = checks.number("share", share, above=0, below=1)
        self.seed = checks.integer("seed", seed, least=0)

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        height, width, _ = fixed_shape(images)
        # The size of a cell, and of the grid with one more on each axis.
        cells = [-(-n // self.grid) for n in (height, width)]
        size = tuple(cell * (self.grid + 1) for cell in cells)
        random = np.random.default_rng(self.seed)
        shape = (self.masks, self.grid + 1, self.grid + 1, 1)
        grids = (random.uniform(size=shape) < self.share).astype(np.float32)
        grids = ops.convert_to_tensor(grids)
        starts = random.integers(0, cells, (self.masks, 2)).astype(np.int32)
        starts = ops.convert_to_tensor(starts)

        def add(n, total):
            large = ops.take(grids, n, axis=0)[None]
            large = ops.image.resize(large, size, data_format="channels_last")[0, :, :]
            first = ops.take(starts, n, axis=0)
            place = [first[0], first[1], 0 * first[0]]
            mask = ops.slice(large, ops.stack(place), (height, width, 1))
            posterior = network.posterior(network.scores(images * mask[None]))
            weight = target_scores(posterior, targets)[:, None, None]
            return total + weight * mask[None, :, :, 0]

        zeros = ops.zeros_like(images[..., 0])
        total = ops.fori_loop(0, self.masks, loop_body(add), zeros)
        return total / (self.masks * self.share)
