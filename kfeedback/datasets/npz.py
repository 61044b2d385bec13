"""Reading a split from an `.npz` file, in the layouts that `load_arrays` describes."""

import itertools

import numpy as np

from kfeedback import checks
from kfeedback import images as pixels
from kfeedback.datasets.arguments import split_bounds


def read(path, split):
    """The images and labels of a split.

    Args:
        path: `pathlib.Path` of a file.
        split: as in `load_arrays`.

    Returns:
        `(images, labels, classes)`: uint8 `(N, H, W, C)`; int32 `(N,)` or
        `(N, classes)`; and the number of classes in all splits.

    Raises:
        ValueError: if the file is missing or damaged, holds other arrays, or the split
            is none of its.
        ImportError: if there are JPEG files to decode and Pillow is missing.
    """
    if not path.is_file():
        raise ValueError(f"name must be the path of a file, got {path}.")
    with checks.npz("name", path) as file:
        keys = file.files
        labels = {
            key.removeprefix("y_").removesuffix("_labels"): file[key]
            for key in keys
            if key.startswith("y_") or key.endswith("_labels")
        }
    if not labels:
        raise ValueError(
            "name must be a file with the arrays x_<split> and y_<split>, or "
            f"<split>_jpeg, <split>_ends and <split>_labels, got {path} with "
            f"{', '.join(keys) or 'none'}."
        )
    labels = {k: _check_labels(path, k, v) for k, v in labels.items()}
    name, start, stop = split_bounds(split, {k: len(v) for k, v in labels.items()})
    kinds = [f"x_{name}"], [f"{name}_jpeg", f"{name}_ends"]
    wanted = next((kind for kind in kinds if set(kind) <= set(keys)), None)
    if wanted is None:
        raise ValueError(f"The file {path} holds no images of the split {name!r}.")
    with checks.npz("name", path) as file:
        images, *ends = [file[key] for key in wanted]
    count = len(*ends or [images])
    if ends:
        images = _decode(path, name, images, *ends, start, stop)
    else:
        images = images[start:stop]
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if count != len(labels[name]) or images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(
            f"The images of the split {name!r} in {path} must be uint8 of shape (N, H, "
            f"W) or (N, H, W, C), one per label, got {images.dtype} {images.shape}."
        )
    widths = {v.shape[1:] for v in labels.values()}
    if len(widths) > 1:
        raise ValueError(
            f"The labels in {path} must be of one kind in every split, got shapes "
            f"{', '.join(str(v.shape) for v in labels.values())}."
        )
    (width,) = widths
    classes = (
        width[0] if width else 1 + max(int(v.max(initial=0)) for v in labels.values())
    )
    return images, labels[name][start:stop], classes


def _check_labels(path, name, labels):
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    several = labels.ndim == 2 and labels.shape[1] > 1
    if (
        (labels.ndim != 1 and not several)
        or labels.dtype.kind not in ("iub" if several else "iu")
        or labels.min(initial=0) < 0
        or (several and labels.max(initial=0) > 1)
    ):
        raise ValueError(
            f"The labels of the split {name!r} in {path} must be whole numbers of "
            "shape (N,) from 0 on, or zeros and ones of shape (N, classes), got "
            f"{labels.dtype} {labels.shape}."
        )
    return labels.astype(np.int32)


def _decode(path, name, data, ends, start, stop):
    if ends[-1:] != len(data):
        raise ValueError(
            f"The array {name}_ends in {path} must end with the length of "
            f"{name}_jpeg, {len(data)}, got {ends[-1:]}."
        )
    ends = np.append(0, ends.astype(np.int64))[start : stop + 1]
    found = [
        pixels.decode(
            data[first:last].tobytes(),
            channels=None,
            name=f"number {start + k} of {name}_jpeg in {path}",
        )
        for k, (first, last) in enumerate(itertools.pairwise(ends))
    ]
    shapes = {one.shape for one in found}
    if len(shapes) > 1:
        raise ValueError(
            f"The images of the split {name!r} in {path} must be of one size, got "
            f"{', '.join(map(str, sorted(shapes)))}."
        )
    return np.stack(found)
