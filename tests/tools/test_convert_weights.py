"""Published tensors, converted, give the logits of the published equations in NumPy."""

import sys

import numpy as np
import pytest

from applications.common import command_line
from kfeedback import weights
from tests import harness
from tests.tools.sources import (
    TF_OPTIONS,
    assert_parity,
    cliquenet_tf,
    cliquenet_torch,
    convlstm,
    vgg,
)
from tools import convert_weights

# --- Tensors and outputs of the published equations in NumPy -------------------------


@pytest.mark.parametrize("option", TF_OPTIONS)
def test_cliquenet_tf(option):
    model, images, tensors, expected = cliquenet_tf(option)
    convert_weights.convert(model, tensors, "cliquenet_tf")
    assert_parity(model, images, expected)


@pytest.mark.parametrize("attention", [False, True])
def test_cliquenet_torch(attention):
    model, images, tensors, expected = cliquenet_torch(attention)
    convert_weights.convert(model, tensors, "cliquenet_torch")
    assert_parity(model, images, expected)


@pytest.mark.parametrize("timesteps", [1, 5])
def test_feedback_convlstm(timesteps):
    """Five passes are more than have statistics of their own."""
    model, images, tensors, expected = convlstm(timesteps)
    convert_weights.convert(model, tensors, "feedback_convlstm_torch")
    assert_parity(model, images, expected)


def test_vgg():
    model, images, tensors, expected = vgg()
    convert_weights.convert(model, tensors, "torchvision_vgg16")
    assert_parity(model, images, expected)


def test_counters_and_optimizer_slots_are_ignored():
    model, _, tensors, _ = vgg()
    tensors["features.0.num_batches_tracked"] = np.array(3)
    convert_weights.convert(model, tensors, "torchvision_vgg16")
    model, _, tensors, _ = cliquenet_tf()
    tensors |= {f"{name}/Momentum": value for name, value in tensors.items()}
    tensors["global_step"] = np.array(3)
    convert_weights.convert(model, tensors, "cliquenet_tf")


def test_names_of_parallel_modules():
    tensors = {"module.fc.weight": 1, "module.fc.bias": 2}
    assert convert_weights.without_module(tensors) == {"fc.weight": 1, "fc.bias": 2}
    mixed = {"module.fc.weight": 1, "fc.bias": 2}
    assert convert_weights.without_module(mixed) == mixed


# --- Files and the command -----------------------------------------------------------


def write_checkpoint(path, tensors):
    tf = pytest.importorskip("tensorflow")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {
            name: tf.compat.v1.Variable(value, name=name)
            for name, value in tensors.items()
        }
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(
            session, str(path), write_meta_graph=False
        )


def command(*arguments):
    settings = command_line.parse(convert_weights.Settings, arguments)
    convert_weights.main(settings)


def test_a_checkpoint_by_command(tmp_path, capsys):
    model, images, tensors, expected = cliquenet_tf()
    slots = {f"{name}/Momentum": value for name, value in tensors.items()}
    write_checkpoint(tmp_path / "epoch_300.ckpt", {**tensors, **slots})
    command(
        f"--source={tmp_path / 'epoch_300.ckpt'}",
        "--format=cliquenet_tf",
        f"--output={tmp_path / 'out.h5'}",
        '--kwargs={"filters": [4, 3], "layers": [3, 4], "classes": 5, '
        '"input_shape": [8, 8, 3]}',
    )
    assert "out.h5" in capsys.readouterr().out
    weights.load(model, tmp_path / "out.h5")
    assert_parity(model, images, expected)


@pytest.mark.parametrize("content", [b"", b"<html>no</html>", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint(tmp_path, content):
    pytest.importorskip("tensorflow")
    for name in ("a.ckpt", "b.ckpt.index"):
        (tmp_path / name).write_bytes(content)
    for source in ("a.ckpt", "b.ckpt", "nowhere.ckpt"):
        with pytest.raises(ValueError) as caught:
            convert_weights.read(tmp_path / source, "cliquenet_tf")
        harness.assert_one_sentence(caught.value, "--source")


def test_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"--format=cliquenet_torch needs PyTorch"):
        convert_weights.read(tmp_path / "a.pth", "cliquenet_torch")


@pytest.mark.parametrize(
    "arguments, argument",
    [
        ([], "--source"),
        (["--source=a", "--format=cliquenet_tf"], "--output"),
        (["--kwargs=[]"], "--kwargs"),
        (["--kwargs={"], "--kwargs"),
        (['--kwargs={"weights": null}'], "--kwargs"),
        (["--model=nothing"], "--model"),
        (["--source=nowhere"], "--source"),
    ],
)
def test_bad_flags(arguments, argument):
    given = ["--source=a", "--format=cliquenet_tf", "--output=b"]
    given = [*given, *arguments] if argument not in ("--output",) else arguments
    with pytest.raises(ValueError) as caught:
        command(*(given if arguments else []))
    harness.assert_one_sentence(caught.value, argument)
