"""The table of published weights: what each is, and how to tell that it is that."""

import dataclasses
import json
import os
import pathlib

from kfeedback.weights import download

_FILES = pathlib.Path(__file__).parent / "published"
INDEX = "index.json"
"""The table itself, beside the files; `tools.publish_weights` writes it."""


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
        outputs: what the network said, when it was published, of the first images of
            the sample that comes with the package, posteriors `(images, classes)`;
            `None` if that was not noted.
        about: its attributes, see `kfeedback.weights.ABOUT`; those of the file itself.
    """

    tag: str
    sha256: str
    size: int
    about: dict
    file: str | None = None
    url: str | None = None
    outputs: list | None = None

    def __post_init__(self):
        if (self.file is None) == (self.url is None):
            raise ValueError(
                f"file or url must be given, one of them, got {self.file!r} and "
                f"{self.url!r}."
            )


def read_index(path):
    """The rows of an index that `tools.publish_weights` wrote, a list of dicts."""
    return json.loads(path.read_text(encoding="utf-8"))


ENTRIES = {row["tag"]: Entry(**row) for row in read_index(_FILES / INDEX)}


def check_tag(weights):
    """Raises a ValueError unless `weights` is a tag or the path of a file."""
    if isinstance(weights, str) and weights in ENTRIES:
        return
    is_path = isinstance(weights, str | os.PathLike) and weights
    # `False` for any name at all
    if not is_path or not os.path.isfile(os.path.expanduser(weights)):
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
    """The tags of all published weights, for the argument `weights` of a factory.

    Example:
        >>> "lr_lenet_mnist_bg_sample" in kfeedback.list_weights()
        True
    """
    return list(ENTRIES)
