import contextlib

import keras
import numpy as np
import pytest

import kfeedback
from applications.common import command_line
from applications.common.optimization import precision_policy
from applications.train.network import build
from applications.train.settings import Settings
from kfeedback import datasets
from tests import harness


@contextlib.contextmanager
def policy(mixed_precision):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision_policy(mixed_precision))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_from(init, *flags):
    *_, info = datasets.load_arrays("mnist_background_images_sample", "test[:1]")
    flags = ["--model=lrnet", f"--init_from={init}", *flags]
    if not str(init).endswith(".keras"):
        flags.append("--backbone=lenet")
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


@pytest.mark.parametrize("saved, wanted", [("none", "bfloat16"), ("bfloat16", "none")])
def test_a_saved_model_keeps_its_precision(saved, wanted, tmp_path):
    """Keras gives each layer the policy that it was saved with, not that of today."""
    path = tmp_path / "mine.keras"
    with policy(saved):
        kfeedback.load_pretrained("lenet_mnist_bg_sample").save(path)
        build_from(path, f"--mixed_precision={saved}")
    with policy(wanted), pytest.raises(ValueError) as error:
        build_from(path, f"--mixed_precision={wanted}")
    start = "--init_from must hold a network that computes in"
    harness.assert_one_sentence(error.value, start)
