"""CRCN of the stacked network, and what the tests of CRCN look at."""

import collections

import keras
import numpy as np

from kfeedback import CRCN, graph
from kfeedback.layers import Contextual
from tests import harness
from tests.models import common

# One above the other, as the paper's: what the upper one changes lies above the lower.
LOOPS = [("conv3", "conv2"), ("conv5", "conv4")]
IMAGES = harness.random_images((8, 8, 2))
BOTTOM_UP = ("recomputed", "carried")


def of_stacked_net(batch_norm=False, **fixed):
    """A factory for the harness, of a CRCN of a network that is made anew."""
    loops = LOOPS
    if batch_norm:
        loops = [[name.replace("conv", "relu") for name in loop] for loop in LOOPS]

    def factory(**kwargs):
        net = common.stacked_net(batch_norm)
        return CRCN(net, **{"loops": loops, **fixed, **kwargs})

    return factory


def predict(model, images=IMAGES):
    return harness.to_numpy(model(images, training=False))


def by_path(model):
    return {w.path: np.asarray(w.numpy()) for w in model.weights}


def calls(model):
    """How often each layer is called."""
    nodes = graph.nodes(model.inputs, model.outputs)
    return collections.Counter(node.operation.name for node in nodes)


def modules(model):
    return [x.name for x in model.layers if isinstance(x, Contextual)]


def macs(net, loops):
    """Multiply-adds of one call of each layer, and of each proposed module."""
    found = {}
    for layer in net.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            places = np.prod(layer.output.shape[1:-1], dtype=int)
            found[layer.name] = int(places * np.prod(layer.kernel.shape))
    for higher, lower in loops:
        *small, source = net.get_layer(higher).output.shape[1:]
        *large, channels = net.get_layer(lower).output.shape[1:]
        gate = np.prod(large) * 9 * 2 * channels * channels
        align = np.prod(small) * source * channels if source != channels else 0
        found[f"{lower}_contextual"] = int(gate + align)
    return found


def check_identity(net, images, expected, timesteps, **arguments):
    model = CRCN(net, timesteps=timesteps, return_sequences=True, **arguments)
    result = predict(model, images)
    for step in range(timesteps):
        harness.assert_bit_equal(result[:, step], expected, f"timestep {step + 1}")
    last = CRCN(net, timesteps=timesteps, **arguments)
    harness.assert_bit_equal(predict(last, images), expected, "the last timestep")
