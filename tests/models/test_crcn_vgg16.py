"""CRCN of VGG16, the paper's network: identity, loops and multiply-adds."""

import functools
import itertools

import keras
import numpy as np
import pytest

from applications.common.multiply_adds import count_multiply_adds
from kfeedback import CRCN
from kfeedback.layers.contextual import MODULES
from tests import harness
from tests.harness import tensorflow_only
from tests.models.crcn import BOTTOM_UP, check_identity, macs, modules, predict


@functools.cache
def vgg16():
    """VGG16 for small images with random weights, images, and what it predicts."""
    net = keras.applications.VGG16(weights=None, input_shape=(32, 32, 3), classes=10)
    harness.randomize(net)
    images = harness.random_images((32, 32, 3), 3)
    expected = predict(net, images)
    assert np.ptp(expected, axis=0).max() > 1e-5, "all images give one prediction"
    return net, images, expected


CHOICES = [
    *itertools.product(
        [c for n in (1, 2, 3) for c in itertools.combinations((1, 2, 3), n)],
        MODULES,
        BOTTOM_UP,
        (1, 2, 3),
    )
]
QUICK_CHOICES = [
    ((1, 2), "proposed", "recomputed", 3),
    ((1, 2, 3), 3, "recomputed", 2),
    ((2,), 1, "carried", 2),
    ((1, 3), 2, "carried", 3),
    ((3,), "proposed", "carried", 1),
]


@tensorflow_only
@pytest.mark.parametrize(
    "loops, module, bottom_up, timesteps",
    [
        pytest.param(*c, marks=() if c in QUICK_CHOICES else pytest.mark.slow)
        for c in CHOICES
    ],
)
def test_a_fresh_crcn_is_vgg16(loops, module, bottom_up, timesteps):
    arguments = {"loops": loops, "contextual_module": module, "bottom_up": bottom_up}
    check_identity(*vgg16(), timesteps, **arguments)


@tensorflow_only
def test_loops_of_vgg16():
    net, _, _ = vgg16()
    assert sorted(modules(CRCN(net, loops=[1, np.int64(2), 3]))) == [
        "block2_conv2_contextual",
        "block3_conv3_contextual",
        "block4_conv3_contextual",
    ]


@tensorflow_only
@pytest.mark.parametrize("sequences", [False, True])
def test_multiply_adds_of_vgg16(sequences):
    """Of the paper's loops 1 and 2, counted layer by layer."""
    net, _, _ = vgg16()
    pairs = [("block3_conv2", "block2_conv2"), ("block4_conv2", "block3_conv3")]
    cost = macs(net, pairs)
    order = [x.name for x in net.layers if x.name in cost]
    stem = order[: order.index("block2_conv2") + 1]
    loop = order[len(stem) : order.index("block4_conv2") + 1]
    top = order[len(stem) + len(loop) :]
    contextual = [f"{lower}_contextual" for _, lower in pairs]
    for timesteps in (1, 2, 3):
        model = CRCN(net, loops=(1, 2), timesteps=timesteps, return_sequences=sequences)
        expected = (
            sum(cost[name] for name in stem)
            + timesteps * sum(cost[name] for name in loop)
            + (timesteps - 1) * sum(cost[name] for name in contextual)
            + (timesteps if sequences else 1) * sum(cost[name] for name in top)
        )
        assert count_multiply_adds(model) == expected
