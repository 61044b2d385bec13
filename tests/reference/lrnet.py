"""Learning with Rethinking: the feedback of LRNet, and LRNet of LeNet."""

import numpy as np

from tests.reference.operations import conv2d, dense, emphasis, max_pool2, relu, softmax


def feedback(posterior, kernel, bias):
    """Learning with Rethinking, eq. (1) and (2)."""
    return kernel.shape[1] * softmax(dense(posterior, kernel, bias))


def lenet_pass(images, weights, vectors):
    """One pass of LeNet; `vectors` are the emphasis vectors by layer, if any."""
    x = np.asarray(images, "float64")
    for number in (1, 2):
        layer = f"conv{number}"
        x = conv2d(x, weights[f"{layer}/kernel"], weights[f"{layer}/bias"])
        if layer in vectors:
            x = emphasis(x, vectors[layer])
        x = max_pool2(x)
    x = x.reshape(len(x), -1)
    x = relu(dense(x, weights["fc1/kernel"], weights["fc1/bias"]))
    x = dense(x, weights["predictions/kernel"], weights["predictions/bias"])
    return softmax(x)


def lrnet_lenet(images, weights, timesteps, layers=("conv1", "conv2")):
    """LR-LeNet: the posterior of pass t-1 makes the emphasis of pass t.

    Returns:
        `(B, timesteps, classes)`.
    """
    predictions = [lenet_pass(images, weights, {})]
    for _ in range(timesteps - 1):
        vectors = {}
        for layer in layers:
            kernel = weights[f"{layer}_feedback/kernel"]
            bias = weights[f"{layer}_feedback/bias"]
            vectors[layer] = feedback(predictions[-1], kernel, bias)
        predictions.append(lenet_pass(images, weights, vectors))
    return np.stack(predictions, axis=1)
