"""A model cut in two at a layer."""

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
