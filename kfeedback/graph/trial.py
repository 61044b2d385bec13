"""Random numbers for a part of a model, whose outputs then show what it does."""

import numpy as np
from keras import ops

_ROWS = 16
_SIDE = 8  # of maps of unknown size


def random_trial(tensors, operations):
    """Random values for what goes into a part of a model, and for its weights.

    What the part does is to follow from its layers, not from what they learned: zeros
    would hide it.

    Args:
        tensors: symbolic tensors.
        operations: layers and other operations.

    Returns:
        `(inputs, weights)`: a dict from each tensor to a value, such as `rerun` takes,
        and a list of pairs of a variable and a value, such as `keras.StatelessScope`
        takes.
    """
    random = np.random.default_rng(0)
    inputs = {
        x: ops.cast(random.normal(0, 3, _sides(x.shape)), x.dtype) for x in tensors
    }
    different = {id(operation): operation for operation in operations}
    variables = {
        id(variable): variable
        for operation in different.values()
        for variable in getattr(operation, "weights", ())
        if "float" in variable.dtype
    }
    weights = [
        (v, ops.cast(_moderate(random, tuple(v.shape)), v.dtype))
        for v in variables.values()
    ]
    return inputs, weights


def _sides(shape):
    """Sides of a value, with more than one row also where a model takes one."""
    return [n or _SIDE if i else _ROWS for i, n in enumerate(shape)]


def _moderate(random, shape):
    """Weights that keep the size of what goes in; > 0 where they may be variances."""
    inputs = np.prod(shape[:-1])
    weights = random.uniform(0.1, 1, shape) / np.sqrt(inputs)
    # By kernels of one sign all outputs would be about the same.
    return weights * random.choice((-1, 1), shape) if inputs > 1 else weights
