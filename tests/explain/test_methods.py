"""Saliency methods: what they compute, and that a new one is one more file."""

import textwrap

import keras
import numpy as np
import pytest
from keras import ops

import kfeedback
from kfeedback import explain
from kfeedback.explain import methods
from kfeedback.explain.methods import base
from tests.explain import common, reference
from tests.reference.operations import conv2d, relu

TARGETS = np.array([0, 2, 3], "int32")


@pytest.fixture(scope="module")
def net():
    return common.three_layers()


def maps_of(model, method, images, targets, **kwargs):
    return explain.Explainer(model, method, preprocess="scale", **kwargs).saliency(
        images, targets
    )


def test_gradient_is_that_of_the_scores(net):
    model, weights = net
    images = common.images()
    ones = [np.ones(1)] * 2
    expected = reference.backward(images / 255, weights, ones, TARGETS)[2]
    found = maps_of(model, "gradient", images, TARGETS)
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
    found = maps_of(model, method, images, TARGETS)
    np.testing.assert_allclose(found, abs(up).max(axis=-1), atol=1e-5)


def test_grad_cam_is_the_weighted_last_map(net):
    model, weights = net
    images = common.images()
    ones = [np.ones(1)] * 2
    outputs, _ = reference.forward(images / 255, weights, ones)
    up = weights[-1][0].T[TARGETS].reshape(outputs[1].shape)
    cam = relu((up.mean(axis=(1, 2), keepdims=True) * outputs[1]).sum(axis=-1))
    expected = ops.image.resize(cam[..., None].astype("float32"), (9, 9))[..., 0]
    found = maps_of(model, "grad_cam", images, TARGETS)
    np.testing.assert_allclose(found, ops.convert_to_numpy(expected), atol=1e-5)
    assert found.max() > 0.01


@pytest.mark.parametrize("method", explain.list_methods())
def test_chunks_targets_and_repetition_change_nothing(net, method):
    model, _ = net
    images = common.images(5)
    several = np.array([[0, 1], [2, 3], [1, 1], [3, 0], [2, 0]])
    whole = maps_of(model, method, images, several, batch_size=16)
    chunked = maps_of(model, method, images, several, batch_size=3)
    np.testing.assert_allclose(whole, chunked, atol=1e-6)
    single = explain.Explainer(model, method, preprocess="scale", batch_size=2)
    for k in range(2):
        np.testing.assert_allclose(
            whole[:, k], single.saliency(images, several[:, k]), atol=1e-6
        )
    again = maps_of(model, method, images, several, batch_size=3)
    np.testing.assert_array_equal(chunked, again)


@pytest.mark.parametrize("method", explain.list_methods())
def test_maps_are_float32_whatever_floatx_is(net, method):
    if method in ("rise", "smooth_grad"):
        method = explain.get_method(method, **{SHORT[method]: 3})
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        maps = maps_of(net[0], method, common.images(2), [0, 2])
    finally:
        keras.config.set_floatx(before)
    assert maps.dtype == "float32"
    expected = maps_of(net[0], method, common.images(2), [0, 2])
    np.testing.assert_allclose(maps, expected, atol=1e-5)


@pytest.mark.parametrize("method", explain.list_methods())
def test_a_tangled_net_runs(method):
    maps = maps_of(
        common.tangled(), method, common.images(2, (8, 8, 2)), [0, 2], batch_size=2
    )
    assert maps.shape == (2, 8, 8) and np.isfinite(maps).all() and maps.max() > 0


SHORT = {"rise": "masks", "smooth_grad": "samples"}  # what makes them take long
CLASSES = {
    "center": explain.Center,
    "deconvnet": explain.Deconvnet,
    "feedback": explain.Feedback,
    "grad_cam": explain.GradCAM,
    "grad_cam_plus_plus": explain.GradCAMPlusPlus,
    "gradient": explain.Gradient,
    "gradient_input": explain.GradientInput,
    "guided_backpropagation": explain.GuidedBackpropagation,
    "hires_cam": explain.HiResCAM,
    "integrated_gradients": explain.IntegratedGradients,
    "layer_cam": explain.LayerCAM,
    "occlusion": explain.Occlusion,
    "rise": explain.RISE,
    "score_cam": explain.ScoreCAM,
    "smooth_grad": explain.SmoothGrad,
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_string_stands_for_the_method_with_its_defaults(name):
    cls, method = CLASSES[name], explain.get_method(name)
    assert type(method) is cls and method.name == name
    assert repr(method) == repr(cls())
    assert explain.get_method(method) is method


def test_the_names_are_listed():
    listed = explain.list_methods()
    assert set(listed) >= set(CLASSES) and listed == sorted(listed)


def test_a_config_gives_the_method_again():
    settings = {"iterations": 3, "step_size": 0.2, "sparsity": 0.0}
    settings |= {"update_rule": "recovering", "gate_layers": ["b", "a"]}
    settings |= {"start": "activations", "normalize": False}
    settings |= {"objective": "score", "readout": "gradient", "smoothing": 0.1}
    config = explain.Feedback(**settings).get_config()
    assert config == settings | {"gate_layers": ["a", "b"]}
    again = explain.get_method("feedback", **config)
    assert again.get_config() == config
    layer = keras.layers.ReLU(name="layer")
    for one in ("layer", layer, [layer]):
        found = explain.Feedback(gate_layers=one).get_config()["gate_layers"]
        assert found == ["layer"]
    assert explain.GradCAM().get_config() == {}


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda model: explain.Explainer(model, "gradient", iterations=5), "iterat"),
        (lambda model: explain.get_method("gradient", iterations=50), "argument"),
        (lambda model: explain.get_method("feedback", layers=2), "layers"),
        (
            lambda model: explain.get_method(explain.Feedback(), iterations=50),
            "arguments must be given to a method's name, .* got iterations",
        ),
        (
            lambda model: explain.saliency(
                model, common.images(), method="gradient", iterations=50
            ),
            "iterations",
        ),
        (lambda model: kfeedback.FeedbackCNN(model, steps=3), "steps"),
    ],
)
def test_an_argument_that_a_method_does_not_have_is_an_error(net, call, match):
    with pytest.raises(TypeError, match=match):
        call(net[0])


def test_a_class_is_no_method():
    with pytest.raises(TypeError, match=r"class Gradient; Gradient\(\) is an object"):
        explain.get_method(explain.Gradient)
    assert repr(explain.GradCAM()) == "GradCAM()"
    assert "iterations=20" in repr(explain.Feedback(iterations=20))


@pytest.mark.parametrize("bad", ["lime", 3, None])
def test_unknown_methods_are_refused(bad):
    with pytest.raises(ValueError, match="method must be one of ") as error:
        explain.get_method(bad)
    assert all(name in str(error.value) for name in CLASSES)
    assert str(error.value).endswith(f"got {bad!r}.")


def test_a_new_file_is_a_new_method(net, tmp_path, monkeypatch):
    """It works by name everywhere; nothing else knows of it."""
    source = """
        from keras import ops
        from kfeedback.explain import Method, register


        @register("squared_gradient")
        class SquaredGradient(Method):
            def __init__(self, scale=1.0):
                self.scale = scale

            def maps(self, network, images, targets, features):
                return self.scale * ops.square(network.input_map(images, targets))
    """
    (tmp_path / "squared_gradient.py").write_text(textwrap.dedent(source))
    # The table is that of this test alone: no other sees the new method.
    monkeypatch.setattr(base._METHODS, "_entries", base._METHODS.entries())
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    model, images = net[0], common.images()
    assert "squared_gradient" in explain.list_methods()
    kwargs = {"method": "squared_gradient", "preprocess": "scale"}
    maps = explain.saliency(model, images, TARGETS, **kwargs)
    plain = maps_of(model, "gradient", images, TARGETS)
    np.testing.assert_allclose(maps, plain**2, rtol=1e-6)
    boxes = explain.localize(model, images, TARGETS, energy=0.7, **kwargs)
    mask = explain.boxes.foreground(ops.convert_to_tensor(maps[:, None]), 0.7)
    expected = explain.boxes.smallest_box(mask)[:, 0]
    np.testing.assert_array_equal(boxes, ops.convert_to_numpy(expected))
    looks = explain.look_twice(
        model, images, top=2, energy=0.95, square=False, **kwargs
    )
    own = explain.localize(model, images, looks["first_classes"], **kwargs)
    np.testing.assert_array_equal(looks["boxes"], own)
    scaled = explain.get_method("squared_gradient", scale=2.0)
    assert scaled.get_config() == {"scale": 2.0}
    np.testing.assert_array_equal(maps_of(model, scaled, images, TARGETS), 2 * maps)
