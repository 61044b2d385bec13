"""CRCN: the equations, what every model must satisfy, its weights, training."""

import itertools

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback import CRCN, weights
from kfeedback.layers.contextual import MODULES
from kfeedback.models.backbones import VGGSmall
from tests import harness
from tests.harness import tensorflow_only
from tests.model_checks import MODEL_CHECKS, check_model
from tests.models import common
from tests.models.crcn import (
    BOTTOM_UP,
    IMAGES,
    LOOPS,
    by_path,
    check_identity,
    modules,
    of_stacked_net,
    predict,
)
from tests.reference import crcn as reference
from tests.reference import operations

# --- The harness ---------------------------------------------------------------------

FAMILY = {
    "plain": (False, {}),
    "module 1": (False, {"contextual_module": 1}),
    "module 3": (False, {"contextual_module": 3}),
    "carried": (False, {"bottom_up": "carried"}),
    "batch norm": (True, {"contextual_module": 2}),
    "batch norm, carried": (True, {"bottom_up": "carried"}),
}
# JAX compiles each operation for each shape: the others run there by
# KERAS_BACKEND=jax python -m pytest -m slow tests/models/test_crcn.py
QUICK = ("plain", "batch norm", "carried")
if keras.backend.backend() != "tensorflow":
    QUICK = ("plain",)


@pytest.mark.parametrize("check", MODEL_CHECKS)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in FAMILY
    ],
)
def test_harness(name, check):
    batch_norm, arguments = FAMILY[name]
    check_model(of_stacked_net(batch_norm, **arguments), IMAGES, checks=[check])


# --- The recurrence ------------------------------------------------------------------


@pytest.mark.parametrize("bottom_up", BOTTOM_UP)
@pytest.mark.parametrize("module", MODULES)
def test_equals_the_reference(module, bottom_up):
    for timesteps, loops in itertools.product((1, 2, 3), (LOOPS, LOOPS[:1], LOOPS[1:])):
        harness.fresh_names()
        model = CRCN(
            common.stacked_net(),
            loops=loops,
            timesteps=timesteps,
            contextual_module=module,
            bottom_up=bottom_up,
            return_sequences=True,
        )
        values = by_path(harness.randomize(model))
        whole = dict(values)
        if bottom_up == "carried" and timesteps > 1 and len(loops) == 2:
            # The lower loop has no effect and is not in the model; see below.
            recomputed = CRCN(
                common.stacked_net(), loops=loops, contextual_module=module
            )
            whole = by_path(harness.randomize(recomputed)) | values
        expected = reference.crcn_stacked(
            IMAGES,
            whole,
            timesteps,
            {lower: higher for higher, lower in loops},
            module,
            bottom_up,
        )
        what = f"{timesteps} timesteps, loops {loops}"
        np.testing.assert_allclose(predict(model), expected, atol=1e-5, err_msg=what)


def test_nested_loops_equal_the_reference():
    """The higher layer of the inner loop lies below that of the outer one."""
    loops = {"conv1": "conv2", "conv4": "conv5", "conv3": "conv4"}
    # conv3 and conv4: the higher layer of one loop is the lower layer of another.
    model = CRCN(
        keras.Model(*_same_size(), name="stacked"),
        loops=[(higher, lower) for lower, higher in loops.items()],
        return_sequences=True,
    )
    values = by_path(harness.randomize(model))
    x = IMAGES
    expected, before = [], {}
    for step in range(3):
        now, x = {}, np.asarray(IMAGES, "float64")
        for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
            kernel, bias = values[f"{name}/kernel"], values[f"{name}/bias"]
            x = operations.relu(operations.conv2d(x, kernel, bias, "same"))
            if step and name in loops:
                prefix = f"{name}_contextual/"
                own = {k.removeprefix(prefix): v for k, v in values.items()}
                x = reference.contextual(x, before[loops[name]], own, "proposed")
            now[name] = x
        last = values["predictions/kernel"], values["predictions/bias"]
        expected.append(operations.softmax(operations.dense(x.mean((1, 2)), *last)))
        before = now
    np.testing.assert_allclose(predict(model), np.stack(expected, 1), atol=1e-5)


def _same_size():
    image = x = keras.Input((8, 8, 2), name="image")
    for number in range(1, 6):
        x = keras.layers.Conv2D(
            3, 3, padding="same", activation="relu", name=f"conv{number}"
        )(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return image, keras.layers.Dense(4, activation="softmax", name="predictions")(x)


def test_the_references_of_the_two_operands_differ():
    """Else the test above could not see a wrong one."""
    values = by_path(harness.randomize(of_stacked_net()(timesteps=2)))
    results = [
        reference.crcn_stacked(
            IMAGES, values, 3, {"conv2": "conv3", "conv4": "conv5"}, "proposed", which
        )
        for which in BOTTOM_UP
    ]
    harness.assert_bit_equal(results[0][:, 0], results[1][:, 0], "the first pass")
    for step in (1, 2):
        assert np.abs(results[0] - results[1])[:, step].max() > 1e-3
    # Passes differ, too: the operand is that of the pass before, not of the first.
    assert np.abs(np.diff(results[0], axis=1)).max(axis=(0, 2)).min() > 1e-3


# --- The literal equation ------------------------------------------------------------


@pytest.mark.parametrize(
    "make, loops, lower, timesteps",
    [
        (common.stacked_net, LOOPS, "conv2", 2),
        (common.stacked_net, LOOPS, "conv2", 3),
        pytest.param(
            lambda: VGGSmall(width=1 / 16),
            (1, 2),
            "block2_relu2",
            2,
            marks=tensorflow_only,
        ),
    ],
    ids=["two timesteps", "three timesteps", "vgg_small"],
)
def test_the_literal_equation_has_no_use_for_a_lower_loop(
    make, loops, lower, timesteps
):
    """Read literally, eq. (1) takes B from the pass before, so the layer of the upper
    loop never sees again what the lower loop has changed. The default sees it."""
    images = harness.random_images(make().input_shape[1:])

    def build(bottom_up, loops):
        harness.fresh_names()
        model = CRCN(make(), loops=loops, timesteps=timesteps, bottom_up=bottom_up)
        return harness.settle(harness.randomize(model), images)

    results = [predict(build("carried", used), images) for used in (loops, loops[1:])]
    harness.assert_bit_equal(*results, "carried, with one loop less")
    assert f"{lower}_contextual" not in modules(build("carried", loops))

    model = build("recomputed", loops)
    before = predict(model, images)
    harness.randomize(model.get_layer(f"{lower}_contextual"), seed=3)
    assert np.abs(predict(model, images) - before).max() > 1e-4


# --- Identity ------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("bottom_up", BOTTOM_UP)
def test_a_fresh_crcn_is_its_network(bottom_up, batch_norm):
    net = harness.randomize(common.stacked_net(batch_norm))
    before = net.get_weights()
    check_identity(net, IMAGES, predict(net), 3, loops=LOOPS[:1], bottom_up=bottom_up)
    for old, new in zip(before, net.get_weights(), strict=True):
        harness.assert_bit_equal(new, old, "a weight afterwards")


def test_one_timestep_is_the_network():
    net = common.stacked_net()
    model = CRCN(net, loops=LOOPS, timesteps=1)
    assert [w.path for w in model.weights] == [w.path for w in net.weights]
    assert model.output.shape == net.output.shape


# --- One file for all timesteps ------------------------------------------------------


@pytest.mark.parametrize("saved", [2, 4])
def test_weights_serve_every_number_of_timesteps(tmp_path, saved):
    make = of_stacked_net()
    path = tmp_path / "crcn.h5"
    weights.save(harness.randomize(make(timesteps=saved)), path)
    harness.fresh_names()
    whole = predict(harness.randomize(make(timesteps=4, return_sequences=True)))
    for timesteps, sequences in itertools.product((1, 2, 3, 4), (False, True)):
        harness.fresh_names()
        model = make(timesteps=timesteps, return_sequences=sequences, weights=path)
        wanted = whole[:, :timesteps] if sequences else whole[:, timesteps - 1]
        harness.assert_bit_equal(predict(model), wanted, f"T = {timesteps}")


def test_a_network_without_feedback_takes_the_weights(tmp_path):
    path = tmp_path / "crcn.h5"
    model = harness.randomize(of_stacked_net()(return_sequences=True))
    weights.save(model, path)
    net = common.stacked_net()
    with pytest.raises(ValueError, match="without_feedback"):
        weights.load(net, path)
    weights.load(net, path, without_feedback=True)
    harness.assert_bit_equal(predict(net), predict(model)[:, 0], "T = 1")


# --- Training ------------------------------------------------------------------------


def test_trains():
    model = CRCN(common.stacked_net(True), loops=LOOPS, return_sequences=True)
    model.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss=kfeedback.losses.TimestepLoss("sparse_categorical_crossentropy"),
    )
    labels = np.arange(8) % 4
    before = {w.path: w.numpy().copy() for w in model.trainable_weights}
    history = model.fit(IMAGES, labels, epochs=6, batch_size=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    still = {
        w.path
        for w in model.trainable_weights
        if np.array_equal(w.numpy(), before[w.path])
    }
    # The mean that the batch norm behind it takes away.
    assert all(path.startswith("conv") and path.endswith("/bias") for path in still)
