import numpy as np
import pytest

import kfeedback
from applications.common import command_line
from applications.train.network import build
from applications.train.settings import Settings
from kfeedback import datasets
from tests import harness


def build_from(init, *flags):
    *_, info = datasets.load_arrays("mnist_background_images_sample", "test[:1]")
    flags = ["--model=lrnet", "--backbone=lenet", f"--init_from={init}", *flags]
    return build(command_line.parse(Settings, [*flags, "--output_dir=any"]), info)


def test_training_starts_from_a_tag():
    """With feedback of zero every look is that of the published network."""
    tag = "lenet_mnist_bg_sample"
    images = np.random.default_rng(0).uniform(0, 1, (3, 28, 28, 1)).astype("float32")
    looks = build_from(tag).predict(images, verbose=0)
    once = kfeedback.load_pretrained(tag).predict(images, verbose=0)
    for look in looks.swapaxes(0, 1):
        harness.assert_bit_equal(look, once, "posteriors")


def test_what_is_neither_file_nor_tag_is_refused():
    with pytest.raises(ValueError) as error:
        build_from("lenet_mnist")
    start = (
        "--init_from=lenet_mnist: weights must be None, the path of a weights file or"
    )
    harness.assert_one_sentence(error.value, start)


def test_weights_of_feedback_have_a_start_already():
    with pytest.raises(ValueError) as error:
        build_from("lr_lenet_mnist_bg_sample", "--feedback_init=0.1")
    start = "--feedback_init must be left out with --init_from=lr_lenet_mnist_bg_sample"
    harness.assert_one_sentence(error.value, start)
    build_from("lenet_mnist_bg_sample", "--feedback_init=0.1")


def test_weights_with_feedback_go_on_and_those_of_another_network_are_named():
    tag = "lr_lenet_mnist_bg_sample"
    images = np.random.default_rng(0).uniform(0, 1, (3, 28, 28, 1)).astype("float32")
    looks = build_from(tag).predict(images, verbose=0)
    last = kfeedback.load_pretrained(tag).predict(images, verbose=0)
    harness.assert_bit_equal(looks[:, -1], last, "posteriors")
    with pytest.raises(ValueError, match=r"^--init_from must suit the network: "):
        build_from("lr_lnin_2_cifar10")
