"""The attention of Learn to pay attention."""

import numpy as np

from tests.reference.operations import softmax


def spatial_attention(local_features, global_feature, kernel=None):
    """The attention of Learn to pay attention, place by place.

    Args:
        local_features: `(B, H, W, C)`.
        global_feature: `(B, C)`.
        kernel: u, `(C, 1)`, or `None` for the dot product.
    """
    results = []
    for local, g in zip(local_features, global_feature, strict=True):
        places = [np.asarray(l_i, "float64") for row in local for l_i in row]
        scores = [
            g @ l_i if kernel is None else kernel[:, 0] @ (l_i + g) for l_i in places
        ]
        weights = softmax(np.asarray(scores))
        results.append(sum(a_i * l_i for a_i, l_i in zip(weights, places, strict=True)))
    return np.stack(results)
