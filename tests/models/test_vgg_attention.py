"""VGG-ATT; what it shares with the other backbones is in test_backbones.py."""

import keras
import numpy as np
import pytest

from kfeedback import LRNet, graph
from kfeedback.layers import Feedback, SpatialAttention
from kfeedback.models.backbones import VGGAttention, VGGSmall
from tests import harness
from tests.harness import tensorflow_only
from tests.model_checks import FEEDFORWARD_CHECKS, check_model
from tests.reference import operations
from tests.reference import vgg_attention as reference

IMAGES = harness.random_images((32, 32, 3))

# The dense layer of the global feature gets no gradient from the parametrized
# compatibility, in which that feature cancels; all else holds of both.
CASES = [
    (compatibility, check)
    for compatibility in ("parametrized", "dot")
    for check in FEEDFORWARD_CHECKS
    if (compatibility, check) != ("parametrized", "gradients of all timesteps")
]
QUICK = ("forward", "gradients of all timesteps", "without top", "second call")


@pytest.mark.parametrize(
    "compatibility, check",
    [
        pytest.param(
            *case, marks=[tensorflow_only] if case[1] in QUICK else [pytest.mark.slow]
        )
        for case in CASES
    ],
)
def test_harness(compatibility, check):
    check_model(
        lambda **kwargs: VGGAttention(
            width=1 / 16,
            batch_norm=False,
            classes=4,
            compatibility=compatibility,
            **kwargs,
        ),
        IMAGES,
        timesteps=False,
        checks=[check],
    )


@tensorflow_only
@pytest.mark.parametrize(
    "arguments, parameters",
    [
        ({}, 15_142_218),
        ({"batch_norm": False}, 15_125_322),
        ({"compatibility": "dot"}, 15_140_682),
        ({"classes": 100}, 15_280_548),
    ],
    ids=str,
)
def test_parameters(arguments, parameters):
    model = VGGAttention(**arguments)
    assert model.count_params() == parameters
    convolutions = VGGSmall(
        include_top=False, batch_norm=arguments.get("batch_norm", True)
    )
    # The dense layer of g, the 1×1 convolution of block 3, u thrice, the classifier.
    own = 512 * 513 + 256 * 512
    own += 3 * 512 if "compatibility" not in arguments else 0
    own += (3 * 512 + 1) * arguments.get("classes", 10)
    assert parameters == convolutions.count_params() + own


@tensorflow_only
@pytest.mark.parametrize("compatibility", ["parametrized", "dot"])
def test_equals_the_reference(compatibility):
    """From the maps of the three blocks on."""
    model = harness.randomize(
        VGGAttention(width=1 / 16, batch_norm=False, compatibility=compatibility)
    )
    names = ["block3_relu3", "block4_relu3", "block5_relu3", "block5_pool"]
    probe = keras.Model(model.input, [model.get_layer(x).output for x in names])
    *maps, x = (harness.to_numpy(y) for y in probe(IMAGES))
    assert [y.shape[1:] for y in maps] == [(8, 8, 16), (4, 4, 32), (2, 2, 32)]
    weights = {w.path: w.numpy() for w in model.weights}
    x = x.reshape(len(x), -1)
    g = operations.relu(
        operations.dense(x, weights["global/kernel"], weights["global/bias"])
    )
    maps[0] = operations.conv2d(maps[0], weights["align3/kernel"])
    looks = [
        reference.spatial_attention(y, g, weights.get(f"attention{block}/kernel"))
        for block, y in zip((3, 4, 5), maps, strict=True)
    ]
    expected = operations.softmax(
        operations.dense(
            np.concatenate(looks, axis=-1),
            weights["predictions/kernel"],
            weights["predictions/bias"],
        )
    )
    result = harness.to_numpy(model(IMAGES))
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert np.ptp(result, axis=0).max() > 1e-3


@tensorflow_only
def test_takes_the_convolutions_of_vgg_small():
    small, model = (make(width=1 / 16) for make in (VGGSmall, VGGAttention))
    shared = [w.path for w in small.weights if w.path.startswith("block")]
    assert shared == [w.path for w in model.weights if w.path.startswith("block")]


@tensorflow_only
def test_feedback_for_it():
    net = harness.randomize(VGGAttention(width=1 / 16, compatibility="dot"))
    harness.settle(net, IMAGES)
    model = LRNet(net, return_sequences=True)
    assert sum(isinstance(layer, Feedback) for layer in model.layers) == 13
    expected = harness.to_numpy(net(IMAGES, training=False))
    result = harness.to_numpy(model(IMAGES, training=False))
    harness.assert_bit_equal(result[:, 1], expected, "a fresh LRNet")


def test_dropout_lies_before_the_classifier():
    model = VGGAttention(width=1 / 16, dropout=0.5)
    classifier = graph.nodes(model.inputs, model.outputs)[-1]
    assert classifier.input_tensors[0]._keras_history.operation.rate == 0.5
    stages = [x for x in model.layers if isinstance(x, SpatialAttention)]
    assert len(stages) == 3


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"width": 0}, ValueError),
        ({"dropout": 1}, ValueError),
        ({"batch_norm": "yes"}, TypeError),
        ({"compatibility": "sum"}, ValueError),
        ({"compatibility": 1}, ValueError),
    ],
    ids=str,
)
def test_refuses(arguments, error):
    with pytest.raises((ValueError, TypeError)) as caught:
        VGGAttention(**arguments)
    assert type(caught.value) is error
    harness.assert_one_sentence(caught.value, next(iter(arguments)))
