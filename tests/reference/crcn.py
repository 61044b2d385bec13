"""CRCN: its contextual modules, and the passes over a stacked network."""

import numpy as np

from tests.reference.operations import conv2d, dense, max_pool2, relu, softmax


def contextual(bottom_up, top_down, weights, module):
    """The contextual modules of CRCN, eq. (2) to (5).

    Args:
        bottom_up: B.
        top_down: the higher layer's output, of any size.
        weights: arrays of a `Contextual` by name, such as `gate/kernel`.
        module: `"proposed"`, 1, 2 or 3.
    """
    b, u = np.asarray(bottom_up, "float64"), np.asarray(top_down, "float64")
    rows, columns = (
        [i * u.shape[axis] // b.shape[axis] for i in range(b.shape[axis])]
        for axis in (1, 2)
    )
    u = u[:, rows][:, :, columns]

    def conv(name, x):
        return conv2d(x, weights[f"{name}/kernel"], weights[f"{name}/bias"], "same")

    if "align/kernel" in weights:
        u = conv("align", u)
    both = np.concatenate([u, b], axis=-1)
    if module == "proposed":
        return np.tanh(conv("gate", both)) * u + b
    gate = np.tanh(conv("gate", both if module == 2 else u))
    context = conv("contextual", both)
    if module == 3:
        return np.tanh(context) * u + gate * context + b
    return gate * context + b


def crcn_stacked(images, weights, timesteps, loops, module, bottom_up):
    """CRCN on the plain `stacked_net` of `tests.models.common`.

    Args:
        images: `(B, H, W, C)`.
        weights: arrays by variable path.
        timesteps: passes.
        loops: dict from each lower layer's name to its higher layer's.
        module: `"proposed"`, 1, 2 or 3.
        bottom_up: `"recomputed"` or `"carried"`.

    Returns:
        `(B, timesteps, classes)`.
    """
    predictions, before = [], {}
    for step in range(timesteps):
        now, x = {}, np.asarray(images, "float64")
        for name in ("conv1", "conv2", "pool", "conv3", "conv4", "pool", "conv5"):
            if name == "pool":
                x = max_pool2(x)
                continue
            x = conv2d(x, weights[f"{name}/kernel"], weights[f"{name}/bias"], "same")
            x = relu(x)
            if step > 0 and name in loops:
                prefix = f"{name}_contextual/"
                own = {k.removeprefix(prefix): v for k, v in weights.items()}
                b = before[name] if bottom_up == "carried" else x
                x = contextual(b, before[loops[name]], own, module)
            now[name] = x
        x = x.mean(axis=(1, 2))
        x = dense(x, weights["predictions/kernel"], weights["predictions/bias"])
        predictions.append(softmax(x))
        before = now
    return np.stack(predictions, axis=1)
