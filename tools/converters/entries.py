"""From the tensors of a file to the variables of a model.

A converter is a list of entries: which tensors of the file make which variables of the
model. Nearly all are a name and a transposition; the others are explained where they
are.
"""

import collections
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# What a file holds besides the network: optimizer slots, counters of steps.
_IGNORED = {
    "tf": re.compile(r"global_step|.*/(Momentum|Adam|Adam_1)|beta[12]_power"),
    "torch": re.compile(r"(.*\.)?num_batches_tracked"),
}


NORM = ("gamma", "beta", "moving_mean", "moving_variance")
"""The variables of a batch norm: γ, β, mean and variance."""


class Entry(NamedTuple):
    """`make(*arrays of the sources)` gives the targets' values, one or a tuple.

    No target: the published network makes the sources, but never reads them.
    """

    targets: tuple
    sources: tuple
    make: Callable = lambda value: value


def assign(model, tensors, entries):
    """Fills every variable of a model once, with every tensor used once, or none.

    Args:
        model: a `keras.Model`, not nested.
        tensors: dict from the name to the array.
        entries: list of `Entry`.

    Raises:
        ValueError: if names, shapes or dtypes do not match, both sides listed, or a
            value is not finite.
    """
    variables = {
        f"{layer.name}/{variable.path.removeprefix(f'{layer.path}/')}": variable
        for layer in model.layers
        for variable in layer.weights
    }
    filled = collections.Counter(t for entry in entries for t in entry.targets)
    used = collections.Counter(s for entry in entries for s in entry.sources)
    faults = {
        "missing from the file": used.keys() - tensors.keys(),
        "unused in the file": tensors.keys() - used.keys(),
        "used twice": {name for name, count in used.items() if count > 1},
        "unfilled in the model": variables.keys() - filled.keys(),
        "missing from the model": filled.keys() - variables.keys(),
        "filled twice": {name for name, count in filled.items() if count > 1},
    }
    if any(faults.values()):
        found = "; ".join(
            f"{k}: {', '.join(sorted(v))}" for k, v in faults.items() if v
        )
        raise ValueError(f"--source must fit model '{model.name}', got {found}.")
    values = {}
    for entry in entries:
        arrays = [_checked(name, tensors[name]) for name in entry.sources]
        if not entry.targets:
            continue
        try:
            made = entry.make(*arrays)
        except ValueError as error:
            shapes = [f"{n} {tensors[n].shape}" for n in entry.sources]
            more = f" and {len(shapes) - 4} more" if len(shapes) > 4 else ""
            raise ValueError(
                f"--source must fit model '{model.name}', got {', '.join(shapes[:4])}"
                f"{more}: {error}."
            ) from error
        made = made if isinstance(made, tuple) else (made,)
        for target, value in zip(entry.targets, made, strict=True):
            if value.shape != tuple(variables[target].shape):
                raise ValueError(
                    f"--source must fit model '{model.name}', got shape {value.shape} "
                    f"of {', '.join(entry.sources)} for {target}, which has shape "
                    f"{tuple(variables[target].shape)}."
                )
            values[target] = value
    for target, value in values.items():
        variables[target].assign(value)


def _checked(name, value):
    if value.dtype.kind != "f" or not np.isfinite(value).all():
        raise ValueError(
            f"--source must hold finite floats, got {name} of dtype {value.dtype}."
        )
    return value.astype("float32", copy=False)


def without(kind, tensors):
    """The tensors that are not of the explicitly ignored kind."""
    return {k: v for k, v in tensors.items() if not _IGNORED[kind].fullmatch(k)}


def torch_norm(prefix):
    """Names of γ, β, mean and variance of a batch norm in PyTorch."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return [f"{prefix}.{part}" for part in parts]


def entries_of(prefix, parts, sources, *make):
    """An entry for each part of a layer, whose variable is the prefix and the part."""
    for part, source in zip(parts, sources, strict=True):
        yield Entry((f"{prefix}{part}",), (source,), *make)


def hwio(kernel):
    """The kernel of a convolution of PyTorch as ours."""
    return kernel.transpose(2, 3, 1, 0)


def transposed(kernel):
    """The kernel of a dense layer of PyTorch as ours; a bias is left alone."""
    return kernel.T


def rows_of_flattened(shape):
    """`(units, C H W)` to `(H W C, units)`, for a dense layer on a flattened map."""
    height, width, channels = shape

    def make(weight):
        maps = weight.reshape(len(weight), channels, height, width)
        return maps.transpose(2, 3, 1, 0).reshape(-1, len(weight))

    return make
