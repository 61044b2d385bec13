"""Sides of images, batches and numbers of layers; the order of axes."""

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback.models import backbones
from tests import harness
from tests.other_peoples_models.common import one_sentence


def test_early_exit_of_a_fixed_batch_size():
    image = keras.Input(batch_shape=(4, 28, 28, 1))
    backbone = backbones.LeNet(input_tensor=image)
    net = kfeedback.LRNet(backbone, timesteps=3, return_sequences=True)
    free = kfeedback.LRNet("lenet", timesteps=3, return_sequences=True)
    harness.randomize(net)
    free.set_weights(net.get_weights())
    images = np.random.default_rng(3).uniform(0, 1, (7, 28, 28, 1)).astype("float32")
    threshold = float(np.median(harness.to_numpy(free(images))[:, 0].max(axis=-1)))
    found = kfeedback.early_exit(net, threshold).predict(images)
    expected = kfeedback.early_exit(free, threshold).predict(images)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])
    assert len(set(found[1])) > 1


FACTORIES = {
    "lenet": lambda: backbones.LeNet(),
    "vgg16": lambda: backbones.VGG16(),
    "lrnet": lambda: kfeedback.LRNet("nin"),
    "crcn": lambda: kfeedback.CRCN("vgg_small"),
    "clique": lambda: kfeedback.CliqueNet(),
    "s0": lambda: kfeedback.CliqueNetS0(),
    "convlstm": lambda: kfeedback.FeedbackConvLSTMNet(),
    "feedback": lambda: kfeedback.FeedbackCNN("vgg_small"),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_channels_first_is_one_sentence(name):
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="must be 'channels_last'") as error:
            FACTORIES[name]()
    finally:
        keras.config.set_image_data_format("channels_last")
    one_sentence(error)


@pytest.mark.parametrize("name", ["lenet", "vgg_small", "vgg_attention", "vgg16"])
def test_a_dense_head_needs_known_sides(name):
    with pytest.raises(ValueError, match="input_shape must have a known") as error:
        kfeedback.LRNet(name, input_shape=(None, None, 3))
    one_sentence(error)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_integers_of_numpy_are_sides(kind):
    shape = tuple(kind(n) for n in (32, 32, 3))
    model = kfeedback.LRNet("vgg_small", input_shape=shape)
    assert model.input_shape == (None, 32, 32, 3)
    assert all(type(n) is int for n in model.input_shape[1:])
    assert backbones.VGG16(input_shape=shape, classes=2).input_shape[1:] == (32, 32, 3)
    for bad in (np.float32(32), True, "32"):
        with pytest.raises(ValueError, match="input_shape must be"):
            backbones.LeNet(input_shape=(bad, 32, 3))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"layers": 6, "bottleneck": True}, "at least 12, .*got 6"),
        ({"layers": 3}, "at least 6, .*got 3"),
    ],
)
def test_errors_speak_of_numbers_that_were_given(arguments, says):
    with pytest.raises(ValueError, match=says) as error:
        kfeedback.CliqueNet(**arguments)
    one_sentence(error)
    assert kfeedback.CliqueNet(**arguments, stages=1, filters=2)
