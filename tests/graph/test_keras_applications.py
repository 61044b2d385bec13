"""Five models of `keras.applications`, rerun and cut: bit-equal."""

import keras
import numpy as np
import pytest

from kfeedback import graph
from tests import harness
from tests.models.common import predict

# For each: a layer through which every path leads, and a merge whose inputs together
# cut the graph.
APPLICATIONS = {
    "ResNet50": ("conv3_block4_out", "conv3_block2_add"),
    "DenseNet121": ("pool3_pool", "conv3_block5_concat"),
    "InceptionV3": ("mixed5", "mixed6"),
    "MobileNetV2": ("block_6_project_BN", "block_8_add"),
    "EfficientNetB0": ("block4a_project_bn", "block4b_add"),
}

_built = {}


@pytest.fixture(params=APPLICATIONS)
def application(request):
    """`(model, images, its prediction, cut layer, merge layer)`."""
    name = request.param
    if name not in _built:
        side = 75 if name == "InceptionV3" else 64
        model = getattr(keras.applications, name)(
            weights=None, input_shape=(side, side, 3), classes=7
        )
        images = harness.random_images((side, side, 3), 2)
        harness.settle(harness.randomize(model), images)
        expected = predict(model, images)
        # Else bit-equality would mean little.
        assert np.isfinite(expected).all()
        assert np.abs(expected[0] - expected[1]).max() > 1e-4
        _built[name] = model, images, expected
    return *_built[name], *APPLICATIONS[name]


def test_application_reruns_bit_equal(application):
    model, images, expected, _, _ = application
    eager = graph.rerun(model, keras.ops.convert_to_tensor(images))
    harness.assert_bit_equal(harness.to_numpy(eager), expected, "real tensors")
    image = keras.Input(model.input.shape[1:])
    symbolic = keras.Model(image, graph.rerun(model, image))
    harness.assert_bit_equal(predict(symbolic, images), expected, "symbolic tensors")
    assert {id(w) for w in symbolic.weights} == {id(w) for w in model.weights}


def test_application_is_cut(application):
    model, images, expected, cut, _ = application
    stem, tail = graph.cut(model, cut)
    middle = stem(images, training=False)
    harness.assert_bit_equal(predict(tail, middle), expected, "tail(stem(x))")
    again = graph.rerun(model, {model.get_layer(cut).output: middle})
    harness.assert_bit_equal(harness.to_numpy(again), expected, "rerun of the tail")


def test_application_reruns_behind_several_tensors(application):
    model, images, expected, _, merge = application
    (node,) = [
        n for n in graph.nodes(model.inputs, model.outputs) if n.operation.name == merge
    ]
    middle = list(node.input_tensors)
    assert len(middle) > 1
    there = keras.Model(model.input, middle)(images, training=False)
    sources = dict(zip(middle, there, strict=True))
    tail = graph.rerun(model, sources)
    harness.assert_bit_equal(harness.to_numpy(tail), expected, "tail")
    # The tail does look at what it is given.
    sources[middle[-1]] = there[-1] * 0.5
    changed = harness.to_numpy(graph.rerun(model, sources))
    assert np.abs(changed - expected).max() > 1e-6
