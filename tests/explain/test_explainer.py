import os
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.explain import Explainer, Feedback, list_methods, saliency, second_look
from kfeedback.explain.methods.feedback import multiply
from kfeedback.explain.network import Network
from tests.explain import common, reference
from tests.reference import conv2d, relu

TARGETS = np.array([0, 2, 3], "int32")


@pytest.fixture(scope="module")
def net():
    return common.three_layers()


def explain(model, method, images, targets, **kwargs):
    return Explainer(model, method, preprocess="scale", **kwargs).saliency(
        images, targets
    )


def test_gradient_is_that_of_the_scores(net):
    model, weights = net
    images = common.images()
    ones = [np.ones(1)] * 2
    expected = reference.backward(images / 255, weights, ones, TARGETS)[2]
    found = explain(model, "gradient", images, TARGETS)
    np.testing.assert_allclose(found, abs(expected).max(axis=-1), atol=1e-6)


@pytest.mark.parametrize("method", ["guided_backpropagation", "deconvnet"])
def test_rivals_let_only_positive_gradients_down(net, method):
    model, weights = net
    images = common.images()
    x, before = images.astype("float64") / 255, []
    for kernel, bias in weights[:-1]:
        before.append(conv2d(x, kernel, bias))
        x = relu(before[-1])
    up = weights[-1][0].astype("float64").T[TARGETS].reshape(x.shape)
    for number in (1, 0):
        up = relu(up)
        if method == "guided_backpropagation":
            up = up * (before[number] > 0)
        shape = before[0].shape if number else images.shape
        up = reference._conv_transposed(up, weights[number][0], shape)
    found = explain(model, method, images, TARGETS)
    np.testing.assert_allclose(found, abs(up).max(axis=-1), atol=1e-5)


def test_grad_cam_is_the_weighted_last_map(net):
    model, weights = net
    images = common.images()
    ones = [np.ones(1)] * 2
    outputs, _ = reference.forward(images / 255, weights, ones)
    up = weights[-1][0].T[TARGETS].reshape(outputs[1].shape)
    cam = relu((up.mean(axis=(1, 2), keepdims=True) * outputs[1]).sum(axis=-1))
    expected = ops.image.resize(cam[..., None].astype("float32"), (9, 9))[..., 0]
    found = explain(model, "grad_cam", images, TARGETS)
    np.testing.assert_allclose(found, ops.convert_to_numpy(expected), atol=1e-5)
    assert found.max() > 0.01


def test_grad_cam_takes_the_maps_before_the_last_pooling():
    x = inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="last")(x)
    x = keras.layers.Dropout(0.1)(keras.layers.MaxPooling2D()(x))
    x = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    network = Network(keras.Model(inputs, x))
    assert [tuple(t.shape) for t in network.features] == [(None, 8, 8, 3)]


@pytest.mark.parametrize("method", list_methods())
def test_chunks_targets_and_repetition_change_nothing(net, method):
    model, _ = net
    images = common.images(5)
    several = np.array([[0, 1], [2, 3], [1, 1], [3, 0], [2, 0]])
    whole = explain(model, method, images, several, batch_size=16)
    chunked = explain(model, method, images, several, batch_size=3)
    np.testing.assert_allclose(whole, chunked, atol=1e-6)
    single = Explainer(model, method, preprocess="scale", batch_size=2)
    for k in range(2):
        np.testing.assert_allclose(
            whole[:, k], single.saliency(images, several[:, k]), atol=1e-6
        )
    again = explain(model, method, images, several, batch_size=3)
    np.testing.assert_array_equal(chunked, again)


def test_no_target_is_the_predicted_class(net):
    model, _ = net
    images = common.images(5)
    explainer = Explainer(model, preprocess="scale", batch_size=2)
    best = explainer.predict(images).argmax(axis=1)
    np.testing.assert_array_equal(
        explainer.saliency(images), explainer.saliency(images, best)
    )


def test_first_pass_and_what_lies_below_the_first_gates_run_once():
    """However many targets and iterations: counted where layers are called."""
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            calls.append(self.name)
            return x

    x = inputs = keras.Input((9, 9, 2))
    x = Counting(name="below")(x)
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    x = Counting(name="above")(x)
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    x = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    network = Network(keras.Model(inputs, x))
    images = ops.convert_to_tensor(common.images())
    calls.clear()
    _, features = network.first_pass(images)
    assert calls == ["below", "above"]
    calls.clear()
    gates = [ops.ones_like(f) for f in features]
    scores = network.gated_scores(gates, images, features, multiply)
    assert calls == ["above"]
    np.testing.assert_allclose(
        ops.convert_to_numpy(scores), ops.convert_to_numpy(network.scores(images)), 1e-5
    )


def tangled():
    """Every kind of ReLU, a shared one, a batch norm, an addition, a nested model."""
    shared = keras.layers.ReLU(name="shared")
    inner_in = keras.Input((8, 8, 4))
    inner_out = keras.layers.LeakyReLU(name="leaky")(
        keras.layers.Conv2D(4, 1, name="inner_conv")(inner_in)
    )
    inner = keras.Model(inner_in, inner_out, name="inner")
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = shared(keras.layers.BatchNormalization()(x))
    y = keras.layers.SeparableConv2D(
        4, 3, padding="same", activation="relu6", name="fused6"
    )(inputs)
    y = inner(y)
    x = shared(keras.layers.Add()([x, -1 * y]))
    x = keras.layers.ReLU(6.0, negative_slope=0.1, name="both")(x)
    x = keras.layers.Activation("relu", name="activation")(x)
    x = ops.relu(x - 0.01)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5, activation="relu", name="dense")(x)
    x = keras.layers.Dense(3, activation="sigmoid", name="predictions")(x)
    return keras.Model(inputs, x)


def test_every_relu_of_a_feature_map_gets_a_gate():
    network = Network(tangled())
    names = [site.operation.name for site in network.sites]
    assert {"activation", "both", "fused6", "leaky", "shared"} < set(names)
    assert names.count("shared") == 2 and len(names) == 7
    assert "dense" not in names and network.is_sigmoid
    assert {s.operation.name for s in network.relus} - set(names) == {"dense"}


def test_gates_of_a_tangled_net_act_where_they_stand():
    """Against the same network with the gates written into it, call by call."""
    model = tangled()
    images = common.images(2, (8, 8, 2)) / 255
    network = Network(model)
    rng = np.random.default_rng(3)
    gates = [
        rng.uniform(0, 1, (2, *site.output.shape[1:])).astype("float32")
        for site in network.sites
    ]
    plain, features = network.first_pass(ops.convert_to_tensor(images))
    scores = network.gated_scores(gates, images, features, multiply)
    everything = network.scores(images, lambda n, x: multiply(x, gates[n]))
    np.testing.assert_allclose(
        ops.convert_to_numpy(scores), ops.convert_to_numpy(everything), atol=1e-6
    )
    assert abs(ops.convert_to_numpy(plain - scores)).max() > 1e-3
    for changed in range(len(gates)):
        one = [np.ones_like(z) if n != changed else z for n, z in enumerate(gates)]
        scores = network.gated_scores(one, images, features, multiply)
        assert abs(ops.convert_to_numpy(plain - scores)).max() > 1e-5, changed


@pytest.mark.parametrize("method", list_methods())
def test_a_tangled_net_runs(method):
    maps = explain(tangled(), method, common.images(2, (8, 8, 2)), [0, 2], batch_size=2)
    assert maps.shape == (2, 8, 8) and np.isfinite(maps).all() and maps.max() > 0


def test_two_posteriors_are_refused():
    x = inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(3, 3, activation="relu")(x)
    x = keras.layers.Flatten()(x)
    ends = [keras.layers.Dense(2, activation="softmax")(x) for _ in range(2)]
    with pytest.raises(ValueError, match="model must have one posterior"):
        Explainer(keras.Model(inputs, keras.layers.Average()(ends)))


class Bright:
    """Stands for a network whose class k is the mean of channel k."""

    def __init__(self):
        x = inputs = keras.Input((8, 8, 2))
        x = keras.layers.Conv2D(2, 1, activation="relu")(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        out = keras.layers.Dense(2, activation="softmax")(x)
        self.model = keras.Model(inputs, out)
        eye = np.eye(2, dtype="float32")
        self.model.set_weights(
            [eye[None, None], np.zeros(2, "float32"), eye / 20, np.zeros(2, "float32")]
        )


def test_look_twice_crops_the_original_and_ranks_the_pairs():
    """Channel 0 is everywhere a little bright, channel 1 very bright in one corner."""
    model = Bright().model
    image = np.zeros((16, 16, 2), "float32")
    image[..., 0] = 80
    image[8:, :8, 1] = 240
    explainer = Explainer(model, Feedback(3), batch_size=3)
    found = explainer.look_twice(image[None], top=2)
    assert found["first_classes"].tolist() == [[0, 1]]
    assert found["boxes"].shape == (1, 2, 4) and found["boxes"].dtype == np.int32
    # The gradient of class 1 lies where channel 1 is: the gates elsewhere are closed.
    # (Shrinking by half blurs it into the next pixels, one of the smaller image each.)
    top, left, bottom, right = found["boxes"][0, 1]
    assert (top, left, bottom, right) == (6, 0, 16, 10)
    assert found["classes"].tolist() == [[1, 0]]
    crop = keras.ops.image.resize(image[6:, :10], (8, 8), antialias=True)
    expected = explainer.predict(ops.convert_to_numpy(crop)[None])[0]
    np.testing.assert_allclose(found["scores"][0, 0], expected[1], atol=1e-6)
    assert (np.diff(found["scores"], axis=1) <= 0).all()
    listed = explainer.look_twice([image, image[:12, :14]], top=2)
    for name, value in found.items():
        np.testing.assert_array_equal(listed[name][:1], value)


def test_ranking_takes_every_class_once_and_only_the_best_of_each_look():
    posterior = np.array([[[0.5, 0.3, 0.2, 0.0], [0.1, 0.0, 0.2, 0.7]]])
    classes, scores = second_look._best_distinct(posterior, 2)
    assert classes.tolist() == [[3, 0]] and scores.tolist() == [[0.7, 0.5]]
    classes, scores = second_look._best_distinct(posterior, 1)
    assert classes.tolist() == [[3]]


@pytest.mark.parametrize(
    ("box", "margin", "square", "expected"),
    [
        ((2, 2, 4, 6), 0, False, (4, 4, 8, 12)),
        ((2, 2, 4, 6), 0.5, False, (2, 0, 10, 16)),
        ((2, 2, 4, 6), 0, True, (2, 4, 10, 12)),
        ((0, 2, 2, 6), 0, True, (0, 4, 8, 12)),
        ((0, 0, 8, 8), 1, True, (0, 0, 16, 16)),
        ((0, 0, 0, 0), 0, False, (0, 0, 16, 16)),
    ],
)
def test_windows_stay_in_the_original(box, margin, square, expected):
    found = second_look._window(np.array(box), (16, 16), (8, 8), margin, square)
    assert tuple(map(int, found)) == expected


def test_few_images_are_not_filled_up_to_a_whole_chunk():
    """One image costs one, and what is left over from chunks compiles nothing anew."""
    sizes = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            sizes.append(x.shape[0])
            return x

    model = Bright().model
    inputs = keras.Input((8, 8, 2))
    explainer = Explainer(
        keras.Model(inputs, model(Counting()(inputs))), "gradient", batch_size=8
    )
    for count, expected in ((1, {1}), (3, {4}), (8, {8}), (9, {8})):
        explainer = Explainer(explainer.model, "gradient", batch_size=8)
        sizes.clear()
        maps = explainer.saliency(common.images(count, (8, 8, 2)))
        assert maps.shape == (count, 8, 8) and set(sizes) == expected
        sizes.clear()
        assert explainer.predict(common.images(count, (8, 8, 2))).shape == (count, 2)
        assert set(sizes) == expected
    sizes.clear()
    explainer.look_twice(common.images(9, (8, 8, 2)), top=2)  # 4 at once, 8 crops
    assert set(sizes) <= {4, 8}


def test_no_images_have_no_second_look():
    with pytest.raises(ValueError, match="images must be at least one, got none"):
        Explainer(Bright().model).look_twice([])


def test_progress_is_shown_where_it_is_asked_for(net, capsys):
    model, _ = net
    explainer = Explainer(model, "gradient", preprocess="scale", batch_size=2)
    explainer.saliency(common.images(5))
    assert capsys.readouterr().out == ""
    explainer.saliency(common.images(5), verbose=True)
    assert "5/5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"method": "lime"}, ValueError, "method must be one of guided"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer ≥ 1"),
        ({"preprocess": 3}, TypeError, "preprocess must be None, a mode or a function"),
        (
            {"method": Feedback(gate_layers=3)},
            TypeError,
            "gate_layers must be None, a layer, its name",
        ),
    ],
)
def test_bad_settings(net, kwargs, error, match):
    with pytest.raises(error, match=match):
        Explainer(net[0], **kwargs)


def test_bad_model():
    with pytest.raises(TypeError, match="model must be a functional"):
        saliency("model", common.images())


_BACKEND = """
    import sys
    import keras
    import numpy as np
    from kfeedback.explain import Feedback, list_methods, saliency

    model = keras.models.load_model(sys.argv[1])
    images = np.load(sys.argv[2])
    targets = np.array([0, 2, 3])
    methods = {name: name for name in list_methods()}
    for rule in ("recovering", "selective_pruning"):
        methods[rule] = Feedback(update_rule=rule)
    maps = {name: saliency(model, images, targets, method=method, preprocess="scale")
            for name, method in methods.items()}
    np.savez(sys.argv[3], **maps)
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_backends_agree(net, tmp_path, backend):
    if backend == keras.backend.backend():
        pytest.skip("this is the one that the others are compared with")
    pytest.importorskip(backend)
    model, _ = net
    images = common.images()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    files = [str(tmp_path / f) for f in ("model.keras", "images.npy", "maps.npz")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_BACKEND), *files],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(files[2]) as maps:
        rules = ("recovering", "selective_pruning")
        assert set(maps.files) == {*list_methods(), *rules}
        for name in maps.files:
            method = Feedback(update_rule=name) if name in rules else name
            expected = saliency(
                model, images, np.array([0, 2, 3]), preprocess="scale", method=method
            )
            np.testing.assert_allclose(maps[name], expected, atol=1e-4)
