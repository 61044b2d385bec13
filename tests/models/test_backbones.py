import keras
import numpy as np
import pytest

import kfeedback
from kfeedback.models.backbones import (
    LNIN,
    NIN,
    RCNN128,
    VGG16,
    AlexNet,
    GoogLeNet,
    LeNet,
    VGGAttention,
    VGGSmall,
)
from tests import harness
from tests.harness import tensorflow_only

FACTORIES = {
    "lenet": LeNet,
    "nin": NIN,
    "lnin": LNIN,
    "rcnn128": RCNN128,
    "vgg_small": VGGSmall,
    "vgg_attention": VGGAttention,
    "alexnet": AlexNet,
    "googlenet": GoogLeNet,
}
THIN = {
    "lenet": {"input_shape": (16, 16, 1)},
    "nin": {"width": 1 / 16, "input_shape": (8, 8, 3)},
    "lnin": {"input_shape": (8, 8, 3)},
    "rcnn128": {"input_shape": (8, 8, 3), "filters": 8},
    "vgg_small": {"width": 1 / 16},
    "vgg_attention": {"width": 1 / 16},
    "alexnet": {"width": 1 / 16, "input_shape": (39, 39, 3)},
    "googlenet": {"width": 1 / 16, "input_shape": (32, 32, 3)},
}
# Each GoogLeNet takes a second to build, and more to call.
QUICK_FIRST = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "googlenet" else [])
    for name in FACTORIES
]


@tensorflow_only
@pytest.mark.parametrize(
    "factory, classes, parameters",
    [
        (LeNet, 10, 431_080),
        (NIN, 10, 966_986),
        (NIN, 100, 984_356),
        (LNIN, 10, 966_986),
        (LNIN, 100, 984_356),
        (RCNN128, 10, 1_191_178),
        pytest.param(AlexNet, 1000, 60_965_224, marks=pytest.mark.slow),  # 61 million
        (GoogLeNet, 1000, 6_998_552),
    ],
)
def test_parameters(factory, classes, parameters):
    assert factory(classes=classes).count_params() == parameters


@tensorflow_only
def test_vgg_small_has_the_convolutions_of_vgg16():
    shapes = [
        tuple(w.shape) for w in VGGSmall(batch_norm=False).weights if len(w.shape) == 4
    ]
    assert len(shapes) == 13
    assert sum(np.prod(s) + s[-1] for s in shapes) == 14_714_688


@tensorflow_only
@pytest.mark.parametrize("name", QUICK_FIRST)
def test_shapes(name):
    make, small = FACTORIES[name], THIN[name]
    model = make(**small, classes=7)
    shape = model.input.shape[1:]
    images = harness.random_images(shape, 2)
    result = harness.to_numpy(harness.randomize(model)(images))
    assert model.output.shape == (None, 7)
    assert result.shape == (2, 7)
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-5)

    maps = make(False, **small)
    assert len(maps.output.shape) == 4
    for pooling in ("avg", "max"):
        pooled = make(False, pooling=pooling, **small)
        assert pooled.output.shape == (None, maps.output.shape[-1])

    tensor = keras.Input(shape)
    arguments = {k: v for k, v in small.items() if k != "input_shape"}
    assert make(input_tensor=tensor, **arguments).input is tensor


@tensorflow_only
@pytest.mark.parametrize("name", QUICK_FIRST)
def test_logits(name):
    make, small = FACTORIES[name], THIN[name]
    images = harness.random_images(make(**small).input.shape[1:], 2)
    results = []
    for activation in ("softmax", None):
        harness.fresh_names()
        model = make(classifier_activation=activation, **small)
        results.append(harness.randomize(model)(images))
    np.testing.assert_allclose(
        harness.to_numpy(results[0]),
        harness.to_numpy(keras.ops.softmax(results[1])),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("make", [NIN, LNIN])
def test_a_sigmoid_can_say_no(make):
    model = make(width=1 / 16, input_shape=(8, 8, 3), classifier_activation="sigmoid")
    found = harness.to_numpy(harness.randomize(model)(harness.random_images((8, 8, 3))))
    assert found.min() < 0.45 and found.max() > 0.55


@tensorflow_only
def test_vgg16_ends_in_float32_and_has_its_size_without_a_top():
    harness.fresh_names("mixed_float16")
    model = VGG16(input_shape=(32, 32, 3), classes=3)
    assert model.get_layer("fc2").compute_dtype == "float16"
    assert model.output.dtype == "float32"
    assert model.layers[-1].name == "predictions"
    assert VGG16(include_top=False).input_shape == (None, 224, 224, 3)
    pair = keras.Input((32, 16, 3)), keras.Input((32, 16, 3))
    both = keras.layers.Concatenate(axis=2)(pair)
    assert len(VGG16(input_tensor=both, classes=3).inputs) == 2


def test_a_weights_file_gives_the_same_model(tmp_path):
    path = tmp_path / "lenet.h5"
    model = harness.randomize(LeNet(input_shape=(16, 16, 1)))
    kfeedback.weights.save(model, path)
    again = LeNet(input_shape=(16, 16, 1), weights=path)
    images = harness.random_images((16, 16, 1))
    harness.assert_bit_equal(
        harness.to_numpy(again(images)), harness.to_numpy(model(images)), "reloaded"
    )


BAD = [
    ({"include_top": "no"}, TypeError, "include_top"),
    ({"include_top": 1}, TypeError, "include_top"),
    ({"include_top": False, "pooling": "mean"}, ValueError, "pooling"),
    ({"pooling": "mean"}, ValueError, "pooling"),
    ({"pooling": "avg"}, ValueError, "pooling"),
    ({"weights": "imagenet"}, ValueError, "weights"),
    ({"weights": "nowhere.h5"}, ValueError, "weights"),
    ({"weights": 3}, ValueError, "weights"),
    ({"classes": 0}, ValueError, "classes"),
    ({"classes": -1}, ValueError, "classes"),
    ({"classes": True}, ValueError, "classes"),
    ({"classes": 1.5}, ValueError, "classes"),
    ({"classifier_activation": "best"}, ValueError, "classifier_activation"),
    ({"classifier_activation": 3}, ValueError, "classifier_activation"),
    ({"input_shape": (32, 32)}, ValueError, "input_shape"),
    ({"input_shape": (32, 32, 0)}, ValueError, "input_shape"),
    ({"input_shape": (32, 32, None)}, ValueError, "input_shape"),
    ({"input_shape": (4, 32, 1)}, ValueError, "input_shape"),
    ({"input_shape": (32, -32, 1)}, ValueError, "input_shape"),
    ({"input_shape": 32}, ValueError, "input_shape"),
    ({"input_shape": "32"}, ValueError, "input_shape"),
    ({"input_tensor": np.zeros((1, 32, 32, 1))}, TypeError, "input_tensor"),
]


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("arguments, error, argument", BAD, ids=str)
def test_refuses(name, arguments, error, argument):
    with pytest.raises((ValueError, TypeError)) as caught:
        FACTORIES[name](**arguments)
    assert type(caught.value) is error
    harness.assert_one_sentence(caught.value, argument)


@pytest.mark.parametrize(
    "factory, arguments",
    [
        (LeNet, {"dropout": 1}),
        (LeNet, {"dropout": -0.1}),
        (LeNet, {"dropout": "0.5"}),
        (LeNet, {"dropout": float("nan")}),
        (NIN, {"dropout": 1.0}),
        (NIN, {"negative_slope": -1}),
        (RCNN128, {"filters": 0}),
        (RCNN128, {"iterations": -1}),
        (NIN, {"width": 0}),
        (VGGSmall, {"width": 0}),
        (VGGSmall, {"width": "1"}),
        (VGGSmall, {"width": float("nan")}),
        (VGGSmall, {"width": float("inf")}),
        (AlexNet, {"width": 0}),
        (AlexNet, {"dropout": 1}),
        (AlexNet, {"input_shape": (38, 39, 3)}),
        (GoogLeNet, {"width": "1"}),
        (GoogLeNet, {"dropout": -0.1}),
        (GoogLeNet, {"input_shape": (32, 31, 3)}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_refuses_its_own_arguments(factory, arguments):
    with pytest.raises(ValueError) as caught:
        factory(**arguments)
    harness.assert_one_sentence(caught.value, next(iter(arguments)))


def test_refuses_what_is_no_bool():
    with pytest.raises(TypeError, match=r"^batch_norm must"):
        VGGSmall(batch_norm="yes")
    with pytest.raises(TypeError, match=r"^pool_first must"):
        AlexNet(pool_first=1)


def test_input_shape_and_input_tensor_must_agree():
    tensor = keras.Input((28, 28, 1))
    for shape in ((28, 28, 3), 28, "28"):
        with pytest.raises(ValueError) as caught:
            LeNet(input_tensor=tensor, input_shape=shape)
        harness.assert_one_sentence(caught.value, "input_shape")
    assert LeNet(input_tensor=tensor, input_shape=[28, 28, 1]).input is tensor
    with pytest.raises(ValueError) as caught:
        LeNet(input_tensor=keras.Input((28, 28)))
    harness.assert_one_sentence(caught.value, "input_tensor")
