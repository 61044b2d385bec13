"""The memo of a rerun: it spares what did not change, and changes no value."""

import keras
import numpy as np
import pytest
from keras import layers

from kfeedback import graph
from tests import harness
from tests.graph.common import values
from tests.models import common
from tests.models.common import predict


class Counter(layers.Layer):
    """Passes its input on and counts how often it runs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = 0

    def call(self, x):
        self.calls += 1
        return x * 1.5


def counting_net():
    """Two branches from one stem; each layer counts its calls."""
    image = keras.Input((4,))
    stem = Counter(name="stem")(image)
    left = Counter(name="left")(stem)
    right = Counter(name="right")(stem)
    merged = layers.Add(name="merged")([left, right])
    tail = Counter(name="tail")(merged)
    return keras.Model(image, tail)


@pytest.mark.parametrize("symbolic", [True, False])
def test_the_memo_spares_what_did_not_change(symbolic):
    net = counting_net()
    counters = {name: net.get_layer(name) for name in ("stem", "left", "right", "tail")}
    if symbolic:
        x = keras.Input((4,))
    else:
        x = keras.ops.convert_to_tensor(np.ones((2, 4), "float32"))

    def calls(edits, memo):
        before = {name: layer.calls for name, layer in counters.items()}
        result = graph.rerun(net, x, edits, memo=memo)
        made = {name: counters[name].calls - before[name] for name in counters}
        return result, {name for name, count in made.items() if count}

    memo = {}
    first, made = calls(None, memo)
    assert made == set(counters)
    again, made = calls(None, memo)
    assert made == set()
    assert again is first
    # An edit behind "left": neither it nor the other branch runs again.
    second, made = calls({"left": lambda t: t + 1.0}, memo)
    assert made == {"tail"}
    assert second is not first
    # An edit behind the stem: both branches see another tensor.
    _, made = calls({"stem": lambda t: t + 1.0}, memo)
    assert made == {"left", "right", "tail"}
    # Without a memo everything runs.
    _, made = calls(None, None)
    assert made == set(counters)
    # A memo of other inputs is of no use.
    x = x + 1.0
    _, made = calls(None, memo)
    assert made == set(counters)


def test_a_layer_called_twice_on_one_tensor_runs_twice():
    """Dropout would draw two masks there."""
    image = keras.Input((4,))
    counter = Counter(name="counter")
    net = keras.Model(image, layers.Add()([counter(image), counter(image)]))
    x, memo = keras.ops.ones((1, 4)), {}
    for expected in (2, 0):
        before = counter.calls
        graph.rerun(net, x, memo=memo)
        assert counter.calls - before == expected


def test_the_memo_gives_the_same_values():
    net = harness.randomize(common.residual())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    memo = {}
    for factor in (1.0, 0.5, 2.0, 0.5):
        for name in ("stem", "shared", "add", "last"):
            edits = {name: lambda x, factor=factor: x * factor}
            with_memo = graph.rerun(net, images, edits, memo=memo)
            without = graph.rerun(net, images, edits)
            harness.assert_bit_equal(
                harness.to_numpy(with_memo), harness.to_numpy(without), name
            )


def test_the_memo_tells_large_arrays_apart():
    net = counting_net()
    memo = {}
    one = np.zeros((2000, 4), "float32")
    other = one.copy()
    other[1000] = 1.0  # the repr of both is the same
    graph.rerun(net, one, memo=memo)
    result = graph.rerun(net, other, memo=memo)
    harness.assert_bit_equal(harness.to_numpy(result), predict(net, other), "memo")


def test_random_layers_draw_anew_unless_their_input_is_the_same():
    image = keras.Input((64,))
    x = layers.Dropout(0.5, name="drop")(image)
    net = keras.Model(image, layers.Activation("linear", name="end")(x))
    x = keras.ops.ones((1, 64))
    model_in = keras.Input((64,))
    memo = {}
    one = graph.rerun(net, model_in, memo=memo)
    two = graph.rerun(net, model_in, {"end": lambda t: t * 1.0}, memo=memo)
    same = keras.Model(model_in, [one, two])(x, training=True)
    harness.assert_bit_equal(*values(same), "one mask, drawn once")
    other = graph.rerun(net, model_in)
    both = keras.Model(model_in, [one, other])(x, training=True)
    assert not np.array_equal(*values(both))


def test_the_memo_tells_a_layer_from_one_without_its_activation():
    net = harness.randomize(common.conv_net())
    x = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    memo = {}
    posterior = graph.rerun(net, x, memo=memo)
    scores = graph.rerun(net, x, linear=["predictions"], memo=memo)
    expected = graph.rerun(net, x, linear=["predictions"])
    harness.assert_bit_equal(*values([scores, expected]), "without the softmax")
    assert np.abs(np.subtract(*values([posterior, scores]))).max() > 1e-3


def test_the_memo_knows_images_that_were_cast():
    net = counting_net()
    images, memo = np.ones((2, 4), "uint8"), {}
    first = graph.rerun(net, images, memo=memo)
    assert graph.rerun(net, images, memo=memo) is first
