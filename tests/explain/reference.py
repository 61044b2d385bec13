"""Look and Think Twice in NumPy and float64, for convolutions and one dense layer.

`weights` is `[(kernel, bias), …]`, the convolutions ('valid') and last the dense layer;
gates are a list with one array a convolution, like its output.
"""

import numpy as np

from tests.reference.operations import conv2d, relu


def forward(images, weights, gates):
    """The ReLUs' outputs before their gates, and the scores."""
    x, outputs = np.asarray(images, "float64"), []
    for (kernel, bias), z in zip(weights[:-1], gates, strict=True):
        outputs.append(relu(conv2d(x, kernel, bias)))
        x = z * outputs[-1]
    kernel, bias = weights[-1]
    return outputs, x.reshape(len(x), -1) @ np.asarray(kernel, "float64") + bias


def activations(images, weights):
    """1 where a ReLU fired in the plain network."""
    shapes = [np.ones(1)] * (len(weights) - 1)
    return [(r > 0).astype("float64") for r in forward(images, weights, shapes)[0]]


def backward(
    images, weights, gates, targets, rule="gradient_ascent", objective="score"
):
    """∂s_k/∂y of every layer, and ∂s_k/∂I; with the rule "recovering" on the way down
    through the gates that it finds instead of those given."""
    outputs, scores = forward(images, weights, gates)
    shares = np.eye(scores.shape[1])[targets]
    if objective == "contrast":
        shares = rivals(images, weights, targets)
    up = shares @ np.asarray(weights[-1][0], "float64").T
    up = up.reshape(outputs[-1].shape)
    reached = []
    for number in reversed(range(len(outputs))):
        reached.insert(0, up)
        gate = up > 0 if rule == "recovering" else gates[number]
        below = images.shape if number == 0 else outputs[number - 1].shape
        up = _conv_transposed(
            up * gate * (outputs[number] > 0), weights[number][0], below
        )
    return outputs, reached, up


def rivals(images, weights, targets):
    """What of each score is in J: that of the class, less those of its rivals."""
    ones = [np.ones(1)] * (len(weights) - 1)
    plain = forward(images, weights, ones)[1]
    own = np.eye(plain.shape[1])[targets]
    odds = np.exp(plain / plain.std(axis=1, keepdims=True)) * (1 - own)
    return own - odds / odds.sum(axis=1, keepdims=True)


def ascend(images, weights, targets, iterations, alpha, sparsity, gates):
    """z ← clip(z + α (∂s_k/∂z − λ), 0, 1), all layers at once."""
    for _ in range(iterations):
        outputs, reached, _ = backward(images, weights, gates, targets)
        gates = [
            np.clip(z + alpha * (r * g - sparsity), 0, 1)
            for z, r, g in zip(gates, outputs, reached, strict=True)
        ]
    return gates


def ascend_normalized(
    images, weights, targets, iterations, alpha, sparsity, gates, objective="score"
):
    """The same with ∂s_k/∂z divided by its largest size in the layer and image."""
    for _ in range(iterations):
        outputs, reached, _ = backward(
            images, weights, gates, targets, objective=objective
        )
        found = [r * g for r, g in zip(outputs, reached, strict=True)]
        scales = [abs(g).max(axis=(1, 2, 3), keepdims=True) for g in found]
        gates = [
            np.clip(z + alpha * (g / np.where(s > 0, s, 1) - sparsity), 0, 1)
            for z, g, s in zip(gates, found, scales, strict=True)
        ]
    return gates


def prune(images, weights, targets, iterations, gates, rule):
    """The later rules: z = 1 where ∂s_k/∂y > 0."""
    for _ in range(iterations):
        reached = backward(images, weights, gates, targets, rule)[1]
        gates = [(g > 0).astype("float64") for g in reached]
    return gates


def saliency(images, weights, targets, gates, objective="score"):
    """max over channels of |∂J/∂I| at the binarized gates."""
    binary = [(z > 0.5).astype("float64") for z in gates]
    found = backward(images, weights, binary, targets, objective=objective)[2]
    return abs(found).max(axis=-1)


def evidence(images, weights, targets, objective="score"):
    """max(0, Σ_c y_c ∂J/∂y_c) of the last maps, without gates and not enlarged."""
    ones = [np.ones(1)] * (len(weights) - 1)
    outputs, reached, _ = backward(images, weights, ones, targets, objective=objective)
    return relu((outputs[-1] * reached[-1]).sum(axis=-1))


def blur(maps, sigma):
    """Pixel by pixel: Σ over all others, each with the density of a Gaussian."""
    result = np.zeros(maps.shape)
    for i, j in np.ndindex(maps.shape[1:]):
        rows = np.arange(maps.shape[1])[:, None] - i
        columns = np.arange(maps.shape[2])[None, :] - j
        weight = np.exp(-(rows**2 + columns**2) / (2 * sigma**2))
        weight = weight / (2 * np.pi * sigma**2)
        result[:, i, j] = (maps * weight).sum(axis=(1, 2))
    return result


def _conv_transposed(up, kernel, shape):
    """∂/∂x of `(up * conv2d(x, kernel)).sum()` for x of a shape."""
    kernel = np.asarray(kernel, "float64")
    result = np.zeros(shape)
    rows, columns = up.shape[1:3]
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            result[:, i : i + rows, j : j + columns] += up @ kernel[i, j].T
    return result


def foreground(image_map, energy):
    """Pixels, brightest first, until their sum is the share of energy; and ties."""
    values = sorted((float(v) for v in image_map.ravel()), reverse=True)
    kept = 0.0
    for value in values:
        kept += value
        if kept >= energy * sum(values):
            break
    return (image_map >= value) & (image_map > 0)


def box(mask):
    """(top, left, bottom, right), or zeros."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0, 0, 0, 0
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
