"""Where the weights of the published feedback ConvLSTM network belong in ours."""

import itertools
import re

import numpy as np

from tools.converters.entries import (
    NORM,
    Entry,
    entries_of,
    hwio,
    rows_of_flattened,
    torch_norm,
    transposed,
    without,
)


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
        *entries_of("stem_bn/", NORM, torch_norm("batchnorm")),
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
        targets += tuple(f"{ours}/{part}" for part in NORM)
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
