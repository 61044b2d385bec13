import json
import re

import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.layers import ConvLSTMCell, ConvLSTMGates
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import feedback_convlstm as reference

FILTERS = 4
RANDOM = np.random.default_rng(7)
SIDES = {"even": (6, 12), "odd": (9, 15)}
X, H, C = (
    RANDOM.normal(size=(8, 6, 12, channels)).astype("float32")
    for channels in (3, FILTERS, FILTERS)
)
OPTIONS = {
    "plain": {},
    "batch norm": {"batch_norm": True},
    "strides": {"strides": 2},
    "strides, batch norm": {"strides": 2, "batch_norm": True},
    "share of the gates": {"convolve_input": False},
    "share, batch norm": {"convolve_input": False, "batch_norm": True},
}


def make(x_shape=X.shape, **kwargs):
    harness.fresh_names()
    cell = ConvLSTMCell(FILTERS, name="cell", **kwargs)
    cell.build(x_shape)
    return harness.randomize(cell)


def arrays(layer):
    return {w.path: np.asarray(w.numpy(), "float64") for w in layer.weights}


def pair(state):
    return [harness.to_numpy(tensor) for tensor in state]


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(harness.to_numpy(one), other, atol=1e-5)


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


# --- Training ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state, timestep, is_last, slots",
    [
        (None, 0, False, {"input": [0], "recurrent": []}),
        (None, 0, True, {"input": [0, 1, 2], "recurrent": []}),
        ((H, C), 0, False, {"input": [0], "recurrent": [0]}),
        ((H, C), 1, False, {"input": [1], "recurrent": [1]}),
        ((H, C), 1, True, {"input": [1, 2], "recurrent": [1, 2]}),
        ((H, C), 2, False, {"input": [2], "recurrent": [2]}),
        ((H, C), 7, True, {"input": [2], "recurrent": [2]}),
    ],
)
def test_only_the_statistics_of_the_step_move(state, timestep, is_last, slots):
    cell = make(batch_norm=True, timesteps=3)
    before = arrays(cell)
    cell(X, state, timestep=timestep, is_last=is_last, training=True)
    for path, value in arrays(cell).items():
        if "moving" in path:
            moved = np.any(value != before[path], axis=1).nonzero()[0].tolist()
            assert moved == slots[path.split("/")[1].removesuffix("_gates")], path
        else:
            assert np.array_equal(value, before[path])


@pytest.mark.parametrize("frozen", [False, True])
def test_statistics_rest_in_inference_and_when_frozen(frozen):
    cell = make(batch_norm=True, timesteps=2)
    expected = pair(cell(X, (H, C), timestep=1))
    cell.trainable = not frozen
    before = arrays(cell)
    state = cell(X, (H, C), timestep=1, is_last=True, training=frozen)
    harness.assert_bit_equal(pair(state), expected, "with moving statistics")
    assert all(np.array_equal(before[path], a) for path, a in arrays(cell).items())


@pytest.mark.parametrize("state", [None, (H, C)], ids=["first", "second"])
def test_the_batch_takes_the_biases_away(state):
    cell = make(batch_norm=True)
    weights = RANDOM.normal(size=H.shape).astype("float32")

    def objective(outputs):
        return ops.sum((outputs[0] + outputs[1]) * weights)

    class Bound:
        """The cell with its state, as a layer of one input."""

        built = True
        trainable_variables = cell.trainable_variables
        non_trainable_variables = cell.non_trainable_variables

        def __call__(self, x, training):
            return cell(x, state, training=training)

        def stateless_call(self, *variables_and_x, training):
            *variables, x = variables_and_x
            return cell.stateless_call(*variables, x, state, training=training)

    by_path, for_inputs = harness.gradients(Bound(), [X], objective, training=True)
    biases = [
        by_path.pop(f"cell/{gates}_gates/bias") for gates in ("input", "recurrent")
    ]
    assert not np.any(biases)
    if state is None:  # nothing is convolved
        for name in ("kernel", "gamma"):
            unused = by_path.pop(f"cell/recurrent_gates/{name}")
            assert unused is None or not np.any(unused)
    harness.assert_all_flow({**by_path, "x": for_inputs[0]}, "by batch")


@pytest.mark.parametrize("policy", harness.POLICIES[1:])
@pytest.mark.parametrize("strides", [1, 2])
def test_mixed_precision_by_batch(strides, policy):
    x = X
    results = []
    for dtype in ("float32", policy):
        cell = make(strides=strides, batch_norm=True, dtype=dtype)
        state = cell(x, training=True)
        assert {keras.backend.standardize_dtype(s.dtype) for s in state} == {
            cell.compute_dtype
        }
        results.append(pair(cell(x, state, training=True)))
        assert {w.dtype for w in cell.weights} == {"float32"}
    for one, other in zip(*results, strict=True):
        assert 0 < np.abs(one - other).max() < 0.05 * np.abs(one).max()


def test_learns_to_keep_what_it_saw():
    """Through three timesteps: gradients of all gates point the right way."""
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 1))
    cell = ConvLSTMCell(4, batch_norm=True, timesteps=3)
    state = None
    for timestep in range(3):
        state = cell(image, state, timestep=timestep, is_last=timestep == 2)
    x = keras.layers.GlobalAveragePooling2D()(state[0])
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    images = RANDOM.normal(size=(16, 4, 4, 1)).astype("float32")
    labels = np.arange(16) % 2
    losses = model.fit(images, labels, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
    # The moving statistics of each timestep make inference what training was.
    assert model.evaluate(images, labels, verbose=0) < 0.5 * losses[0]


def test_how_weights_start():
    cell = ConvLSTMCell(16, kernel_regularizer="l2")
    cell.build((None, 6, 6, 3))
    forget = harness.to_numpy(cell.input_gates.bias).reshape(4, 16)
    np.testing.assert_array_equal(forget.T, [[0, 1, 0, 0]] * 16)
    assert not np.any(harness.to_numpy(cell.recurrent_gates.bias))
    for kernel in np.split(harness.to_numpy(cell.recurrent_gates.kernel), 4, axis=-1):
        rows = kernel.reshape(-1, 16)
        np.testing.assert_allclose(rows.T @ rows, np.eye(16), atol=1e-5)
    assert len(cell.losses) == 2


# --- Bad input -----------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "frozen, moving", [("input", "recurrent"), ("recurrent", "input")]
)
def test_gates_of_one_source_may_be_frozen(frozen, moving):
    """Those of the other go on by the statistics of the batch."""
    cell = make(batch_norm=True)
    gates = {"input": cell.input_gates, "recurrent": cell.recurrent_gates}
    gates[frozen].trainable = False
    before = {name: gates[name].moving_mean.numpy() for name in gates}
    cell(X, (H, C), training=True)
    harness.assert_bit_equal(gates[frozen].moving_mean.numpy(), before[frozen], frozen)
    assert np.abs(gates[moving].moving_mean.numpy() - before[moving]).max() > 1e-3


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
