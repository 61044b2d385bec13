"""Converts published weights to a file of `kfeedback.weights`.

    python -m tools.convert_weights --source=cifar-10_epoch_300.ckpt \
        --format=cliquenet_tf --kwargs='{"filters": 36, "layers": 12}' --output=out.h5
    python -m tools.convert_weights --source=cliquenet_s1.pth.tar \
        --format=cliquenet_torch --model=kfeedback.CliqueNetS1 --output=out.h5

Every tensor of the source must be used once and every variable of the model filled
once, or the two lists are an error; only optimizer slots and step counters are left
out. The outputs of the network in inference are then those of the published one on the
same numbers: images are preprocessed as the authors did it.

Formats, and whose code names the tensors:

- `cliquenet_tf`: a checkpoint of CliqueNet for CIFAR and SVHN (iboing/CliqueNet,
  models/), named without `.index`; II+II, I+I and X.
- `cliquenet_torch`: CliqueNet for ImageNet (iboing/CliqueNet, imagenet_pytorch/), with
  or without attention.
- `feedback_convlstm_torch`: the network of 12 cells with two dense layers
  (maxspero/feedback-networks-pytorch, modules/feedback48_3.py).
- `torchvision_vgg16`: torchvision's `vgg16`, for `keras.applications.VGG16`.

PyTorch is needed to read its files, and for nothing else. No file is trusted: those of
TensorFlow hold no code, those of PyTorch are read with `weights_only=True`.
"""

import json
import os
import pathlib
import pickle

from absl import flags

from applications import _app
from kfeedback import weights
from tools import _convert_cliquenet, _converters
from tools._costs import find_factory

# What a format is read by, its entries, and the model that it is usually for.
FORMATS = {
    "cliquenet_tf": ("tf", _convert_cliquenet.cliquenet_tf, "kfeedback.CliqueNet"),
    "cliquenet_torch": (
        "torch",
        _convert_cliquenet.cliquenet_torch,
        "kfeedback.CliqueNetS0",
    ),
    "feedback_convlstm_torch": (
        "torch",
        _converters.feedback_convlstm_torch,
        "kfeedback.FeedbackConvLSTMNet",
    ),
    "torchvision_vgg16": (
        "torch",
        _converters.torchvision_vgg16,
        "keras.applications.VGG16",
    ),
}


def convert(model, tensors, source_format):
    """Fills a model with published tensors.

    Args:
        model: a `keras.Model` of the architecture of the source.
        tensors: dict from the source's names to arrays.
        source_format: a key of `FORMATS`.

    Raises:
        ValueError: if the two do not fit; the model is then left as it was.
    """
    entries, tensors = FORMATS[source_format][1](model, tensors)
    _converters.assign(model, tensors, entries)


def read(path, source_format):
    """Dict from the names in a published file to arrays.

    Raises:
        ImportError: if the format needs PyTorch and it is not installed.
        ValueError: if there is no such file or it cannot be read.
    """
    reader = {"tf": _read_tf, "torch": _read_torch}[FORMATS[source_format][0]]
    return reader(os.fspath(path), source_format)


def _read_tf(path, source_format):
    import tensorflow as tf

    if not any(pathlib.Path(path + end).is_file() for end in (".index", "")):
        raise ValueError(
            f"--source must be a checkpoint, named without .index, got {path!r}."
        )
    try:
        checkpoint = tf.train.load_checkpoint(path)
        names = checkpoint.get_variable_to_shape_map()
        return {name: checkpoint.get_tensor(name) for name in names}
    except (tf.errors.OpError, RuntimeError, ValueError, UnicodeDecodeError) as error:
        reason = str(error).split(". ")[0].split("\n")[0].rstrip(".")
        raise ValueError(
            f"--source must be a file of {source_format}, got {path!r}: {reason}."
        ) from error


def _read_torch(path, source_format):
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"--format={source_format} needs PyTorch to read its files, which `pip "
            "install torch` installs."
        ) from error
    if not pathlib.Path(path).is_file():
        raise ValueError(f"--source must be a file, got {path!r}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        EOFError,
        OSError,
    ) as error:
        # The reason that torch gives goes on to recommend running the file's code.
        raise ValueError(
            "--source must be a file of tensors that torch.load reads with "
            f"weights_only=True, got {path!r}."
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise ValueError(f"--source must hold a dict of tensors, got {path!r}.")
    return without_module(
        {
            name: (value.float() if value.is_floating_point() else value).numpy()
            for name, value in state.items()
        }
    )


def without_module(tensors):
    """Names without the `module.` that DataParallel puts before each of them."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): v for name, v in tensors.items()}
    return tensors


def define_flags(values, formats):
    """Defines the flags in `values`, so that importing this module defines none."""
    define = {"flag_values": values}
    flags.DEFINE_string("source", None, "The published file.", **define)
    flags.DEFINE_enum("format", None, [*formats], "What it is.", **define)
    flags.DEFINE_string("output", None, "The file to write.", **define)
    flags.DEFINE_string("kwargs", "{}", "The model's arguments, as JSON.", **define)


def define_model_flag(values):
    """Defines `--model`, of the formats that several factories have."""
    flags.DEFINE_string(
        "model",
        None,
        "Dotted name of the factory, if not the usual one.",
        flag_values=values,
    )


def model_kwargs(values):
    """Checks that the flags are given; returns the arguments of the model."""
    for name in ("source", "format", "output"):
        if getattr(values, name) is None:
            raise ValueError(f"--{name} must be given, got None.")
    try:
        kwargs = json.loads(values.kwargs)
    except json.JSONDecodeError:
        kwargs = None
    if not isinstance(kwargs, dict) or "weights" in kwargs:
        raise ValueError(
            f"--kwargs must be a JSON object without weights, got {values.kwargs!r}."
        )
    return kwargs


def main(values):
    """Converts what the parsed flags say and writes the file."""
    kwargs = model_kwargs(values)
    factory, _ = find_factory(values.model or FORMATS[values.format][2])
    tensors = read(values.source, values.format)
    model = factory(weights=None, **kwargs)
    convert(model, tensors, values.format)
    weights.save(model, values.output)
    print(f"{values.output}: {len(model.weights)} variables of {len(tensors)} tensors")


if __name__ == "__main__":
    define_flags(flags.FLAGS, FORMATS)
    define_model_flag(flags.FLAGS)
    _app.launch(lambda: main(flags.FLAGS))
