"""What a model can be asked."""

from kfeedback import graph
from kfeedback.models.backbones import LeNet


def test_input_like():
    net = LeNet()
    like = graph.input_like(net)
    assert like is not net.input
    assert (like.shape, like.dtype) == (net.input.shape, net.input.dtype)
