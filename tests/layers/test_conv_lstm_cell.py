"""ConvLSTMCell: what every layer must satisfy, the equations, its forms, old files."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.layers import ConvLSTMCell, ConvLSTMGates
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.layers.conv_lstm_cells import (
    FILTERS,
    OPTIONS,
    C,
    H,
    X,
    arrays,
    assert_close,
    make,
    pair,
)
from tests.reference import feedback_convlstm as reference

SIDES = {"even": (6, 12), "odd": (9, 15)}


@keras.saving.register_keras_serializable(package="tests")
class SumOfState(ConvLSTMCell):
    """The harness gives several inputs and wants one output: H' + C'."""

    def build(self, x_shape, h_shape, c_shape):
        super().build(x_shape)

    def call(self, x, h, c, training=None):
        return ops.add(*super().call(x, (h, c), training=training))

    def compute_output_spec(self, x, h, c, training=None):
        return super().compute_output_spec(x, (h, c))[0]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("check", LAYER_CHECKS)
def test_harness(check, option):
    options = OPTIONS[option]
    stride = options.get("strides", 1)
    x = X
    if "convolve_input" in options:
        x = np.random.default_rng(3).normal(size=(8, 6, 12, 4 * FILTERS))
    check_layer(
        lambda **kwargs: SumOfState(FILTERS, name="cell", **options, **kwargs),
        [x, H[:, ::stride, ::stride], C[:, ::stride, ::stride]],
        checks=[check],
    )


# --- The reference -------------------------------------------------------------------


@pytest.mark.parametrize(
    "batch_norm, batch",
    [(False, False), (True, False), (True, True)],
    ids=["plain", "moving", "batch"],
)
@pytest.mark.parametrize(
    "sides, strides", [("even", 1), ("even", 2), ("even", 3), ("odd", 1), ("odd", 3)]
)
@pytest.mark.parametrize("timesteps", [1, 2, 3])
def test_equals_the_reference(timesteps, sides, strides, batch_norm, batch):
    """Another input at each timestep; timesteps 2 and 3 share their statistics."""
    random = np.random.default_rng(5)
    images = random.normal(size=(timesteps, 4, *SIDES[sides], 3)).astype("float32")
    cell = make(images.shape[1:], strides=strides, batch_norm=batch_norm, timesteps=2)
    weights = arrays(cell)
    found = expected = None
    for timestep, x in enumerate(images):
        is_last = timestep == timesteps - 1
        found = cell(x, found, timestep=timestep, is_last=is_last, training=batch)
        expected = reference.conv_lstm_cell(
            x, expected, weights, "cell", strides, timestep, batch
        )
    assert tuple(found[0].shape) == (
        *images[0][:, ::strides, ::strides, :1].shape[:3],
        4,
    )
    assert_close(found, expected)


def test_the_reference_tells_gates_and_steps_apart():
    """Else the test above could not see them exchanged."""
    weights = arrays(make(batch_norm=True, timesteps=2))
    state = reference.conv_lstm_cell(X, (H, C), weights, "cell", timestep=1)
    others = [
        reference.conv_lstm_cell(X, (C, H), weights, "cell", timestep=1),
        reference.conv_lstm_cell(X, (H, C), weights, "cell", timestep=0),
        reference.conv_lstm_cell(X, (H, C), weights, "cell", timestep=1, batch=True),
        reference.conv_lstm_cell(X, None, weights, "cell", timestep=1),
    ]
    for one in range(4):
        for other in range(one):
            order = [0, 1, 2, 3]
            order[one], order[other] = order[other], order[one]
            exchanged = {
                path: np.concatenate(
                    [np.split(value, 4, axis=-1)[gate] for gate in order], axis=-1
                )
                for path, value in weights.items()
            }
            others.append(
                reference.conv_lstm_cell(X, (H, C), exchanged, "cell", timestep=1)
            )
    for other in others:
        assert np.abs(state[0] - other[0]).max() > 1e-2


@pytest.mark.parametrize("timesteps", [1, 3])
def test_equals_the_layer_of_keras(timesteps):
    """ConvLSTM2D has one bias, which is the sum of the cell's two."""
    cell = make()
    theirs = keras.layers.ConvLSTM2D(
        FILTERS,
        3,
        padding="same",
        data_format="channels_last",
        recurrent_activation="sigmoid",
        return_state=True,
    )
    repeated = np.repeat(X[:, None], timesteps, axis=1)
    theirs.build(repeated.shape)
    of_input, of_state = cell.input_gates, cell.recurrent_gates
    bias = harness.to_numpy(of_input.bias) + harness.to_numpy(of_state.bias)
    theirs.set_weights([of_input.kernel.numpy(), of_state.kernel.numpy(), bias])
    state = None
    for _ in range(timesteps):
        state = cell(X, state)
    _, *expected = theirs(repeated)
    assert_close(state, pair(expected))


# --- Its forms agree -----------------------------------------------------------------


@pytest.mark.parametrize("strides", [1, 2])
def test_no_state_is_a_state_of_zeros(strides):
    cell = make(strides=strides)
    h, c = pair(cell(X))
    assert np.abs(h).max() > 0.1
    zeros = np.zeros_like(h)
    assert_close(cell(X, (zeros, zeros)), (h, c))


def test_no_state_is_a_state_of_zeros_in_the_batch():
    """There batch norm takes a constant away, too."""
    cell = make(batch_norm=True)
    zeros = np.zeros_like(H)
    assert_close(cell(X, (zeros, zeros), training=True), pair(cell(X, training=True)))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("strides", [1, 2])
def test_the_share_of_the_input_may_be_made_before(strides, batch_norm):
    whole = make(strides=strides, batch_norm=batch_norm)
    gates = ConvLSTMGates(FILTERS, strides=strides, batch_norm=batch_norm, name="gates")
    share = gates(X)
    gates.set_weights(whole.input_gates.get_weights())
    share = gates(X)
    cell = make(share.shape, batch_norm=batch_norm, convolve_input=False)
    cell.set_weights(whole.recurrent_gates.get_weights())
    assert len(cell.weights) + len(gates.weights) == len(whole.weights)
    state = expected = None
    for _ in range(3):
        state, expected = cell(share, state), pair(whole(X, expected))
    assert_close(state, expected)


@pytest.mark.parametrize("option", ["plain", "strides, batch norm"])
def test_an_image_of_unknown_size(option):
    """A model of two timesteps; the state's size is unknown when the cell is built."""
    options = OPTIONS[option]
    image = keras.Input((None, None, 3))
    cell = ConvLSTMCell(FILTERS, name="cell", timesteps=2, **options)
    first = cell(image)
    second = cell(image, first, timestep=1, is_last=True)
    assert [tuple(x.shape) for x in second] == [(None, None, None, FILTERS)] * 2
    model = harness.randomize(keras.Model(image, second))
    weights = arrays(cell)
    arguments = (weights, "cell", options.get("strides", 1))
    for sides in ((6, 12), (8, 4)):
        x = np.random.default_rng(1).normal(size=(3, *sides, 3)).astype("float32")
        state = reference.conv_lstm_cell(x, None, *arguments, timestep=0)
        state = reference.conv_lstm_cell(x, state, *arguments, timestep=1)
        assert_close(model(x), state)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_is_a_pure_function(batch_norm):
    cell = make(batch_norm=batch_norm, timesteps=2)
    calls = [
        lambda: cell(X),
        lambda: cell(X, (H, C), timestep=1),
        lambda: cell(X, (C, H), timestep=1),
        lambda: cell(X[::-1], (H, C)),
    ]
    first = [pair(call()) for call in calls]
    again = [pair(call()) for call in reversed(calls)][::-1]
    for one, other in zip(first, again, strict=True):
        harness.assert_bit_equal(one, other, "in another order")
    assert np.abs(first[1][0] - first[2][0]).max() > 1e-2


# --- Old files -----------------------------------------------------------------------


def test_files_of_earlier_versions_call_a_timestep_a_step(tmp_path):
    image = keras.Input((4, 4, 3))
    cell = ConvLSTMCell(2, batch_norm=True, timesteps=2, name="cell")
    state = cell(image, None, timestep=0)
    model = harness.randomize(keras.Model(image, cell(image, state, timestep=1)[0]))
    config = json.dumps(model.get_config())
    assert config.count('"timesteps"') == 1 and config.count('"timestep"') == 2
    old = config.replace('"timesteps"', '"steps"').replace('"timestep"', '"step"')
    other = keras.Model.from_config(json.loads(old))
    other.set_weights(model.get_weights())
    images = harness.random_images((4, 4, 3))
    expected = harness.to_numpy(model(images))
    harness.assert_bit_equal(harness.to_numpy(other(images)), expected, "old names")
    assert not np.array_equal(
        harness.to_numpy(cell(images, cell(images), timestep=0)[0]), expected
    )
