"""FeedbackConvLSTMNet: ConvLSTM cells that see the same image at every pass."""

import itertools
import math

import keras

from kfeedback import checks
from kfeedback.layers import (
    ConvLSTMCell,
    ConvLSTMGates,
    FusedBatchNormalization,
    StackTimesteps,
)
from kfeedback.models.arguments import make_model, pooling_layer
from kfeedback.models.factory import family
from kfeedback.preprocessing import decode_predictions, preprocess_input

__all__ = ["FeedbackConvLSTMNet", "decode_predictions", "preprocess_input"]

CELLS = (
    ((16, 1), (16, 1), (16, 1)),
    ((32, 2), (32, 1), (32, 1)),
    ((64, 2), (64, 1), (64, 1)),
    ((64, 1), (64, 1), (64, 1)),
)
"""The paper's twelve cells, (filters, stride) each, in groups of three."""

_TIMESTEPS = 4  # with moving statistics of their own
_POOL = 4
_EPSILON = 1e-5  # of every batch norm, as in the published code
_MOMENTUM = 0.9


@family("feedback_convlstm", default_shape=(32, 32, 3), least_size=16)
def FeedbackConvLSTMNet(
    build,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="feedback_convlstm_net",
    *,
    timesteps=4,
    cells=CELLS,
    batch_norm=True,
    head_units=256,
    head_dropout=0.5,
    return_sequences=False,
):
    """Feedback ConvLSTM network: a prediction after each pass over the same image.

    A 3×3 convolution, batch norm and ReLU make the image features, which enter a stack
    of `kfeedback.layers.ConvLSTMCell` at every pass; each cell keeps its state (H, C)
    from pass to pass. ReLU lies between the cells of a group, nothing between groups.
    After each pass: ReLU, 4×4 average pooling, (dropout) dense, ReLU, (dropout) dense.
    2,035,306 trainable parameters by default. All passes share the weights, and a file
    of them serves every `timesteps`.

    The image features and their convolution in the first cell are computed once. The
    first pass convolves no state.

    Train it on `return_sequences=True` with `kfeedback.losses.TimestepLoss(loss,
    discount=1.2)`, which is the paper's loss.

    Args:
        include_top: bool, with the two dense layers.
        weights: `None`, a tag of `kfeedback.list_weights()`, or the path of a file that
            `kfeedback.weights.load` takes.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for (32, 32, 3), or `(H, W, C)` with H and W multiples of 4
            times the product of all strides; without the top they may be `None`.
        pooling: without the top: `None`, `"avg"` or `"max"` over the embedding.
        classes: int ≥ 1.
        classifier_activation: activation of the last layer: `"softmax"`, for several
            labels an image `"sigmoid"`, `None` for logits.
        name: name of the model.
        timesteps: int ≥ 1, passes and predictions.
        cells: list of groups, each a list of (filters, stride) pairs.
        batch_norm: bool, batch norm after every convolution of the cells, with moving
            statistics for each of the first four passes (later passes share the
            fourth's); the first convolution always has one.
        head_units: int ≥ 1, units of the first dense layer.
        head_dropout: fraction dropped before each dense layer.
        return_sequences: bool, the predictions of all passes instead of the last.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`, or `(B, timesteps,
        classes)` with `return_sequences=True`. Without the top, the embedding after the
        4×4 average pooling, `(B, h, w, filters)`, (2, 2, 64) by default, stands for
        `classes`.

    Raises:
        TypeError: if a flag is no bool.
        ValueError: if an argument is out of its range, or strides do not divide the
            image.

    Departures from the published code: those of `ConvLSTMCell`; weights start as those
    of Keras' layers.

    Reference:
        Transfer learning with feedback networks, sections 3.1 to 3.3; Zamir et al.,
        Feedback networks, 2017.

    Example:
        >>> model = kfeedback.FeedbackConvLSTMNet(return_sequences=True)
        >>> model.output_shape
        (None, 4, 10)
    """
    timesteps = checks.integer("timesteps", timesteps)
    groups = _check_cells(cells)
    checks.boolean("batch_norm", batch_norm)
    checks.boolean("return_sequences", return_sequences)
    head_units = checks.integer("head_units", head_units)
    head_dropout = checks.number("head_dropout", head_dropout, least=0, below=1)
    strides = [stride for group in groups for _, stride in group]
    build.least_size = _POOL * math.prod(strides)
    _check_sides(build)

    first_filters = groups[0][0][0]
    x = keras.layers.Conv2D(first_filters, 3, padding="same", name="stem_conv")(
        build.input
    )
    x = FusedBatchNormalization(momentum=_MOMENTUM, epsilon=_EPSILON, name="stem_bn")(x)
    x = keras.layers.ReLU(name="stem_relu")(x)
    stack = _Stack(groups, batch_norm)
    head = _head(build, head_units, head_dropout)
    gates, states, outputs = stack.first_gates(x), None, []
    for timestep in range(timesteps):
        time = {"timestep": timestep, "is_last": timestep == timesteps - 1}
        x, states = stack.run(gates, states, **time)
        outputs.append(head(x))
    result = outputs[-1]
    if return_sequences:
        result = StackTimesteps(name="timesteps", dtype=result.dtype)(outputs)
    return make_model(build.input, result, name)


class _Stack:
    """The cells of all groups, and the ReLU between those of one group."""

    def __init__(self, groups, batch_norm):
        norm = {"batch_norm": batch_norm, "momentum": _MOMENTUM, "epsilon": _EPSILON}
        (filters, stride), *_ = groups[0]
        # The image features do not change, so their share of the gates is made once.
        self.first_gates = ConvLSTMGates(
            filters,
            strides=stride,
            forget_bias=1.0,
            name="group1_cell1_input_gates",
            **norm,
        )
        self.groups = [
            [
                ConvLSTMCell(
                    filters,
                    strides=1 if group == cell == 1 else stride,
                    convolve_input=not group == cell == 1,
                    timesteps=_TIMESTEPS,
                    name=f"group{group}_cell{cell}",
                    **norm,
                )
                for cell, (filters, stride) in enumerate(cells, start=1)
            ]
            for group, cells in enumerate(groups, start=1)
        ]
        self.relus = {
            cell: keras.layers.ReLU(name=f"{cell.name}_relu")
            for group in self.groups
            for cell in group[:-1]
        }

    def run(self, gates, states, **time):
        """One pass: `(H of the last cell, states of all cells)`."""
        x, made = gates, []
        for cell in itertools.chain.from_iterable(self.groups):
            state = None if states is None else states[len(made)]
            x, memory = cell(x, state, **time)
            made.append((x, memory))
            x = self.relus[cell](x) if cell in self.relus else x
        return x, made


def _head(build, units, dropout):
    """Function from H of the last cell to a prediction, or the embedding."""
    layers = [
        keras.layers.ReLU(name="embedding_relu"),
        keras.layers.AveragePooling2D(_POOL, name="embedding"),
    ]
    if build.include_top:
        layers += [
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dropout(dropout, name="dropout1"),
            keras.layers.Dense(units, activation="relu", name="dense"),
            keras.layers.Dropout(dropout, name="dropout2"),
            build.classifier_layer(),
        ]
    else:
        layers.append(pooling_layer(build.pooling))

    def head(x):
        for layer in layers:
            x = layer(x)
        return x

    return head


def _check_cells(cells):
    """The groups as lists of lists of pairs."""

    def listed(value, kinds=(list, tuple)):
        return list(value) if isinstance(value, kinds) else []

    groups = [[listed(pair) for pair in listed(group)] for group in listed(cells)]
    pairs = list(itertools.chain.from_iterable(groups))
    if not groups or not all(groups) or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            "cells must be a list of groups, each a list of (filters, stride) pairs, "
            f"none of them empty, got {cells!r}."
        )
    for filters, stride in pairs:
        checks.integer("filters in cells", filters)
        checks.integer("stride in cells", stride)
    return groups


def _check_sides(build):
    build.require_sides()
    shape = tuple(build.input.shape[1:])
    if any(side is not None and side % build.least_size for side in shape[:2]):
        raise ValueError(
            "input_shape must have a height and width that are multiples of "
            f"{build.least_size}, which strides and pooling divide them by, got "
            f"{shape}."
        )
