import collections
import functools
import itertools

import keras
import numpy as np
import pytest

import kfeedback
from applications.common.multiply_adds import count_multiply_adds
from kfeedback import CRCN, graph, weights
from kfeedback.layers import Contextual
from kfeedback.layers.contextual import MODULES
from kfeedback.models.backbones import VGGSmall
from tests import harness
from tests.harness import tensorflow_only
from tests.model_checks import MODEL_CHECKS, check_model
from tests.models import common
from tests.reference import crcn as reference
from tests.reference import operations

# One above the other, as the paper's: what the upper one changes lies above the lower.
LOOPS = [("conv3", "conv2"), ("conv5", "conv4")]
IMAGES = harness.random_images((8, 8, 2))
BOTTOM_UP = ("recomputed", "carried")


def predict(model, images=IMAGES):
    return harness.to_numpy(model(images, training=False))


def by_path(model):
    return {w.path: np.asarray(w.numpy()) for w in model.weights}


def calls(model):
    """How often each layer is called."""
    nodes = graph.nodes(model.inputs, model.outputs)
    return collections.Counter(node.operation.name for node in nodes)


def modules(model):
    return [x.name for x in model.layers if isinstance(x, Contextual)]


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


def of_stacked_net(batch_norm=False, **fixed):
    """A factory for the harness, of a CRCN of a network that is made anew."""
    loops = LOOPS
    if batch_norm:
        loops = [[name.replace("conv", "relu") for name in loop] for loop in LOOPS]

    def factory(**kwargs):
        net = common.stacked_net(batch_norm)
        return CRCN(net, **{"loops": loops, **fixed, **kwargs})

    return factory


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


@functools.cache
def vgg16():
    """VGG16 for small images with random weights, images, and what it predicts."""
    net = keras.applications.VGG16(weights=None, input_shape=(32, 32, 3), classes=10)
    harness.randomize(net)
    images = harness.random_images((32, 32, 3), 3)
    expected = predict(net, images)
    assert np.ptp(expected, axis=0).max() > 1e-5, "all images give one prediction"
    return net, images, expected


def check_identity(net, images, expected, timesteps, **arguments):
    model = CRCN(net, timesteps=timesteps, return_sequences=True, **arguments)
    result = predict(model, images)
    for step in range(timesteps):
        harness.assert_bit_equal(result[:, step], expected, f"timestep {step + 1}")
    last = CRCN(net, timesteps=timesteps, **arguments)
    harness.assert_bit_equal(predict(last, images), expected, "the last timestep")


CHOICES = [
    *itertools.product(
        [c for n in (1, 2, 3) for c in itertools.combinations((1, 2, 3), n)],
        MODULES,
        BOTTOM_UP,
        (1, 2, 3),
    )
]
QUICK_CHOICES = [
    ((1, 2), "proposed", "recomputed", 3),
    ((1, 2, 3), 3, "recomputed", 2),
    ((2,), 1, "carried", 2),
    ((1, 3), 2, "carried", 3),
    ((3,), "proposed", "carried", 1),
]


@tensorflow_only
@pytest.mark.parametrize(
    "loops, module, bottom_up, timesteps",
    [
        pytest.param(*c, marks=() if c in QUICK_CHOICES else pytest.mark.slow)
        for c in CHOICES
    ],
)
def test_a_fresh_crcn_is_vgg16(loops, module, bottom_up, timesteps):
    arguments = {"loops": loops, "contextual_module": module, "bottom_up": bottom_up}
    check_identity(*vgg16(), timesteps, **arguments)


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


# --- What is computed ----------------------------------------------------------------


def expected_calls(loops, bottom_up, timesteps, sequences):
    """Of each layer of `stacked_net` and each module."""
    names = [f"conv{number}" for number in range(1, 6)]
    lowers = [lower for _, lower in loops]
    # What an augmented layer reads is new in every pass only if something below it is.
    first = min(lowers) if bottom_up == "recomputed" else max(lowers)
    top = max(higher for higher, _ in loops)
    predictions = timesteps if sequences else 1
    found = {"predictions": predictions}
    for name in names:
        if name <= first:
            found[name] = 1
        else:
            found[name] = timesteps if name <= top else predictions
    for lower in lowers:
        found[f"{lower}_contextual"] = timesteps - 1 if lower >= first else 0
    return found


def macs(net, loops):
    """Multiply-adds of one call of each layer, and of each proposed module."""
    found = {}
    for layer in net.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            places = np.prod(layer.output.shape[1:-1], dtype=int)
            found[layer.name] = int(places * np.prod(layer.kernel.shape))
    for higher, lower in loops:
        *small, source = net.get_layer(higher).output.shape[1:]
        *large, channels = net.get_layer(lower).output.shape[1:]
        gate = np.prod(large) * 9 * 2 * channels * channels
        align = np.prod(small) * source * channels if source != channels else 0
        found[f"{lower}_contextual"] = int(gate + align)
    return found


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("bottom_up", BOTTOM_UP)
@pytest.mark.parametrize("loops", [LOOPS, LOOPS[:1], LOOPS[1:]], ids=["1+2", "1", "2"])
def test_computes_nothing_that_is_not_needed(loops, bottom_up, sequences):
    net = common.stacked_net()
    cost = macs(net, loops)
    for timesteps in (1, 2, 3, 4):
        model = CRCN(
            net,
            loops=loops,
            timesteps=timesteps,
            bottom_up=bottom_up,
            return_sequences=sequences,
        )
        wanted = expected_calls(loops, bottom_up, timesteps, sequences)
        found = calls(model)
        assert {name: found[name] for name in wanted} == wanted
        total = sum(wanted[name] * cost[name] for name in wanted)
        assert count_multiply_adds(model) == total


@pytest.mark.parametrize("sequences", [False, True])
def test_features_need_no_classifier(sequences):
    model = of_stacked_net()(include_top=False, return_sequences=sequences)
    assert calls(model)["predictions"] == 0
    assert calls(model)["conv5"] == 3


@tensorflow_only
@pytest.mark.parametrize("sequences", [False, True])
def test_multiply_adds_of_vgg16(sequences):
    """Of the paper's loops 1 and 2, counted layer by layer."""
    net, _, _ = vgg16()
    pairs = [("block3_conv2", "block2_conv2"), ("block4_conv2", "block3_conv3")]
    cost = macs(net, pairs)
    order = [x.name for x in net.layers if x.name in cost]
    stem = order[: order.index("block2_conv2") + 1]
    loop = order[len(stem) : order.index("block4_conv2") + 1]
    top = order[len(stem) + len(loop) :]
    contextual = [f"{lower}_contextual" for _, lower in pairs]
    for timesteps in (1, 2, 3):
        model = CRCN(net, loops=(1, 2), timesteps=timesteps, return_sequences=sequences)
        expected = (
            sum(cost[name] for name in stem)
            + timesteps * sum(cost[name] for name in loop)
            + (timesteps - 1) * sum(cost[name] for name in contextual)
            + (timesteps if sequences else 1) * sum(cost[name] for name in top)
        )
        assert count_multiply_adds(model) == expected


# --- Networks, loops, arguments ------------------------------------------------------


@tensorflow_only
@pytest.mark.parametrize("batch_norm", [False, True])
def test_loops_of_vgg_small_join_what_the_relus_give(batch_norm):
    net = VGGSmall(width=1 / 16, batch_norm=batch_norm)
    model = CRCN(net, loops=(3, 1, 2), timesteps=2)
    joined = {
        node.operation.name: [
            x._keras_history.operation.name for x in node.input_tensors
        ]
        for node in graph.nodes(model.inputs, model.outputs)
        if isinstance(node.operation, Contextual)
    }
    assert joined == {
        "block2_relu2_contextual": ["block2_relu2", "block3_relu2"],
        "block3_relu3_contextual": ["block3_relu3", "block4_relu2"],
        "block4_relu3_contextual": ["block4_relu3", "block5_relu2"],
    }


@tensorflow_only
def test_loops_of_vgg16():
    net, _, _ = vgg16()
    assert sorted(modules(CRCN(net, loops=[1, np.int64(2), 3]))) == [
        "block2_conv2_contextual",
        "block3_conv3_contextual",
        "block4_conv3_contextual",
    ]


def test_loops_by_number_and_by_name_mix():
    net = VGGSmall(width=1 / 16)
    model = CRCN(net, loops=[1, ("block4_relu2", "block3_relu3")], timesteps=2)
    assert len(modules(model)) == 2


@tensorflow_only
def test_by_name():
    model = CRCN("vgg_small", classes=7, classifier_activation=None, name="mine")
    assert model.name == "mine"
    assert model.output.shape == (None, 7)


def test_an_image_of_known_size_for_a_network_of_unknown_size():
    net = common.stacked_net(size=None)
    for known in (
        {"input_shape": (8, 12, 2)},
        {"input_tensor": keras.Input((8, 12, 2))},
    ):
        model = CRCN(net, loops=LOOPS, timesteps=2, **known)
        images = harness.random_images((8, 12, 2), 2)
        harness.assert_bit_equal(predict(model, images), predict(net, images), "same")


def test_names_that_the_backbone_has_are_left_to_it():
    image = keras.Input((8, 8, 3), name="conv2_contextual")
    x = keras.layers.Conv2D(2, 1, name="timesteps")(image)
    model = CRCN(
        common.stacked_net(), input_tensor=x, loops=LOOPS[:1], return_sequences=True
    )
    assert modules(model) == ["conv2_contextual_1"]
    assert model.get_layer("timesteps_1")


def test_nested_and_mixed_precision_networks():
    harness.fresh_names("mixed_bfloat16")
    inner = common.stacked_net()
    keras.config.set_dtype_policy("float32")
    image = keras.Input((8, 8, 2))
    net = harness.randomize(keras.Model(image, inner(image), name="outer"))
    model = CRCN(net, loops=LOOPS, return_sequences=True)
    assert model.get_layer("conv2_contextual").compute_dtype == "bfloat16"
    result = predict(model)
    for step in range(3):
        harness.assert_bit_equal(result[:, step], predict(net), f"step {step + 1}")


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
