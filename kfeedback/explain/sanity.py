"""A sanity check: does a map depend on what the network has learned?"""

import keras
import numpy as np

from kfeedback import checks
from kfeedback.explain.explainer import Explainer


def randomized_layers(explainer, images, targets=None, *, seed=0):
    """How alike maps stay when layers are randomized, one more at a time, from the top.

    First the weights of the layer nearest to the output are shuffled, then those of the
    one below too, and so on. Each time the new maps M' are compared with those of the
    trained network, M, by the rank correlation of their pixels (Spearman's):

        ρ = corr(rank(M), rank(M'))

    where equal values share the mean of their ranks. The maps of a method that shows
    what the network has learned soon become others. Where they stay alike, they show
    the image, whatever was learned. The network is afterwards as it was.

    Args:
        explainer: `explain.Explainer`. Nobody else may use its model meanwhile.
        images: as for `Explainer.saliency`.
        targets: as there, one an image; by default what the trained network predicts.
        seed: int ≥ 0.

    Returns:
        dict, in that order, from the name of a layer to float64 `(N,)`: ρ of each image
        once all layers down to this one are randomized. It is 0 where one of the maps
        is flat.

    Raises:
        TypeError: if `explainer` is none.
        ValueError: if another argument is not as above.

    Reference:
        Adebayo et al., Sanity checks for saliency maps, 2018, section 4.1: cascading
        randomization.

    Departures: the entries of a weight are shuffled instead of drawn anew, so that each
    keeps its distribution, and a batch norm's variances stay positive.

    Example:

        explainer = explain.Explainer(model, "grad_cam", preprocess="scale")
        for layer, similarity in explain.randomized_layers(explainer, images).items():
            print(layer, similarity.mean())
    """
    if not isinstance(explainer, Explainer):
        raise TypeError(
            f"explainer must be an explain.Explainer, got {type(explainer).__name__}."
        )
    rng = np.random.default_rng(checks.integer("seed", seed, least=0))
    layers = [
        layer
        for layer in explainer.network.model.layers
        # Statistics of the data are not learned.
        if layer.weights and not isinstance(layer, keras.layers.Normalization)
    ]
    if targets is None:
        targets = explainer.predict(images, verbose=False).argmax(axis=-1)
    elif np.ndim(targets) != 1:
        raise ValueError(f"targets must be (N,), got {np.shape(targets)}.")
    before = explainer.saliency(images, targets, verbose=False)
    found, kept = {}, [layer.get_weights() for layer in layers]
    try:
        for layer in reversed(layers):
            layer.set_weights([_shuffled(rng, x) for x in layer.get_weights()])
            after = explainer.saliency(images, targets, verbose=False)
            found[layer.name] = rank_correlations(before, after)
    finally:
        for layer, weights in zip(layers, kept, strict=True):
            layer.set_weights(weights)
    return found


def rank_correlations(maps, others):
    """Spearman's correlation of maps, pair by pair: float64 `(N,)`; 0 for flat maps.

    Args:
        maps, others: `(N, H, W)`.
    """
    from scipy import stats  # here, as importing kfeedback brings no SciPy along

    ranks = np.stack(
        [stats.rankdata(x.reshape(len(x), -1), axis=1) for x in (maps, others)]
    )
    ranks -= ranks.mean(axis=2, keepdims=True)
    norms = np.linalg.norm(ranks, axis=2).prod(axis=0)
    return ranks.prod(axis=0).sum(axis=1) / np.where(norms > 0, norms, 1)


def _shuffled(rng, weight):
    return rng.permutation(weight.ravel()).reshape(weight.shape)
