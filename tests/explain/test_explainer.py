import os
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from kfeedback import FeedbackCNN, explain
from kfeedback.explain import Explainer, Feedback, list_methods, saliency
from kfeedback.explain import explainer as explainer_module
from tests import harness
from tests.explain import common


@pytest.fixture(scope="module")
def net():
    return common.three_layers()


def test_no_target_is_the_predicted_class(net):
    model, _ = net
    images = common.images(5)
    explainer = Explainer(model, preprocess="scale", batch_size=2)
    best = explainer.predict(images).argmax(axis=1)
    np.testing.assert_array_equal(
        explainer.saliency(images), explainer.saliency(images, best)
    )


def test_few_images_are_not_filled_up_to_a_whole_chunk():
    """One image costs one, and what is left over from chunks compiles nothing anew."""
    sizes = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            sizes.append(x.shape[0])
            return x

    model = common.bright()
    inputs = keras.Input((8, 8, 2))
    explainer = Explainer(
        keras.Model(inputs, model(Counting()(inputs))), "gradient", batch_size=8
    )
    for count, expected in ((1, {1}), (3, {4}), (8, {8}), (9, {8})):
        explainer = Explainer(explainer.network.model, "gradient", batch_size=8)
        sizes.clear()
        maps = explainer.saliency(common.images(count, (8, 8, 2)))
        assert maps.shape == (count, 8, 8) and set(sizes) == expected
        sizes.clear()
        assert explainer.predict(common.images(count, (8, 8, 2))).shape == (count, 2)
        assert set(sizes) == expected
    sizes.clear()
    explainer.look_twice(common.images(9, (8, 8, 2)), top=2)  # 4 at once, 8 crops
    assert set(sizes) <= {4, 8}


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
        ({"method": "lime"}, ValueError, "method must be one of center, deconvnet"),
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


def test_a_preprocessing_of_ones_own_sees_floats(net):
    """In uint8 x - 128 would wrap around."""
    images = np.random.default_rng(0).integers(0, 256, (2, *net[0].input_shape[1:]))
    network = FeedbackCNN(net[0], preprocess=lambda x: (x - 128) / 255)
    found = network.predict(images.astype("uint8"), verbose=0)
    wanted = network.predict(images.astype("float32"), verbose=0)
    keras.tree.map_structure(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("name", ["saliency", "localize"])
def test_rows_of_different_lengths(net, name):
    call = getattr(Explainer(net[0], "gradient"), name)
    images = common.images(2)
    with pytest.raises(ValueError, match="targets must be one array, whose rows are"):
        call(images, [[0, 1], [2]])
    with pytest.raises(ValueError, match="images must be one array, whose rows are"):
        call([images[0], images[1, :5]])
    with pytest.raises(TypeError, match="verbose must be True, False or 'auto', got 2"):
        call(images, verbose=2)


@pytest.mark.parametrize("call", [explain.saliency, explain.localize])
def test_functions_show_a_bar_as_explainers_do(net, call, capsys):
    for verbose in (True, False):
        call(net[0], common.images(2), method="gradient", verbose=verbose)
        assert ("image" in capsys.readouterr().out) == verbose


def of_any_size():
    x = inputs = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


@pytest.mark.parametrize(
    "method",
    ["center", explain.Occlusion(0.5), explain.RISE(3), explain.SmoothGrad(samples=2)],
    ids=lambda method: getattr(method, "name", method),
)
def test_one_explainer_takes_images_of_several_sizes(method):
    model = of_any_size()
    explainer = Explainer(model, method)
    for shape in ((8, 8, 2), (6, 9, 2), (8, 8, 2)):
        images = common.images(3, shape)
        maps = explainer.saliency(images, [0, 1, 2])
        assert maps.shape == (3, *shape[:2])
        alone = Explainer(model, method).saliency(images, [0, 1, 2])
        np.testing.assert_allclose(maps, alone, atol=1e-6)
        assert explainer.predict(images).shape == (3, 3)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_many_targets_an_image_are_no_more_at_once(net, batch_size):
    """10 of them, of 3 images; 10 is no multiple of 3 or 4."""
    most = []

    class Sized(explain.Method):
        def maps(self, network, images, targets, features):
            most.append(images.shape[0])
            return network.input_map(images, targets)

    images, targets = common.images(3), np.arange(30).reshape(3, 10) % 4
    explainer = Explainer(net[0], Sized(), batch_size=batch_size)
    maps = explainer.saliency(images, targets)
    assert max(most) <= batch_size and len(most) == 1, "compiled once"
    whole = Explainer(net[0], "gradient", batch_size=30)
    np.testing.assert_allclose(maps, whole.saliency(images, targets), atol=1e-5)
    boxes = explainer.localize(images, targets)
    np.testing.assert_array_equal(boxes, whole.localize(images, targets))
    listed = explainer.localize(images, targets, components=True)
    assert [len(own) for own in listed] == [10] * 3


def test_no_images_are_refused_with_the_shape_that_is_wanted(net):
    with pytest.raises(ValueError) as caught:
        Explainer(net[0], "gradient").saliency(common.images(0))
    harness.assert_one_sentence(caught.value, "images must have the shape (N, 9, 9, 2)")
    assert "N ≥ 1" in str(caught.value)


def test_no_more_than_the_last_few_sizes_stay_compiled(monkeypatch):
    monkeypatch.setattr(explainer_module, "_MOST_COMPILED", 2)
    x = image = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(3, 3, activation="relu")(x)
    x = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    explainer = Explainer(keras.Model(image, x), "gradient")
    for size in (6, 7, 8, 6):
        images = harness.random_images((size, size, 2))
        first = explainer.saliency(images)
        np.testing.assert_array_equal(explainer.saliency(images), first)
        assert len(explainer._compiled) <= 2
