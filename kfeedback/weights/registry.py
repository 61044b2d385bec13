"""The table of published weights: what each is, and how to tell that it is that."""

import dataclasses
import os
import pathlib

from kfeedback.weights import download

_FILES = pathlib.Path(__file__).parent / "published"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of weights.

    Attributes:
        tag: what `weights=` takes.
        sha256: of the whole file, in lower case.
        size: of the file in bytes.
        file: its name in `kfeedback/weights/published`, where it comes with the
            package; or
        url: where it is, https only.
        about: its attributes, see `kfeedback.weights.ABOUT`; those of the file itself.
    """

    tag: str
    sha256: str
    size: int
    about: dict
    file: str | None = None
    url: str | None = None

    def __post_init__(self):
        if (self.file is None) == (self.url is None):
            raise ValueError(
                f"file or url must be given, one of them, got {self.file!r} and "
                f"{self.url!r}."
            )


_LENET = Entry(
    tag="lenet_mnist_bg_sample",
    file="lenet_mnist_bg_sample.h5",
    sha256="c981bf7fe0641ac26e1a983107882051c4bc2b1a0453bbceb4692f8b591be2f8",
    size=833_213,
    about={
        "factory": "LeNet",
        "arguments": {
            "include_top": True,
            "input_shape": None,
            "pooling": None,
            "classes": 10,
            "classifier_activation": "softmax",
            "dropout": 0.5,
        },
        "preprocessing": "scale",
        "classes": 10,
        "class_names": [str(digit) for digit in range(10)],
        "paper": "LeCun et al., Gradient-based learning applied to document "
        "recognition, 1998; Li et al., Learning with Rethinking, 2017, table 5",
        "dataset": "mnist_background_images_sample, train: 6,000 images",
        "license": "Apache-2.0; the data: MNIST under CC BY-SA 3.0, photographs as in "
        "kfeedback/datasets/sample/README.md",
        "command": "python -m applications.train --config=lenet_mnist_bg "
        "--dataset=mnist_background_images_sample --epochs=64 --validation_freq=0 "
        "--output_dir=runs/lenet",
        "commit": "d8a8ebe",
        "score": "5.17 % error on the 1,200 images of the test split, as stored in "
        "float16",
        "source": "trained for kfeedback, seed 0, float32, on two CPU cores, rounded "
        "to float16",
    },
)

ENTRIES = {entry.tag: entry for entry in (_LENET,)}


def check_tag(weights):
    """Raises a ValueError unless `weights` is a tag or the path of a file."""
    if isinstance(weights, str) and weights in ENTRIES:
        return
    is_path = isinstance(weights, str | os.PathLike) and weights
    if not is_path or not os.path.isfile(weights):  # `False` for any name at all
        raise ValueError(
            "weights must be None, the path of a weights file or one of the tags "
            f"{', '.join(ENTRIES)}, got {weights!r}, which is none."
        )


def locate(weights):
    """The path of the file that a tag or a path means, fetched if it must be."""
    check_tag(weights)
    entry = ENTRIES.get(weights) if isinstance(weights, str) else None
    if entry is None:
        return pathlib.Path(weights).expanduser()
    if entry.url is not None:
        return download.fetch(entry)
    path = _FILES / entry.file
    if not download.is_entry(path, entry):
        raise ValueError(
            f"weights '{entry.tag}' must come with the package unchanged, got {path} "
            "with another SHA-256 or none."
        )
    return path


def list_weights():
    """The tags of all published weights, for the argument `weights` of a factory."""
    return list(ENTRIES)
