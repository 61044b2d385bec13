import inspect
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import ops

import kfeedback
from kfeedback import explain
from tests.explain import common

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
CLASSES = np.array([[0, 1], [2, 3], [1, 1]], "int32")


def network(**kwargs):
    model, _ = common.three_layers()
    return kfeedback.FeedbackCNN(model, preprocess="scale", **kwargs)


def test_call_gives_what_the_methods_give():
    model, images = network(top=2, energy=0.8), common.images()
    found = {k: ops.convert_to_numpy(v) for k, v in model(images).items()}
    posterior = model.backbone.predict(images / 255, verbose=0)
    np.testing.assert_allclose(found["probabilities"], posterior, atol=1e-6)
    best = np.argsort(-posterior, axis=1)[:, :2]
    np.testing.assert_array_equal(found["top_classes"], best)
    np.testing.assert_allclose(
        found["top_scores"], np.take_along_axis(posterior, best, 1), atol=1e-6
    )
    np.testing.assert_allclose(
        found["saliency"], model.saliency(images, best), atol=1e-6
    )
    np.testing.assert_array_equal(
        found["boxes"], model.localize(images, best, energy=0.8)
    )
    assert found["saliency"].shape == (3, 2, 9, 9) and found["saliency"].max() > 0
    assert found["boxes"].shape == (3, 2, 4) and found["boxes"].dtype == np.int32


def test_predict_gives_the_dict():
    model, images = network(top=2), common.images(5)
    found = model.predict(images, batch_size=2, verbose=0)
    np.testing.assert_allclose(
        found["saliency"], ops.convert_to_numpy(model(images)["saliency"]), atol=1e-6
    )


def test_saves_and_reloads(tmp_path):
    model, images = network(gate_layers="relu2", iterations=3), common.images()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model.saliency(images), again.saliency(images))
    assert isinstance(again, kfeedback.FeedbackCNN)
    settings = [
        {k: v for k, v in one.get_config().items() if k != "backbone"}
        for one in (model, again)
    ]
    assert settings[0] == settings[1] and settings[0]["iterations"] == 3


def test_the_arguments_of_feedback_are_those_of_the_method():
    shown = inspect.signature(kfeedback.FeedbackCNN).parameters
    for name, parameter in inspect.signature(explain.Feedback).parameters.items():
        assert shown[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert shown[name].default == parameter.default
    config = network(step_size=0.3, start="activations").get_config()
    expected = explain.Feedback(step_size=0.3, start="activations").get_config()
    assert {name: config[name] for name in expected} == expected
    with pytest.raises(TypeError, match="loops"):
        network(loops=3)


def test_function_as_preprocessing_is_not_saved(tmp_path):
    model, _ = common.three_layers()
    model = kfeedback.FeedbackCNN(model, preprocess=lambda x: x / 255)
    with pytest.raises(ValueError, match="preprocess must be None or a mode"):
        model.save(tmp_path / "model.keras")


def test_weights_are_those_of_the_backbone(tmp_path):
    model, images = network(), common.images()
    kfeedback.weights.save(model.backbone, tmp_path / "weights.h5")
    fresh, _ = common.three_layers(seed=8)
    other = kfeedback.FeedbackCNN(
        fresh, preprocess="scale", weights=tmp_path / "weights.h5"
    )
    np.testing.assert_array_equal(model.saliency(images), other.saliency(images))
    assert "FeedbackCNN" in kfeedback.list_models()


def test_backbone_by_name_and_of_another_size():
    by_name = kfeedback.FeedbackCNN(
        "vgg_small", input_shape=(32, 32, 1), classes=3, gate_layers="block5_relu3"
    )
    maps = by_name.saliency(common.images(1, (32, 32, 1)), [[0, 2]])
    assert maps.shape == (1, 2, 32, 32)
    x = inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    sized = kfeedback.FeedbackCNN(model, input_shape=(12, 10, 3))
    assert sized.saliency(common.images(1, (12, 10, 3))).shape == (1, 12, 10)


def test_nothing_of_the_backbone_changes_also_after_an_error():
    model, _ = common.three_layers()
    before = [w.copy() for w in model.get_weights()]
    activations = [getattr(layer, "activation", None) for layer in model.layers]
    plain = model.predict(common.images() / 255, verbose=0)
    fresh = kfeedback.FeedbackCNN(model, preprocess="scale")
    for method in explain.list_methods():
        explain.saliency(model, common.images(), method=method, preprocess="scale")
    fresh.look_twice(common.images(), top=2)
    for bad in ([9, 0, 0], [0]):
        with pytest.raises(ValueError):
            fresh.saliency(common.images(), np.array(bad))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert activations == [getattr(layer, "activation", None) for layer in model.layers]
    np.testing.assert_array_equal(
        plain, model.predict(common.images() / 255, verbose=0)
    )


@pytest.mark.skipif(not ON_TENSORFLOW, reason="exports from TensorFlow")
def test_tf_serving_gets_a_signature_of_maps_and_boxes(tmp_path):
    import tensorflow as tf

    model, images = network(top=2), common.images()
    path = kfeedback.serving.export(
        model, tmp_path / "where", preprocessing="none", warmup_batches=()
    )
    served = tf.saved_model.load(str(path)).signatures["saliency"]
    found = served(images=tf.constant(images))
    for name, value in model(images).items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="exports from TensorFlow")
def test_saved_model_runs_without_the_package(tmp_path):
    model, images = network(top=2), common.images()
    model.export(tmp_path / "exported", verbose=False)
    np.save(tmp_path / "images.npy", images)
    script = """
        import sys
        for name in ("keras", "kfeedback"):
            sys.modules[name] = None
        import numpy as np
        import tensorflow as tf

        folder = sys.argv[1]
        served = tf.saved_model.load(folder + "/exported").signatures["serving_default"]
        found = served(tf.constant(np.load(folder + "/images.npy")))
        np.savez(folder + "/found.npz", **{k: v.numpy() for k, v in found.items()})
    """
    subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script), str(tmp_path)],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    expected = model(images)
    with np.load(tmp_path / "found.npz") as found:
        assert set(found.files) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"iterations": 0}, "iterations must be an integer ≥ 1, got 0"),
        ({"step_size": 0}, "step_size must be a number > 0"),
        ({"sparsity": -1}, "sparsity must be a number ≥ 0"),
        ({"update_rule": "descent"}, "update_rule must be one of gradient_ascent"),
        ({"start": "zeros"}, "start must be one of activations, half"),
        ({"energy": 0}, "energy must be a number > 0 and ≤ 1"),
        ({"energy": 1.5}, "energy must be a number > 0 and ≤ 1"),
        ({"top": 0}, "top must be an integer ≥ 1"),
        ({"gate_layers": "dense_relu"}, "that follow no dense layer"),
        ({"gate_layers": "nowhere"}, "gate_layers must name layers"),
        ({"gate_layers": []}, "gate_layers must be None or name at least one"),
        ({"include_top": False}, "include_top must be True"),
        ({"preprocess": "whiten"}, "preprocess must be one of"),
        ({"classes": 7}, "classes must be None or the 4 classes"),
    ],
)
def test_bad_arguments(kwargs, match):
    x = inputs = keras.Input((9, 9, 2))
    x = keras.layers.Conv2D(3, 3, activation="relu")(x)
    x = keras.layers.Dense(4)(keras.layers.Flatten()(x))
    x = keras.layers.Reshape((2, 2, 1))(x)
    x = keras.layers.ReLU(name="dense_relu")(x)
    x = keras.layers.Dense(4)(keras.layers.Flatten()(x))
    with pytest.raises(ValueError, match=match):
        kfeedback.FeedbackCNN(keras.Model(inputs, x), **kwargs)


def classifier(activation, classes=3, end="softmax"):
    x = inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(4, 3, activation=activation, name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, activation=end)(x))


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (lambda: classifier("silu"), "has other activations in conv; gate_layers can"),
        (lambda: classifier("linear"), "has none; gate_layers can name other layers"),
        (lambda: classifier("relu", 1, None), r"output \(B, classes\) and classes ≥ 2"),
        (lambda: classifier("relu", 3, "relu"), "scores, got .* ends in relu"),
    ],
)
def test_bad_models(model, match):
    with pytest.raises(ValueError, match=match):
        kfeedback.FeedbackCNN(model())


def test_other_activations_can_be_gated_by_name():
    model = kfeedback.FeedbackCNN(classifier("silu"), gate_layers="conv")
    assert model.saliency(common.images(1, (8, 8, 2))).max() > 0


@pytest.mark.parametrize("bad", [np.nan, 256.0, -1.0])
def test_bad_pixels(bad):
    images = common.images()
    images[1, 2, 3, 0] = bad
    match = "images( for a second look)? must have values from 0 to 255"
    for call in (network().saliency, network().localize, network().look_twice):
        with pytest.raises(ValueError, match=match):
            call(images)


@pytest.mark.parametrize(
    ("images", "targets", "match"),
    [
        (common.images()[:, :8], None, "images must have the shape"),
        (common.images()[0], None, "images must have the shape"),
        (common.images()[:0], None, "images must have the shape"),
        (common.images(), [0, 1], "targets must be int classes"),
        (common.images(), [0, 1, 4], "targets must be from 0 to 3, got 0 to 4"),
        (common.images(), [0, 1, -1], "targets must be from 0 to 3, got -1 to 1"),
        (common.images(), [0.0, 1.0, 2.0], "targets must be int classes"),
        (common.images(), np.zeros((3, 1, 1), int), "targets must be"),
        (common.images(), np.zeros((3, 0), int), "targets must be"),
    ],
)
def test_bad_images_and_targets(images, targets, match):
    with pytest.raises(ValueError, match=match):
        network().saliency(images, targets if targets is None else np.array(targets))


@pytest.mark.parametrize("energy", [0, -0.1, 1.01, float("nan"), True])
def test_bad_energy(energy):
    with pytest.raises(ValueError, match="energy must be a number > 0 and ≤ 1"):
        network().localize(common.images(), energy=energy)


_MEMORY = """
    import json, resource, sys
    import keras
    import numpy as np
    import kfeedback

    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((96, 96, 3))
    for filters in (24, 24, 24, 24):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    network = kfeedback.FeedbackCNN(model, preprocess="scale", batch_size=8)
    images = np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), np.uint8)
    many = np.broadcast_to(images, (64, *images.shape)).reshape(-1, 96, 96, 3)
    network.localize(many[: int(sys.argv[1])], verbose=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(not ON_TENSORFLOW, reason="measured on TensorFlow")
def test_memory_is_that_of_a_chunk():
    """512 images in chunks of 8 peak within 10 % of 16 images."""
    peaks = {}
    for count in (16, 512):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(_MEMORY), str(count)],
            capture_output=True,
            text=True,
            check=True,
            cwd=pathlib.Path(__file__).parents[2],
        )
        peaks[count] = int(done.stdout.split()[-1])
    print(f"peak {peaks[16] // 1024} MiB for 16 images, {peaks[512] // 1024} for 512")
    assert peaks[512] < 1.1 * peaks[16]


def application(name, side, **kwargs):
    kwargs = {"weights": None, "input_shape": (side, side, 3), **kwargs}
    return getattr(keras.applications, name)(**kwargs)


def runs_in_all_ways(model, side, **kwargs):
    """Maps, boxes, second look and call of an image; returns the gated layers."""
    network = kfeedback.FeedbackCNN(model, iterations=2, top=2, **kwargs)
    images = common.images(1, (side, side, 3))
    plain = images / 255 if "preprocess" in kwargs else images
    maps = network.saliency(images, np.array([[1, 2]]))
    assert maps.shape == (1, 2, side, side) and np.isfinite(maps).all()
    boxes = network.localize(images, np.array([[1, 2]]))
    found = {k: ops.convert_to_numpy(v) for k, v in network(images).items()}
    np.testing.assert_allclose(
        found["probabilities"], model.predict(plain, verbose=0), atol=1e-5
    )
    looks = network.look_twice(images, top=2)
    np.testing.assert_array_equal(looks["first_classes"], found["top_classes"])
    for one in (boxes, found["boxes"], looks["boxes"]):
        assert one.shape == (1, 2, 4) and (one >= 0).all() and (one <= side).all()
    sites = network.explainer.network.sites
    return maps, [site.operation.name for site in sites]


def relus(model):
    """Names of its layers that are a ReLU, or end in one, on a feature map."""
    kinds = (keras.activations.relu, keras.activations.relu6)
    return [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.ReLU)
        or getattr(layer, "activation", None) in kinds
        if len(layer.output.shape) == 4
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "count"),
    [
        ("VGG16", 64, 13),
        ("ResNet50", 64, 49),
        ("MobileNetV2", 64, 35),
        ("MobileNetV2", 224, 35),
        ("DenseNet121", 64, 121),
    ],
)
def test_any_classifier_of_keras(name, side, count):
    model = application(name, side, classes=7)
    maps, gated = runs_in_all_ways(model, side, preprocess="scale")
    assert maps.any() and len(gated) == count
    assert sorted(gated) == sorted(relus(model))


@pytest.mark.slow
def test_swish_is_refused_by_the_names_of_its_layers():
    model = application("EfficientNetB0", 64, classes=7)
    with pytest.raises(
        ValueError, match="other activations in stem_activation, block1a_activation"
    ):
        kfeedback.FeedbackCNN(model)
    _, gated = runs_in_all_ways(model, 64, gate_layers="top_activation")
    assert gated == ["top_activation"]


@pytest.mark.slow
def test_a_classifier_on_top_of_one_of_keras():
    """As transfer learning makes it: augmentation, preprocessing, base, new head."""
    base = application("MobileNetV2", 64, alpha=0.35, include_top=False)
    x = inputs = keras.Input((64, 64, 3))
    x = keras.layers.RandomFlip("horizontal", seed=1)(x)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(x))
    maps, gated = runs_in_all_ways(model, 64)
    assert maps.any() and sorted(gated) == sorted(relus(base))


def test_images_are_not_rounded_to_the_precision_of_layers():
    """A model of its own class casts what it is given, and so do the methods not."""
    model, images = common.three_layers()[0], common.images() / 255 + 0.123
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        made = kfeedback.FeedbackCNN(model)
    finally:
        keras.config.set_dtype_policy(policy)
    found = ops.convert_to_numpy(made(images)["probabilities"])
    np.testing.assert_allclose(found, made.explainer.predict(images), atol=1e-6)


def test_weights_serve_whatever_the_loop_does(tmp_path):
    path = tmp_path / "weights.h5"
    kfeedback.weights.save(network(iterations=3, batch_size=16), path)
    kfeedback.weights.load(network(iterations=5, batch_size=8), path)
