"""ConvLSTMCell in training: statistics, gradients, how weights start."""

import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.layers import ConvLSTMCell
from tests import harness
from tests.layers.conv_lstm_cells import RANDOM, C, H, X, arrays, make, pair


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
