"""The arguments of explanations, checked."""

import math

import numpy as np
from keras import ops

from kfeedback import checks, preprocessing
from kfeedback.explain._methods import STARTS, UPDATE_RULES, Feedback


def check_preprocess(preprocess):
    """Returns `preprocess`; raises an error unless `prepare` takes it."""
    if isinstance(preprocess, str):
        one_of("preprocess", preprocess, preprocessing.PREPROCESSING_MODES)
    elif preprocess is not None and not callable(preprocess):
        raise TypeError(
            "preprocess must be None, a mode or a function, got "
            f"{type(preprocess).__name__}."
        )
    return preprocess


def check_feedback(iterations, step_size, sparsity, update_rule, start, normalize):
    """The settings of the loop, checked."""
    return Feedback(
        checks.integer("iterations", iterations),
        checks.number("step_size", step_size, above=0, below=math.inf),
        checks.number("sparsity", sparsity, least=0, below=math.inf),
        one_of("update_rule", update_rule, UPDATE_RULES),
        one_of("start", start, STARTS),
        checks.boolean("normalize", normalize),
    )


def check_energy(energy):
    """Returns the share of energy; raises a ValueError unless it is > 0 and ≤ 1."""
    return checks.number("energy", energy, above=0, most=1)


def check_images(images, model):
    """Images as an array, of which only the shape is looked at."""
    images = images if hasattr(images, "dtype") else np.asarray(images)
    shape = model.inputs[0].shape[1:]
    fits = len(images.shape) == 4 and len(images) > 0
    fits = fits and all(
        n in (None, m) for n, m in zip(shape, images.shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"images must have the shape {(None, *shape)} of model '{model.name}', got "
            f"{tuple(images.shape)}."
        )
    return images


def check_range(images):
    """Images as float32; raises a ValueError unless all are from 0 to 255."""
    images = ops.convert_to_numpy(images)
    if images.dtype.kind not in "fiu":
        raise ValueError(f"images must be numbers, got {images.dtype}.")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):  # a NaN is neither
        raise ValueError(
            f"images must have values from 0 to 255, got {low:g} to {high:g}."
        )
    return images.astype(np.float32)


def check_targets(targets, count, classes):
    """Targets as int32 `(N, K)`, or `None`."""
    if targets is None:
        return None
    targets = ops.convert_to_numpy(targets)
    if targets.dtype.kind not in "iu" or targets.shape[:1] != (count,):
        raise ValueError(
            f"targets must be int classes, one or one row for each of {count} images, "
            f"got {targets.dtype} {targets.shape}."
        )
    if targets.ndim > 2 or targets.size == 0:
        raise ValueError(f"targets must be (N,) or (N, K), got {targets.shape}.")
    if targets.min() < 0 or targets.max() >= classes:
        raise ValueError(
            f"targets must be from 0 to {classes - 1}, got {targets.min()} to "
            f"{targets.max()}."
        )
    return targets.reshape(count, -1).astype(np.int32)


def one_of(name, value, known):
    """Returns a value; raises a ValueError unless it is a known one."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
    return value
