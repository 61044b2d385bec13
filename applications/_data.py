"""Data for the applications: from a data set's name to preprocessed batches.

Under TensorFlow the batches come from `kfeedback.datasets.load`; under another
backend, where TensorFlow may be missing, from arrays in memory.
"""

import pathlib

import keras
import numpy as np
from absl import flags

from kfeedback import datasets, preprocessing

flags.DEFINE_string(
    "dataset",
    "mnist_background_images_sample",
    "Any name that kfeedback.datasets.load takes.",
)
flags.DEFINE_string("data_dir", None, "Folder of prepared TFDS data sets.")
flags.DEFINE_string("manual_dir", None, "Folder of a data set's original archive.")
flags.DEFINE_string("train_split", "train", "The examples to train on.")
flags.DEFINE_string("eval_split", "test", "The examples to measure errors on.")
flags.DEFINE_list(
    "classes",
    [],
    "Classes to keep, by name, else by number from 0, in the order of the labels.",
)
flags.DEFINE_integer("batch_size", 128, "Images a step.", lower_bound=1)
flags.DEFINE_bool("flip", False, "Mirror half of the training images.")
flags.DEFINE_integer(
    "shift", 0, "Shift training images by up to so many pixels.", lower_bound=0
)
flags.DEFINE_enum(
    "preprocessing",
    "scale",
    [*preprocessing.PREPROCESSING_MODES, "standardize", "gcn_zca"],
    "A mode of kfeedback.preprocessing.preprocess_input; or, fitted on the training "
    "split, standardize: mean 0 and deviation 1 in every channel; gcn_zca: contrast "
    "normalization and ZCA whitening.",
)
flags.DEFINE_integer(
    "image_size", None, "Resize images to so many pixels squared.", lower_bound=1
)
FLAGS = flags.FLAGS


def get_preprocess(folder, *, fit, mode=None):
    """The function of a batch that --preprocessing names.

    Args:
        folder: where what is fitted is kept, `zca.npz` or `standardize.npz`.
        fit: bool, fit it on the training split and write that file, or read it.
        mode: what to take instead of the flag.
    """
    mode = mode or FLAGS.preprocessing
    if mode in preprocessing.PREPROCESSING_MODES:
        return lambda images: preprocessing.preprocess_input(images, mode)
    path = pathlib.Path(folder, "zca.npz" if mode == "gcn_zca" else f"{mode}.npz")
    if not fit and not path.is_file():
        raise ValueError(
            f"--preprocessing={mode} must find what training fitted, got no {path}."
        )
    if mode == "standardize":
        return _standardize(path, fit)
    if fit:
        images = get_arrays(FLAGS.train_split)[0]
        images = preprocessing.global_contrast_normalization(images)
        whitening = preprocessing.ZCAWhitening().fit(images)
        whitening.save(path)
    else:
        whitening = preprocessing.ZCAWhitening.load(path)

    def normalize(images):
        return whitening(preprocessing.global_contrast_normalization(images))

    return normalize


def _standardize(path, fit):
    if fit:
        images = get_arrays(FLAGS.train_split)[0]
        axes = (0, 1, 2)
        np.savez(path, mean=images.mean(axes), deviation=images.std(axes))
    with np.load(path) as file:
        mean, deviation = file["mean"], np.maximum(file["deviation"], 1e-6)
    return lambda images: (images - mean) / deviation


def get_data(split, preprocess, *, training, seed=0, augment=True):
    """Batches of a split for `fit` or `evaluate`, and their `DatasetInfo`."""
    arguments = {
        "batch_size": FLAGS.batch_size,
        "shuffle": training,
        "seed": seed,
        "preprocess": preprocess,
        "flip": training and augment and FLAGS.flip,
        "shift": FLAGS.shift if training and augment else 0,
    }
    if keras.backend.backend() == "tensorflow":
        return _load_batches(split, **arguments)
    if FLAGS.image_size:
        raise ValueError(
            "--image_size must be left out on another backend than tensorflow, got "
            f"{FLAGS.image_size}."
        )
    images, labels, info = _load(datasets.load_arrays, split)
    return datasets.ArrayDataset(images, labels, **arguments), info


def get_arrays(split):
    """All images (float32, not preprocessed) and labels of a split, and its info."""
    if keras.backend.backend() == "tensorflow":
        batches, info = _load_batches(split)
        images, labels = zip(*batches.as_numpy_iterator(), strict=True)
        return np.concatenate(images), np.concatenate(labels), info
    images, labels, info = _load(datasets.load_arrays, split)
    return images.astype("float32"), labels, info


def _load_batches(split, **arguments):
    places = {"manual_dir": FLAGS.manual_dir, "image_size": FLAGS.image_size}
    return _load(datasets.load, split, **places, **arguments)


def _load(load, split, **arguments):
    """Calls a loader with --dataset; its errors name the flag."""
    try:
        return load(
            FLAGS.dataset,
            split,
            data_dir=FLAGS.data_dir,
            classes=FLAGS.classes or None,
            **arguments,
        )
    except ValueError as error:
        raise ValueError(f"--dataset={FLAGS.dataset}: {error}") from error
