"""Data for the programs: from a data set's name to preprocessed batches.

Under TensorFlow the batches come from `kfeedback.datasets.load`; under another
backend, where TensorFlow may be missing, from arrays in memory.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping

import keras
import numpy as np

from applications.common.settings import Settings, as_text, field
from kfeedback import checks, datasets, preprocessing
from kfeedback.datasets import arrays, augmentation

FITTED = {"standardize": "standardize.npz", "gcn_zca": "zca.npz"}
"""The modes that are fitted on training images, and where that is kept."""

_data = functools.partial(field, group="data")


@dataclasses.dataclass(frozen=True)
class Preprocessing(Settings):
    """Of programs that run a model."""

    preprocessing: str | None = _data(
        "scale",
        "A mode of kfeedback.preprocessing.preprocess_input; or, fitted on the "
        "training split, standardize: mean 0 and deviation 1 in every channel; "
        "gcn_zca: contrast normalization and ZCA whitening.",
        choices=(*preprocessing.PREPROCESSING_MODES, *FITTED),
    )

    def require_unfitted(self, reason):
        """Refuses a --preprocessing that is fitted on training images."""
        if self.preprocessing in FITTED:
            raise ValueError(
                "--preprocessing must be one that nothing is fitted for with "
                f"{reason}, got {self.preprocessing}."
            )


@dataclasses.dataclass(frozen=True)
class Dataset(Preprocessing):
    """Of programs that measure on the examples of a data set."""

    dataset: str | None = _data(
        "mnist_background_images_sample", "Any name that kfeedback.datasets.load takes."
    )
    data_dir: str | None = _data(None, "Folder of prepared TFDS data sets.")
    eval_split: str = _data("test", "The examples to measure errors on.")
    image_size: int | None = _data(
        None, "Resize images to so many pixels squared.", least=1
    )
    center_crop: float | None = _data(
        None,
        "Side of the central square that is resized to --image_size, as a share of "
        "the shorter side; for images that --random_crop does not crop.",
        above=0,
        most=1,
    )


@dataclasses.dataclass(frozen=True)
class Data(Dataset):
    """Of programs that run over images with labels."""

    manual_dir: str | None = _data(None, "Folder of a data set's original archive.")
    train_split: str = _data("train", "The examples to train on.")
    classes: tuple[str, ...] = _data(
        (),
        "Classes to keep, by name or else by number from 0; labels are counted in "
        "this order.",
    )
    batch_size: int = _data(128, "Images a step.", least=1)


@dataclasses.dataclass(frozen=True)
class TrainingData(Data):
    """Of programs that train on images."""

    flip: bool = _data(False, "Mirror half of the training images.")
    shift: int = _data(0, "Shift training images by up to so many pixels.", least=0)
    shift_fill: str = _data(
        "edge", "What enters then: the edge again, or black.", choices=arrays.FILLS
    )
    random_crop: tuple[float, ...] = _data(
        (),
        "Least and greatest share of a training image's area, such as 0.08,1: a "
        "window of random size, place and aspect is resized to --image_size.",
        above=0,
        most=1,
        different=False,
    )
    augment: Mapping = _data(
        dict,
        "More that is done to training images, a strength > 0 and ≤ 1 for each name "
        f"of {', '.join(augmentation.AUGMENTATIONS.entries())}: "
        '{"rand_augment": 0.5, "mixup": 0.2}.',
    )

    def check(self):
        """Refuses flags that contradict others or would have no effect."""
        super().check()
        augmentation.chosen(self.augment, "--augment")
        if len(self.random_crop) not in (0, 2) or (
            sorted(self.random_crop) != list(self.random_crop)
        ):
            raise ValueError(
                "--random_crop must be a least and a greatest share such as 0.08,1, "
                f"got {','.join(map(str, self.random_crop))!r}."
            )
        if not self.shift:
            self.refuse(("shift_fill",), "--shift=0")


def get_preprocess(mode, folder):
    """The function of a batch that a --preprocessing names.

    Args:
        mode: its value.
        folder: of the training run, which keeps what is fitted.
    """
    if mode not in FITTED:
        return lambda images: preprocessing.preprocess_input(images, mode)
    path = pathlib.Path(folder, FITTED[mode])
    if not path.is_file():
        raise ValueError(
            f"--preprocessing={mode} must find what training fitted, got no {path}."
        )
    if mode == "standardize":
        with checks.npz("--preprocessing=standardize", path) as file:
            mean, deviation = file["mean"], np.maximum(file["deviation"], 1e-6)
        return lambda images: (images - mean) / deviation
    whitening = preprocessing.ZCAWhitening.load(path)
    normalize = preprocessing.global_contrast_normalization
    return lambda images: whitening(normalize(images))


def fit_preprocess(settings, folder):
    """Fits --preprocessing on the training split, if it needs that."""
    mode = settings.preprocessing
    if mode in FITTED:
        images = get_arrays(settings, settings.train_split)[0]
        path = pathlib.Path(folder, FITTED[mode])
        draft = path.with_name(f".draft-{path.name}")
        if mode == "standardize":
            mean, deviation = channel_moments(images)
            np.savez(draft, mean=mean, deviation=deviation)
        else:
            images = preprocessing.global_contrast_normalization(images)
            preprocessing.ZCAWhitening().fit(images).save(draft)
        os.replace(draft, path)


def channel_moments(images):
    """Mean and standard deviation of every channel, float32 `(C,)`.

    Args:
        images: `(N, H, W, C)`. Sums are float64: in float32 they stop growing after
            some ten million pixels.
    """
    axes, count = (0, 1, 2), np.prod(images.shape[:3])
    step = max(1, 2**20 // images[0, ..., 0].size)
    chunks = [images[n : n + step] for n in range(0, len(images), step)]
    mean = sum(chunk.sum(axes, dtype=np.float64) for chunk in chunks) / count
    squares = (np.square(chunk - mean).sum(axes) for chunk in chunks)  # float64
    return np.float32(mean), np.float32(np.sqrt(sum(squares) / count))


def load(settings, split, preprocess=None, **arguments):
    """Batches of a split in its own order, and their `DatasetInfo`.

    Args:
        settings: `Data`.
        split: name of the split.
        preprocess: function of a batch.
        **arguments: of `datasets.load`, for training.
    """
    arguments |= {"batch_size": settings.batch_size, "preprocess": preprocess}
    if keras.backend.backend() == "tensorflow":
        return _load_batches(settings, split, **arguments)
    for flag in ("image_size", "center_crop", "random_crop", "augment", "manual_dir"):
        value = arguments.pop(flag, None) or getattr(settings, flag, None)
        if value and (flag != "manual_dir" or flag in settings.given):
            raise ValueError(
                f"--{flag} must be left out on another backend than tensorflow, got "
                f"{as_text(value)}."
            )
    images, labels, info = _load(datasets.load_arrays, settings, split)
    return datasets.ArrayDataset(images, labels, **arguments), info


def load_epochs(settings, preprocess):
    """A function of `(epoch, batch)` that gives the batches of --train_split.

    They are those of that epoch from that batch on; see `load_training`.

    Returns:
        that function and their `DatasetInfo`.
    """
    if keras.backend.backend() == "tensorflow":
        return load_training(settings, preprocess, by_epoch=True)
    batches, info = load_training(settings, preprocess)
    return batches.of_epoch, info


def load_training(settings, preprocess, **arguments):
    """Batches of --train_split, shuffled and augmented, and their `DatasetInfo`.

    Args:
        settings: `TrainingData` with a seed.
        preprocess: function of a batch.
        **arguments: of `datasets.load`.
    """
    return load(
        settings,
        settings.train_split,
        preprocess,
        shuffle=True,
        seed=settings.seed,
        flip=settings.flip,
        shift=settings.shift,
        shift_fill=settings.shift_fill,
        random_crop=settings.random_crop or None,
        augment=settings.augment,
        **arguments,
    )


def get_arrays(settings, split):
    """All images (float32, not preprocessed) and labels of a split, and its info."""
    if keras.backend.backend() == "tensorflow":
        batches, info = _load_batches(settings, split)
        images, labels = zip(*batches.as_numpy_iterator(), strict=True)
        return np.concatenate(images), np.concatenate(labels), info
    images, labels, info = _load(datasets.load_arrays, settings, split)
    return images.astype("float32"), labels, info


def first_images(batches, count):
    """The first images and labels of batches, as arrays."""
    images, labels = [], []
    for batch, batch_labels in batches:
        images.append(keras.ops.convert_to_numpy(batch))
        labels.append(keras.ops.convert_to_numpy(batch_labels))
        if sum(map(len, images)) >= count:
            break
    return np.concatenate(images)[:count], np.concatenate(labels)[:count]


def _load_batches(settings, split, **arguments):
    arguments |= {"manual_dir": settings.manual_dir, "image_size": settings.image_size}
    arguments["center_crop"] = settings.center_crop
    return _load(datasets.load, settings, split, **arguments)


def _load(load, settings, split, **arguments):
    """Calls a loader with --dataset; its errors name the flag."""
    try:
        return load(
            settings.dataset,
            split,
            data_dir=settings.data_dir,
            classes=list(settings.classes) or None,
            **arguments,
        )
    except ValueError as error:
        raise ValueError(f"--dataset={settings.dataset}: {error}") from error
