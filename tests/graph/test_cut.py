"""A model cut in two at a layer."""

import keras

from kfeedback import graph
from tests import harness
from tests.models import common
from tests.models.common import predict


def test_cut_shares_the_layers():
    net = harness.randomize(common.conv_net())
    stem, tail = graph.cut(net, net.get_layer("mix"))
    images = harness.random_images((8, 8, 2))
    harness.assert_bit_equal(
        predict(tail, stem(images)), predict(net, images), "tail(stem(x))"
    )
    assert [layer.name for layer in stem.layers][-1] == "mix"
    assert stem.get_layer("conv1") is net.get_layer("conv1")
    assert tail.get_layer("conv2") is net.get_layer("conv2")


def test_a_sequential_is_cut_also_one_that_another_model_calls():
    harness.fresh_names()
    layers = keras.layers
    net = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(3, 3, name="one"), layers.Conv2D(2, 3)]
    )
    image = keras.Input((8, 8, 2))
    keras.Model(image, net(image))
    stem, tail = graph.cut(net, "one")
    images = harness.random_images((8, 8, 2))
    wanted = predict(net, images)
    harness.assert_bit_equal(predict(tail, stem(images)), wanted, "tail(stem(x))")
