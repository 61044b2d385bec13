"""Convolutions, poolings, activations: what several networks are made of."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def relu(x):
    return np.maximum(x, 0.0)


def conv2d(x, kernel, bias=0.0, padding="valid", stride=1):
    """`x` is `(B, H, W, C)`, `kernel` is `(h, w, C, filters)`, 'same' is Keras'."""
    x, kernel = np.asarray(x, "float64"), np.asarray(kernel, "float64")
    height, width = kernel.shape[:2]
    if padding == "same":
        x = np.pad(
            x,
            ((0, 0), *map(_same, x.shape[1:3], (height, width), [stride] * 2), (0, 0)),
        )
    rows, columns = x.shape[1] - height + 1, x.shape[2] - width + 1
    result = 0.0
    for i in range(height):
        for j in range(width):
            result = result + x[:, i : i + rows, j : j + columns] @ kernel[i, j]
    return result[:, ::stride, ::stride] + bias


def _same(side, kernel, stride):
    """Pixels that 'same' adds before and after; of an odd number more after."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def max_pool2(x):
    """2×2 windows, stride 2, 'valid'."""
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def ceil_max_pool(x, size, stride):
    """Windows cut off at the border; the last one still starts inside."""

    def places(side):
        return range(0, max(side - size, 0) + stride, stride)

    rows = [
        np.stack(
            [
                x[:, i : i + size, j : j + size].max(axis=(1, 2))
                for j in places(x.shape[2])
            ],
            axis=1,
        )
        for i in places(x.shape[1])
    ]
    return np.stack(rows, axis=1)


def dense(x, kernel, bias):
    return np.asarray(x, "float64") @ np.asarray(kernel, "float64") + bias


def emphasis(features, vector):
    """Learning with Rethinking, eq. (3), channels last."""
    return np.asarray(features, "float64") * vector[:, None, None, :]


def lrn(x, size, alpha, beta, k):
    """Local response normalization, channel by channel."""
    x = np.asarray(x, "float64")
    result = np.empty_like(x)
    for i in range(x.shape[-1]):
        window = x[..., max(0, i - size // 2) : i + size // 2 + 1]
        energy = (window**2).sum(axis=-1)
        result[..., i] = x[..., i] / (k + alpha / size * energy) ** beta
    return result


def batch_norm(x, gamma, beta, mean, variance, epsilon):
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta
