"""Transfer learning with feedback networks: gates, cell and network."""

import numpy as np

from tests.reference.operations import batch_norm, conv2d, dense, relu, sigmoid, softmax


def padded_conv2d(x, kernel, bias, stride):
    """A convolution that pads half the kernel on both sides, whatever the stride."""
    height, width = (side // 2 for side in kernel.shape[:2])
    x = np.pad(x, ((0, 0), (height, height), (width, width), (0, 0)))
    return conv2d(x, kernel, bias, "valid", stride)


def conv_lstm_gates(x, weights, name, stride=1, timestep=0, batch=False, epsilon=1e-5):
    """`W(x)`, with batch norm if there are weights of it.

    Args:
        x: `(B, H, W, C)`, or `None` for zeros: the convolution of those is the bias at
            every place, and a constant is its own mean, so that batch norm leaves β.
        weights: arrays by path.
        name: what the paths of the layer start with.
        stride: of the convolution.
        timestep: that whose moving statistics are taken; the last ones serve all later.
        batch: normalize by the statistics of the batch, as in training.
        epsilon: of the batch norm.
    """
    kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
    if f"{name}/gamma" not in weights:
        return bias if x is None else padded_conv2d(x, kernel, bias, stride)
    gamma, beta = weights[f"{name}/gamma"], weights[f"{name}/beta"]
    if x is None:
        return beta
    x = padded_conv2d(x, kernel, bias, stride)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    if not batch:
        means, variances = (
            weights[f"{name}/moving_{part}"] for part in ("mean", "variance")
        )
        slot = min(timestep, len(means) - 1)
        mean, variance = means[slot], variances[slot]
    return batch_norm(x, gamma, beta, mean, variance, epsilon)


def conv_lstm_cell(x, state, weights, name, stride=1, timestep=0, batch=False):
    """One timestep of the convolutional LSTM of section 3, without peepholes.

    Args:
        x: input; or, if there are no weights for one, its share of the gates.
        state: `(H, C)`, or `None` for zeros.
        weights: arrays by path.
        name: what the paths of the cell start with.
        stride, timestep, batch: as in `conv_lstm_gates`.

    Returns:
        the next `(H, C)`.
    """
    h, c = (None, 0.0) if state is None else state
    if f"{name}/input_gates/kernel" in weights:
        x = conv_lstm_gates(x, weights, f"{name}/input_gates", stride, timestep, batch)
    total = x + conv_lstm_gates(
        h, weights, f"{name}/recurrent_gates", 1, timestep, batch
    )
    i, f, g, o = np.split(total, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def feedback_convlstm(images, weights, cells, timesteps, batch=False):
    """Transfer learning with feedback networks, sections 3.1 to 3.3, no dropout.

    Args:
        images: the images, the same at every pass.
        weights: arrays by variable path.
        cells: groups of `(filters, stride)`.
        timesteps: passes.
        batch: normalize by the statistics of the batch, as in training.

    Returns:
        `(B, timesteps, classes)`.
    """
    x = conv2d(images, weights["stem_conv/kernel"], weights["stem_conv/bias"], "same")
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    if not batch:
        mean, variance = (
            weights[f"stem_bn/moving_{part}"] for part in ("mean", "variance")
        )
    gamma, beta = weights["stem_bn/gamma"], weights["stem_bn/beta"]
    features = relu(batch_norm(x, gamma, beta, mean, variance, 1e-5))
    first = conv_lstm_gates(
        features, weights, "group1_cell1_input_gates", cells[0][0][1], batch=batch
    )
    states, predictions = {}, []
    for timestep in range(timesteps):
        x = first
        for group, strides in enumerate(cells, start=1):
            for cell, (_, stride) in enumerate(strides, start=1):
                name = f"group{group}_cell{cell}"
                x = relu(x) if cell > 1 else x
                states[name] = conv_lstm_cell(
                    x, states.get(name), weights, name, stride, timestep, batch
                )
                x = states[name][0]
        b, h, w, c = x.shape
        pooled = relu(x).reshape(b, h // 4, 4, w // 4, 4, c).mean(axis=(2, 4))
        hidden = pooled.reshape(b, -1)
        hidden = relu(dense(hidden, weights["dense/kernel"], weights["dense/bias"]))
        output = dense(
            hidden, weights["predictions/kernel"], weights["predictions/bias"]
        )
        predictions.append(softmax(output))
    return np.stack(predictions, axis=1)
