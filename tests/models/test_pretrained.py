import numpy as np
import pytest

import kfeedback
from kfeedback.models.backbones import LeNet
from kfeedback.weights.registry import ENTRIES
from tests import harness


def test_is_what_the_factory_makes_with_the_tag():
    tag = "lenet_mnist_bg_sample"
    images = np.random.default_rng(0).uniform(0, 1, (3, 28, 28, 1)).astype("float32")
    found = [
        m.predict(images, verbose=0)
        for m in (kfeedback.load_pretrained(tag), LeNet(weights=tag))
    ]
    harness.assert_bit_equal(*found, "posteriors")
    logits = kfeedback.load_pretrained(tag, classifier_activation=None)
    assert not np.allclose(logits.predict(images, verbose=0).sum(-1), 1)


@pytest.mark.parametrize(
    "tag",
    [tag for tag, one in ENTRIES.items() if "timesteps" in one.about["arguments"]],
)
def test_one_timestep_is_the_first_look(tag):
    """A network of one timestep has no feedback, whose weights stay in the file."""
    looks = kfeedback.load_pretrained(tag, return_sequences=True)
    shape = (2, *looks.input_shape[1:])
    images = np.random.default_rng(0).uniform(0, 1, shape).astype("float32")
    once = kfeedback.load_pretrained(tag, timesteps=1)
    once = harness.to_numpy(once(images, training=False))
    first = harness.to_numpy(looks(images, training=False))[:, 0]
    np.testing.assert_allclose(once.reshape(first.shape), first, atol=1e-6)


@pytest.mark.parametrize(
    "tag, arguments, start",
    [
        ("lenet", {}, "tag must be one of lenet_mnist_bg_sample"),
        (None, {}, "tag must be one of"),
        ("lenet_mnist_bg_sample", {"width": 2}, "origin must have arguments that"),
        ("lenet_mnist_bg_sample", {"weights": None}, "origin must have arguments"),
    ],
)
def test_refuses_in_one_sentence(tag, arguments, start):
    with pytest.raises(ValueError) as error:
        kfeedback.load_pretrained(tag, **arguments)
    harness.assert_one_sentence(error.value, start)
