"""What ConvLSTMCell refuses: each in one sentence that names the argument."""

import re

import keras
import pytest

from kfeedback.layers import ConvLSTMCell
from tests import harness
from tests.layers.conv_lstm_cells import FILTERS, C, H, X, make


def sentence(error):
    """What a call raised, without what Keras says about the call around it."""
    text = re.sub("\x1b\\[\\d*m", "", str(error))
    if text.startswith("Exception encountered"):
        _, text, *_ = text.split("\n\n")
    return text


@pytest.mark.parametrize(
    "argument, value",
    [
        ("filters", 0),
        ("filters", "4"),
        ("kernel_size", 4),
        ("strides", 0),
        ("strides", 1.5),
        ("timesteps", 0),
        ("momentum", 1.0),
        ("epsilon", -1e-5),
    ],
)
def test_refuses(argument, value):
    with pytest.raises(ValueError) as caught:
        ConvLSTMCell(**{"filters": 4, argument: value})
    harness.assert_one_sentence(caught.value, argument)


@pytest.mark.parametrize("argument", ["batch_norm", "convolve_input"])
def test_refuses_what_is_no_bool(argument):
    with pytest.raises(TypeError, match=f"{argument} must be True or False"):
        ConvLSTMCell(4, **{argument: 1})


def test_refuses_strides_without_a_convolution():
    with pytest.raises(ValueError) as caught:
        ConvLSTMCell(4, strides=2, convolve_input=False)
    harness.assert_one_sentence(caught.value, "strides")


def test_refuses_strides_that_do_not_divide():
    with pytest.raises(ValueError) as caught:
        ConvLSTMCell(4, strides=4)(X)
    harness.assert_one_sentence(caught.value, "strides")


def test_refuses_inputs_that_are_no_gates():
    with pytest.raises(ValueError) as caught:
        ConvLSTMCell(4, convolve_input=False)(X)
    harness.assert_one_sentence(caught.value, "inputs")


BAD_STATES = {
    "no pair": H,
    "one": (H,),
    "three": (H, C, C),
    "none in it": (H, None),
    "channels": (H, X),
    "height": (H[:, :5], C[:, :5]),
    "batch": (H[:3], C[:3]),
    "rank": (H[0], C[0]),
}


@pytest.mark.parametrize("name", BAD_STATES)
def test_refuses_a_state(name):
    with pytest.raises(ValueError) as caught:
        make()(X, BAD_STATES[name])
    text = sentence(caught.value)
    harness.assert_one_sentence(text, "state")
    assert "(8, 6, 12, 4)" in text and len(text) < 250


def test_refuses_a_symbolic_state_of_another_size():
    image = keras.Input(X.shape[1:])
    state = [keras.Input((3, 6, FILTERS)) for _ in range(2)]
    assert make(strides=2)(image, state)[0].shape == (None, 3, 6, FILTERS)
    with pytest.raises(ValueError) as caught:
        make()(image, state)
    harness.assert_one_sentence(sentence(caught.value), "state")
