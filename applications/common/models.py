"""Saved models that flags lead to, and whether they fit the data."""

import sys
import zipfile

import keras
import numpy as np

import kfeedback  # noqa: F401  (registers the layers that a saved model holds)
from kfeedback import checks
from kfeedback.classifier import check_output, posterior_kind


def load_model(flag, path):
    """A saved `keras.Model`; an error names the flag that the path comes from."""
    try:
        return keras.models.load_model(path)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"--{flag} must lead to a .keras file that Keras can load, got {path}: "
            f"{error}"
        ) from error


def check_images(flag, model, info, *, from_logits=False):
    """Refuses a model, named by a flag, whose input or output does not fit the data."""
    shape = model.input_shape[1:]
    fits = checks.fits(info.image_shape, shape)
    if not fits or model.output_shape[-1] != info.num_classes:
        raise ValueError(
            f"--{flag} must lead to a model for images {info.image_shape} of "
            f"{info.num_classes} classes, as {info.name} has them, got one for images "
            f"{shape} with output {model.output_shape}."
        )
    wanted = "sigmoid" if info.multi_label else "softmax"
    if from_logits:
        check_output(model, from_logits=True)
    elif posterior_kind(model) != wanted:
        raise ValueError(
            f"--{flag} must lead to a model that ends in a {wanted}, of which the "
            f"errors on {info.name} are measured, got '{model.name}', which does not."
        )


def check_class_names(flag, known, dataset, names):
    """Refuses data whose classes are others, or in another order, than a model's.

    Names that are only numbers, as of arrays, say nothing.

    Args:
        flag: that names the model.
        known: names of its classes, or `None`.
        dataset: what --dataset says.
        names: of the classes of the data, or `None`.
    """
    known, names = known or (), names or ()
    if only_numbers(known) or only_numbers(names):
        return
    for number, (wanted, found) in enumerate(zip(known, names, strict=False)):
        if wanted != found:
            raise ValueError(
                f"--dataset must have the classes of --{flag} in their order, whose "
                f"class {number} is {wanted!r}, got {dataset} with {found!r}."
            )


def only_numbers(names):
    """Whether names of classes are only numbers."""
    return all(str(name).isdecimal() for name in names)


def predict_all(predict, batches):
    """The outputs of a function of images for all batches, and their labels.

    Args:
        predict: function of a tensor `(B, H, W, C)` that gives an array.
        batches: of `(images, labels)`.

    Returns:
        two arrays, the outputs float32.
    """
    outputs, labels = [], []
    progress = keras.utils.Progbar(len(batches), verbose=int(sys.stdout.isatty()))
    for images, batch_labels in batches:
        batch = predict(keras.ops.convert_to_tensor(images))
        outputs.append(np.asarray(batch).astype("float32"))
        labels.append(np.asarray(batch_labels))
        progress.add(1)
    return np.concatenate(outputs), np.concatenate(labels)
