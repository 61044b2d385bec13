import inspect

import keras
import numpy as np
import pytest
from keras import layers

from kfeedback import LRNet, graph
from kfeedback.models.backbones import LeNet
from tests import harness
from tests.models import common


def values(tensors):
    return [harness.to_numpy(t) for t in tensors]


def predict(model, images):
    return harness.to_numpy(model(images, training=False))


class Counter(layers.Layer):
    """Passes its input on and counts how often it runs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = 0

    def call(self, x):
        self.calls += 1
        return x * 1.5


# --- The five models of keras.applications -------------------------------------------

# For each: a layer through which every path leads, and a merge whose inputs together
# cut the graph.
APPLICATIONS = {
    "ResNet50": ("conv3_block4_out", "conv3_block2_add"),
    "DenseNet121": ("pool3_pool", "conv3_block5_concat"),
    "InceptionV3": ("mixed5", "mixed6"),
    "MobileNetV2": ("block_6_project_BN", "block_8_add"),
    "EfficientNetB0": ("block4a_project_bn", "block4b_add"),
}

_built = {}


@pytest.fixture(params=APPLICATIONS)
def application(request):
    """`(model, images, its prediction, cut layer, merge layer)`."""
    name = request.param
    if name not in _built:
        side = 75 if name == "InceptionV3" else 64
        model = getattr(keras.applications, name)(
            weights=None, input_shape=(side, side, 3), classes=7
        )
        images = harness.random_images((side, side, 3), 2)
        harness.settle(harness.randomize(model), images)
        expected = predict(model, images)
        # Else bit-equality would mean little.
        assert np.isfinite(expected).all()
        assert np.abs(expected[0] - expected[1]).max() > 1e-4
        _built[name] = model, images, expected
    return *_built[name], *APPLICATIONS[name]


def test_application_reruns_bit_equal(application):
    model, images, expected, _, _ = application
    eager = graph.rerun(model, keras.ops.convert_to_tensor(images))
    harness.assert_bit_equal(harness.to_numpy(eager), expected, "real tensors")
    image = keras.Input(model.input.shape[1:])
    symbolic = keras.Model(image, graph.rerun(model, image))
    harness.assert_bit_equal(predict(symbolic, images), expected, "symbolic tensors")
    assert {id(w) for w in symbolic.weights} == {id(w) for w in model.weights}


def test_application_is_cut(application):
    model, images, expected, cut, _ = application
    stem, tail = graph.cut(model, cut)
    middle = stem(images, training=False)
    harness.assert_bit_equal(predict(tail, middle), expected, "tail(stem(x))")
    again = graph.rerun(model, {model.get_layer(cut).output: middle})
    harness.assert_bit_equal(harness.to_numpy(again), expected, "rerun of the tail")


def test_application_reruns_behind_several_tensors(application):
    model, images, expected, _, merge = application
    (node,) = [
        n for n in graph.nodes(model.inputs, model.outputs) if n.operation.name == merge
    ]
    middle = list(node.input_tensors)
    assert len(middle) > 1
    there = keras.Model(model.input, middle)(images, training=False)
    sources = dict(zip(middle, there, strict=True))
    tail = graph.rerun(model, sources)
    harness.assert_bit_equal(harness.to_numpy(tail), expected, "tail")
    # The tail does look at what it is given.
    sources[middle[-1]] = there[-1] * 0.5
    changed = harness.to_numpy(graph.rerun(model, sources))
    assert np.abs(changed - expected).max() > 1e-6


# --- Edits ---------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [True, False])
def test_an_edit_changes_what_follows(by_name):
    net = harness.randomize(common.conv_net())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    key = "mix" if by_name else net.get_layer("mix")
    edited = graph.rerun(net, images, {key: lambda x: x * 0.25})
    # The same by hand: a layer of linear output, scaled.
    stem, tail = graph.cut(net, "mix")
    expected = tail(stem(images) * 0.25, training=False)
    harness.assert_bit_equal(
        harness.to_numpy(edited), harness.to_numpy(expected), "edit"
    )
    assert np.abs(harness.to_numpy(edited) - predict(net, images)).max() > 1e-3


def test_edits_on_symbolic_tensors_save_and_reload(tmp_path):
    net = harness.randomize(common.conv_net())
    scale = layers.Rescaling(0.25)
    image = graph.input_like(net)
    model = keras.Model(image, graph.rerun(net, image, {"conv1": scale, "mix": scale}))
    images = harness.random_images((8, 8, 2))
    model.save(tmp_path / "edited.keras")
    again = keras.models.load_model(tmp_path / "edited.keras")
    harness.assert_bit_equal(predict(again, images), predict(model, images), "saved")


def test_a_layer_called_twice_is_edited_twice():
    net = harness.randomize(common.residual())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    seen = []

    def double(x):
        seen.append(harness.to_numpy(x))
        return x * 2

    result = graph.rerun(net, images, {"shared": double})
    assert len(seen) == 2
    assert not np.array_equal(*seen)
    get = net.get_layer
    x = get("stem")(images)
    y = x + 2 * get("shared")(x)
    y = keras.ops.concatenate([y, 2 * get("shared")(y)], axis=-1)
    y = get("predictions")(get("pool")(get("last")(y)))
    np.testing.assert_allclose(harness.to_numpy(result), harness.to_numpy(y), rtol=1e-5)


def test_edit_free_rerun_of_a_layer_called_twice():
    net = harness.randomize(common.residual())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    result = graph.rerun(net, images)
    harness.assert_bit_equal(harness.to_numpy(result), predict(net, images), "shared")
    assert len(graph.layer_outputs(net, "shared")) == 2


def test_outputs_may_be_any_tensors():
    net = harness.randomize(common.conv_net())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    wanted = [net.get_layer(name).output for name in ("conv1", "relu2")]
    expected = values(keras.Model(net.input, wanted)(images, training=False))
    found = values(graph.rerun(net, images, outputs=wanted))
    for one, other in zip(found, expected, strict=True):
        harness.assert_bit_equal(one, other, "a list of outputs")
    single = graph.rerun(net, images, outputs=wanted[0])
    harness.assert_bit_equal(harness.to_numpy(single), expected[0], "one output")


# --- The memo ------------------------------------------------------------------------


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


# --- Nested models -------------------------------------------------------------------


def test_flatten_keeps_values_layers_and_weights():
    net = harness.randomize(common.nested())
    flat = graph.flatten(net)
    images = harness.random_images((8, 8, 2))
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
    names = [layer.name for layer in flat.layers]
    assert {"conv1", "bn1", "relu1", "conv2"} <= set(names)
    assert {id(w) for w in flat.weights} == {id(w) for w in net.weights}
    harness.assert_bit_equal(predict(flat, images), predict(net, images), "flat")
    edited = graph.rerun(
        flat, keras.ops.convert_to_tensor(images), {"bn1": lambda x: x * 3}
    )
    assert np.abs(harness.to_numpy(edited) - predict(net, images)).max() > 1e-3


def test_flatten_keeps_the_training_argument_of_a_nested_call():
    net = common.nested()  # calls its inside with training=False
    flat = graph.flatten(net)
    arguments = {
        n.operation.name: n.arguments.kwargs.get("training")
        for n in graph.nodes(flat.inputs, flat.outputs)
    }
    assert arguments["bn1"] is False
    # fit's training=True wins over it in Keras, here as there.
    images = harness.random_images((8, 8, 2))
    results = []
    for model in (net, flat):
        harness.randomize(net)
        outputs = harness.to_numpy(model(images, training=True))
        results.append((outputs, *(w.numpy() for w in net.weights)))
    for one, other in zip(*results, strict=True):
        harness.assert_bit_equal(one, other, "training")


def test_flatten_twice_nested_and_shared():
    inside_image = keras.Input((6,))
    inside = keras.Model(inside_image, layers.Dense(6, name="dense")(inside_image))
    middle_image = keras.Input((6,))
    middle = keras.Model(middle_image, inside(inside(middle_image)))
    image = keras.Input((6,))
    net = keras.Model(image, layers.Add(name="add")([middle(image), inside(image)]))
    harness.randomize(net)
    flat = graph.flatten(net)
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    harness.assert_bit_equal(predict(flat, x), predict(net, x), "flat")
    assert len(graph.layer_outputs(flat, "dense")) == 3


def test_flatten_leaves_a_flat_model_alone():
    net = common.conv_net()
    assert graph.flatten(net) is net


def test_flatten_a_sequential_with_a_model_inside():
    net = keras.Sequential(
        [keras.Input((8, 8, 2)), common.nested(), layers.Dense(3, name="more")]
    )
    harness.randomize(net)
    images = harness.random_images((8, 8, 2))
    flat = graph.flatten(net)
    harness.assert_bit_equal(predict(flat, images), predict(net, images), "flat")


# --- Cutting -------------------------------------------------------------------------


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


# --- Refusals ------------------------------------------------------------------------


def unbuilt():
    return keras.Sequential([layers.Dense(3)])


class WithItsOwnCall(keras.Model):
    """Has a graph, which is not what it computes."""

    def call(self, x):
        return super().call(x) + 1


def own_call():
    image = keras.Input((3,))
    return WithItsOwnCall(image, layers.Dense(2)(image))


def several(kind):
    one, two = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    both = layers.Add()([one, two])
    if kind == "inputs":
        return keras.Model([one, two], both)
    return keras.Model(one, [layers.Dense(2)(one), layers.Dense(2)(one)])


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: 3, TypeError),
        (lambda: None, TypeError),
        (lambda: layers.Dense(3), TypeError),
        (unbuilt, ValueError),
        (own_call, ValueError),
        (lambda: several("inputs"), ValueError),
        (lambda: several("outputs"), ValueError),
    ],
)
def test_refuses_what_is_no_graph(make, error):
    x = np.ones((2, 3), "float32")
    for call in (
        lambda model: graph.rerun(model, x),
        lambda model: graph.cut(model, "dense"),
        graph.flatten,
        graph.require_graph,
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            call(make())
        assert type(caught.value) is error
        harness.assert_one_sentence(caught.value, "model")


@pytest.mark.parametrize(
    "edits",
    [{"nowhere": None}, {layers.Dense(3, name="foreign"): None}, {3: None}],
    ids=str,
)
def test_refuses_edits_of_unknown_layers(edits):
    net = common.conv_net()
    with pytest.raises(ValueError) as caught:
        graph.rerun(net, harness.random_images((8, 8, 2)), edits)
    harness.assert_one_sentence(caught.value, "edits")


def test_refuses_an_unknown_layer_name_and_lists_the_known():
    net = common.conv_net()
    for call in (graph.cut, graph.get_layer, graph.layer_outputs):
        with pytest.raises(ValueError) as caught:
            call(net, "conv7")
        harness.assert_one_sentence(caught.value, "layer")
        assert "conv7" in str(caught.value)
        assert "conv1, mix, conv2" in str(caught.value)


def test_refuses_a_cut_that_a_path_leads_around():
    net = common.residual()
    with pytest.raises(ValueError) as caught:
        graph.cut(net, "shared")
    harness.assert_one_sentence(caught.value, "layer")
    assert "2 times" in str(caught.value)
    image = keras.Input((4,))
    x = layers.Dense(4, name="branch")(image)
    around = keras.Model(image, layers.Add()([x, image]))
    with pytest.raises(ValueError) as caught:
        graph.cut(around, "branch")
    harness.assert_one_sentence(caught.value, "layer")
    with pytest.raises(ValueError) as caught:
        graph.cut(net, layers.Dense(3, name="foreign"))
    harness.assert_one_sentence(caught.value, "layer")


def test_refuses_outputs_that_need_more_than_the_inputs():
    net = common.residual()
    add = net.get_layer("add").output
    with pytest.raises(ValueError) as caught:
        graph.rerun(net, {net.get_layer("last").output: 1.0}, outputs=add)
    harness.assert_one_sentence(caught.value, "outputs")


# --- Nothing is left behind ----------------------------------------------------------


def state(model):
    return {
        "layers": [id(layer) for layer in model.layers],
        "calls": [
            (n.operation.name, [id(t) for t in n.input_tensors])
            for n in graph.nodes(model.inputs, model.outputs)
        ],
        "outputs": [id(layer.output) for layer in model.layers],
        "weights": [(w.path, w.numpy().tobytes()) for w in model.weights],
        "config": repr(model.get_config()),
        "attributes": [sorted(vars(layer)) for layer in model.layers],
    }


@pytest.mark.parametrize("make", [common.conv_net, common.residual, common.nested])
def test_the_model_is_as_it_was(make, tmp_path):
    net = harness.randomize(make())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    expected = predict(net, images)
    before = state(net)
    layer = net.layers[1]

    graph.rerun(net, images)
    graph.rerun(net, graph.input_like(net), {layer: lambda x: x * 2})
    graph.flatten(net)
    LRNet(net, timesteps=3)

    def fail(x):
        raise RuntimeError("an edit that fails")

    with pytest.raises(RuntimeError, match="an edit that fails"):
        graph.rerun(net, images, {layer: fail})
    assert state(net) == before
    harness.assert_bit_equal(predict(net, images), expected, "afterwards")
    net.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    harness.assert_bit_equal(predict(again, images), expected, "saved afterwards")


def test_input_like():
    net = LeNet()
    like = graph.input_like(net)
    assert like is not net.input
    assert (like.shape, like.dtype) == (net.input.shape, net.input.dtype)


# --- The protected part of Keras -----------------------------------------------------


def test_keras_still_has_what_graph_stands_on():
    """`graph.nodes` and `graph._run` are the only users of Keras' protected API."""
    advice = (
        "Keras changed its graph of nodes: adapt `nodes` and `_run` in "
        "kfeedback/graph.py, the only two places that use it, and this test."
    )
    run = getattr(keras.Function, "_run_through_graph", None)
    assert run is not None, advice
    assert list(inspect.signature(run).parameters)[1] == "inputs", advice
    assert "call_fn" in inspect.signature(run).parameters, advice

    net = common.residual()
    function = keras.Function(net.inputs, net.outputs)
    depths = getattr(function, "_nodes_by_depth", None)
    assert isinstance(depths, dict) and depths, advice
    found = [node for nodes in depths.values() for node in nodes]
    assert all(hasattr(node, "is_input") for node in found), advice
    names = sorted(node.operation.name for node in found if not node.is_input)
    calls = ["stem", "shared", "add", "shared", "concatenate"]
    assert names == sorted([*calls, "last", "pool", "predictions"]), advice
    assert all(node.outputs for node in found), advice
    assert all(node.input_tensors for node in found if not node.is_input), advice
    # The input has the greatest depth, the output depth 0.
    assert depths[0][0].operation.name == "predictions", advice

    met = []

    def call(operation, *args, **kwargs):
        met.append(operation.name)
        return operation(*args, **kwargs)

    function._run_through_graph([graph.input_like(net)], call_fn=call)
    assert sorted(met) == names, advice
    operation, index, _ = net.output._keras_history
    assert operation._inbound_nodes[index].outputs[0] is net.output, advice
    assert net.get_layer("stem")._call_has_training_arg is not None, advice
