"""Nested models made flat: values, layers and weights stay."""

import keras
import numpy as np
from keras import layers

from kfeedback import graph
from tests import harness
from tests.models import common
from tests.models.common import predict


def test_flatten_keeps_values_layers_and_weights():
    net = harness.randomize(common.nested())
    flat = graph.flatten(net)
    images = harness.random_images((8, 8, 2))
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
    names = [layer.name for layer in flat.layers]
    assert {"conv1", "bn1", "relu1", "conv2"} <= set(names)
    assert {id(w) for w in flat.weights} == {id(w) for w in net.weights}
    harness.assert_bit_equal(predict(flat, images), predict(net, images), "flat")
    edited = graph.rerun(
        flat, keras.ops.convert_to_tensor(images), {"bn1": lambda x: x * 3}
    )
    assert np.abs(harness.to_numpy(edited) - predict(net, images)).max() > 1e-3


def test_flatten_keeps_the_training_argument_of_a_nested_call():
    net = common.nested()  # calls its inside with training=False
    flat = graph.flatten(net)
    arguments = {
        n.operation.name: n.arguments.kwargs.get("training")
        for n in graph.nodes(flat.inputs, flat.outputs)
    }
    assert arguments["bn1"] is False
    # fit's training=True wins over it in Keras, here as there.
    images = harness.random_images((8, 8, 2))
    results = []
    for model in (net, flat):
        harness.randomize(net)
        outputs = harness.to_numpy(model(images, training=True))
        results.append((outputs, *(w.numpy() for w in net.weights)))
    for one, other in zip(*results, strict=True):
        harness.assert_bit_equal(one, other, "training")


def test_flatten_twice_nested_and_shared():
    inside_image = keras.Input((6,))
    inside = keras.Model(inside_image, layers.Dense(6, name="dense")(inside_image))
    middle_image = keras.Input((6,))
    middle = keras.Model(middle_image, inside(inside(middle_image)))
    image = keras.Input((6,))
    net = keras.Model(image, layers.Add(name="add")([middle(image), inside(image)]))
    harness.randomize(net)
    flat = graph.flatten(net)
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    harness.assert_bit_equal(predict(flat, x), predict(net, x), "flat")
    assert len(graph.layer_outputs(flat, "dense")) == 3


def test_flatten_leaves_a_flat_model_alone():
    net = common.conv_net()
    assert graph.flatten(net) is net


def test_flatten_a_sequential_with_a_model_inside():
    net = keras.Sequential(
        [keras.Input((8, 8, 2)), common.nested(), layers.Dense(3, name="more")]
    )
    harness.randomize(net)
    images = harness.random_images((8, 8, 2))
    flat = graph.flatten(net)
    harness.assert_bit_equal(predict(flat, images), predict(net, images), "flat")
