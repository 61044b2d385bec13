"""What published weights are called, and where in our networks they belong.

A converter is a list of entries: which tensors of the file make which variables of the
model. Nearly all are a name and a transposition; the others are explained where they
are.

Names were read in the authors' code; no published file was at hand.
"""

import collections
import itertools
import re
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

# What a file holds besides the network: optimizer slots, counters of steps.
_IGNORED = {
    "tf": re.compile(r"global_step|.*/(Momentum|Adam|Adam_1)|beta[12]_power"),
    "torch": re.compile(r"(.*\.)?num_batches_tracked"),
}


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


def norm_entries(target, sources):
    """Entries of a batch norm from the names of its γ, β, mean and variance."""
    for part, source in zip(
        ("gamma", "beta", "moving_mean", "moving_variance"), sources, strict=True
    ):
        yield Entry((f"{target}/{part}",), (source,))


def hwio(kernel):
    """The kernel of a convolution of PyTorch as ours."""
    return kernel.transpose(2, 3, 1, 0)


def transposed(kernel):
    """The kernel of a dense layer of PyTorch as ours; a bias is left alone."""
    return kernel.T


# --- Feedback ConvLSTM ---------------------------------------------------------------


def feedback_convlstm_torch(model, tensors):
    """Entries and tensors of a state dict of the PyTorch feedback ConvLSTM network.

    Each cell is stored twice, in a list of cells and in a sequence of cells and ReLUs;
    the two must be equal. Gates are stored apart, as `conv_i_x`, `conv_f_x`, `conv_c_x`
    (our g), `conv_o_x`, and `…_h`, each with a batch norm `batchnorm_i_x`, …
    """
    tensors = _without_aliases(without("torch", tensors))
    layers = {layer.name: layer for layer in model.layers}
    entries = [
        Entry(("stem_conv/kernel",), ("conv.weight",), hwio),
        Entry(("stem_conv/bias",), ("conv.bias",)),
        *norm_entries("stem_bn", torch_norm("batchnorm")),
    ]
    first = layers.get("group1_cell1_input_gates")
    if first is None:
        raise ValueError(
            "--model must be kfeedback.FeedbackConvLSTMNet for "
            f"--format=feedback_convlstm_torch, got model '{model.name}'."
        )
    for name, layer in layers.items():
        numbers = re.fullmatch(r"group(\d+)_cell(\d+)", name)
        if not numbers:
            continue
        group, cell = (int(number) - 1 for number in numbers.groups())
        source = f"feedback.cells.{group}.cells.{cell}"
        gates = layer.input_gates
        ours = f"{name}/input_gates"
        if gates is None:
            gates, ours = first, first.name
        entries += _gates(ours, gates, source, "x")
        entries += _gates(f"{name}/recurrent_gates", layer.recurrent_gates, source, "h")
    if "dense" in layers:
        shape = layers["flatten"].input.shape[1:]
        entries += [
            Entry(("dense/kernel",), ("linear.weight",), rows_of_flattened(shape)),
            Entry(("dense/bias",), ("linear.bias",)),
            Entry(("predictions/kernel",), ("output.weight",), transposed),
            Entry(("predictions/bias",), ("output.bias",)),
        ]
    return entries, tensors


def _without_aliases(tensors):
    kept = {}
    for name, value in tensors.items():
        parts = re.fullmatch(r"(feedback\.cells\.\d+)\.stack\.(\d+)\.(.+)", name)
        if not parts:
            kept[name] = value
            continue
        original = f"{parts[1]}.cells.{int(parts[2]) // 2}.{parts[3]}"
        if int(parts[2]) % 2 or not np.array_equal(tensors.get(original), value):
            raise ValueError(
                f"--source must hold each cell twice, got {name} that is not equal to "
                f"{original}."
            )
    return kept


def _gates(ours, gates, source, of):
    """Entries of a `ConvLSTMGates`.

    For the state there is more to do than to concatenate. The first pass has a state of
    zeros, whose convolution is the bias b: the published batch norm, with its one mean
    μ for all passes, makes `γ (b - μ) / √(σ² + ε) + β` of it, ours β. So that becomes
    our β and b our mean, which leaves every pass what it was.
    """
    names = [f"{source}.conv_{gate}_{of}" for gate in "ifco"]
    weights, biases = ([f"{n}.{p}" for n in names] for p in ("weight", "bias"))
    yield Entry(
        (f"{ours}/kernel",),
        tuple(weights),
        lambda *parts: np.concatenate([hwio(p) for p in parts], axis=-1),
    )
    targets = (f"{ours}/bias",)
    if gates.batch_norm:
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        targets += tuple(f"{ours}/{part}" for part in parts)
        norms = [torch_norm(f"{source}.batchnorm_{gate}_{of}") for gate in "ifco"]
        biases += itertools.chain.from_iterable(zip(*norms, strict=True))

    def make(*arrays):
        bias, *norm = (
            np.concatenate(arrays[i : i + 4]) for i in range(0, len(arrays), 4)
        )
        if not norm:
            return bias
        gamma, beta, mean, variance = norm
        if of == "h":
            beta = beta + gamma * (bias - mean) / np.sqrt(variance + gates.epsilon)
            mean = bias
        mean, variance = (np.tile(v, (gates.timesteps, 1)) for v in (mean, variance))
        return bias, gamma, beta, mean, variance

    yield Entry(targets, tuple(biases), make)


def rows_of_flattened(shape):
    """`(units, C H W)` to `(H W C, units)`, for a dense layer on a flattened map."""
    height, width, channels = shape

    def make(weight):
        maps = weight.reshape(len(weight), channels, height, width)
        return maps.transpose(2, 3, 1, 0).reshape(-1, len(weight))

    return make


# --- VGG16 ---------------------------------------------------------------------------


def torchvision_vgg16(model, tensors):
    """Entries and tensors of a state dict of torchvision's VGG16, without batch norm.

    For `keras.applications.VGG16`, whose layers are the same in the same order.
    """
    entries, feature, classifier, flattened = [], 0, 0, None
    for layer in model.layers:
        make = transposed
        if isinstance(layer, keras.layers.Conv2D):
            source, make = f"features.{feature}", hwio
            feature += 2  # a convolution and a ReLU
        elif isinstance(layer, keras.layers.MaxPooling2D):
            feature += 1
            continue
        elif isinstance(layer, keras.layers.Flatten):
            flattened = layer.input.shape[1:]
            continue
        elif isinstance(layer, keras.layers.Dense):
            source = f"classifier.{classifier}"
            if flattened is not None:
                make, flattened = rows_of_flattened(flattened), None
            classifier += 3  # dense, ReLU, dropout
        else:
            continue
        entries.append(Entry((f"{layer.name}/kernel",), (f"{source}.weight",), make))
        entries.append(Entry((f"{layer.name}/bias",), (f"{source}.bias",)))
    return entries, without("torch", tensors)
