r"""Converts published weights to a file of `kfeedback.weights`.

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
- `torchvision_vgg16`: torchvision's `vgg16`, for `VGG16`.

Names were read in the authors' code; no published file was at hand. PyTorch is needed
to read its files, and for nothing else. No file is trusted: those of TensorFlow hold no
code, those of PyTorch are read with `weights_only=True`.
"""

import dataclasses
import os
import pathlib
import pickle

from applications.common.command_line import launch
from applications.common.settings import changed, field
from kfeedback import weights
from tools.converters import cliquenet, feedback_convlstm, vgg16
from tools.converters.command import Conversion
from tools.converters.entries import assign
from tools.factories import find_factory

# What a format is read by, its entries, and the model that it is usually for.
FORMATS = {
    "cliquenet_tf": ("tf", cliquenet.cliquenet_tf, "cliquenet"),
    "cliquenet_torch": ("torch", cliquenet.cliquenet_torch, "cliquenet_s0"),
    "feedback_convlstm_torch": (
        "torch",
        feedback_convlstm.feedback_convlstm_torch,
        "feedback_convlstm",
    ),
    "torchvision_vgg16": ("torch", vgg16.torchvision_vgg16, "vgg16"),
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
    assign(model, tensors, entries)


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


@dataclasses.dataclass(frozen=True)
class Settings(Conversion):
    """The flags of tools.convert_weights."""

    format: str | None = changed(Conversion, "format", None, choices=tuple(FORMATS))
    model: str | None = field(
        None, "The family, or the dotted name of the factory, if not the usual one."
    )


def main(settings):
    """Converts and writes the file."""
    factory, _ = find_factory(settings.model or FORMATS[settings.format][2])
    tensors = read(settings.source, settings.format)
    model = factory(weights=None, **settings.kwargs)
    convert(model, tensors, settings.format)
    weights.save(model, settings.output)
    print(
        f"{settings.output}: {len(model.weights)} variables of {len(tensors)} tensors"
    )


if __name__ == "__main__":
    launch(main, Settings)
