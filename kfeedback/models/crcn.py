"""CRCN: contextual feedback from higher to lower layers of a convolutional network."""

import numbers

import keras

from kfeedback import checks, graph
from kfeedback.layers import Contextual
from kfeedback.layers.contextual import check_module
from kfeedback.models.factory import family
from kfeedback.preprocessing import decode_predictions, preprocess_input

__all__ = ["CRCN", "decode_predictions", "preprocess_input"]

LOOPS = {
    1: ("block3_conv2", "block2_conv2"),
    2: ("block4_conv2", "block3_conv3"),
    3: ("block5_conv2", "block4_conv3"),
}
"""The paper's loops in VGG16: (higher layer, lower layer)."""


@family("crcn", gives_feedback=True)
def CRCN(
    network,
    backbone="vgg16",
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=None,
    classifier_activation="softmax",
    name="crcn",
    *,
    loops=(1, 2),
    timesteps=3,
    contextual_module="proposed",
    bottom_up="recomputed",
    return_sequences=False,
):
    """Contextual recurrent network: higher layers tell lower ones what they see.

    At the first pass the network is the backbone. At every later one each lower layer
    k of a loop gives, instead of its output B, what a `kfeedback.layers.Contextual`
    module makes of B and of the higher layer's output at the pass before. All passes
    share the weights, and the same weights serve every `timesteps`. A fresh CRCN
    predicts at every pass exactly what the backbone does.

    What lies below the lowest augmented layer is computed once. What lies above the
    highest source of feedback is computed only where a prediction is asked for: with
    `return_sequences=False` in the last pass.

    Args:
        backbone: `"vgg16"`, `"vgg_small"` or another name that `LRNet` takes, or any
            functional `keras.Model` that classifies: its layers, with their weights,
            become layers of the CRCN.
        include_top: bool; without the top the output is the last feature map before
            the classifier.
        weights: `None`; or a tag of `kfeedback.list_weights()`, or the path of a file
            that `kfeedback.weights.load` takes; or, for `"vgg16"`, `"imagenet"`, the
            published weights of the backbone.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for the backbone's own, or `(H, W, C)`.
        pooling: without the top: `None`, `"avg"` or `"max"`.
        classes: `None` for the backbone's own number, or an int.
        classifier_activation: activation of a backbone given by name, `None` for
            logits. A backbone given as a model keeps its own.
        name: name of the model.
        loops: list of loops, each 1, 2 or 3, the paper's (conv3_2 → conv2_2, conv4_2 →
            conv3_3, conv5_2 → conv4_3; for `"vgg16"` and `"vgg_small"`), or a pair
            (higher layer, lower layer) of names.
        timesteps: int ≥ 1, passes and predictions; "CRCN-n" of the paper has n + 1.
        contextual_module: `"proposed"`, 1, 2 or 3.
        bottom_up: `"recomputed"`, B is the layer recomputed in this pass; or
            `"carried"`, B is the layer's own output at the pass before.
        return_sequences: bool, all predictions instead of the last.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`, or `(B, timesteps,
        classes)` with `return_sequences=True`. Without the top the shape of the
        features stands for `classes`.

    Raises:
        TypeError: if `backbone` is no model, or a flag is no bool.
        ValueError: if an argument is out of its range or contradicts the backbone; for
            loops: an unknown name, a higher layer that is not above the lower one, or
            loops that cross.

    Departures from the paper: its equation, read literally, is `bottom_up="carried"`.
    But then a lower layer never sees again what lies below it, so that of two loops one
    above the other the lower one has no effect on the prediction; so the default is
    `"recomputed"`. With a batch norm behind a convolution of a loop, the output of the
    ReLU behind that is meant. All passes share a batch norm and its moving statistics;
    `applications.train --freeze_batch_norm` trains with those of the backbone.

    Reference:
        Wang et al., Contextual recurrent convolutional model for robust visual
        learning, 2019, section 3.

    Example:
        >>> model = kfeedback.CRCN("vgg_small", loops=[1, 2], timesteps=2)
        >>> model.output_shape
        (None, 10)
    """
    timesteps = checks.integer("timesteps", timesteps)
    checks.boolean("return_sequences", return_sequences)
    check_module("contextual_module", contextual_module)
    checks.one_of("bottom_up", bottom_up, ("recomputed", "carried"))
    model = network.model
    network.open()
    pairs = _check_loops(model, loops)
    modules = {
        lower: Contextual(
            contextual_module,
            dtype=lower.dtype_policy,
            name=network.name_of(f"{lower.name}_contextual"),
        )
        for _, lower in pairs
    }
    ends = [layer for pair in pairs for layer in pair]
    memo, edits, outputs = {}, {}, []
    for timestep in range(1, timesteps + 1):
        # One run a pass: what the next pass needs of it, and the prediction if asked.
        needed = [] if timestep == timesteps else ends
        wanted = [graph.layer_outputs(model, layer)[0] for layer in needed]
        predicts = return_sequences or timestep == timesteps
        if predicts:
            wanted.append(network.wanted())
        results = graph.rerun(model, network.image, edits, outputs=wanted, memo=memo)
        outputs += results[-1:] if predicts else []
        edits = {
            lower: _edit(
                modules[lower],
                top_down=results[2 * place],
                carried=results[2 * place + 1] if bottom_up == "carried" else None,
            )
            for place, (_, lower) in enumerate(pairs)
            if needed
        }
    return network.finish(outputs, return_sequences)


def _edit(module, top_down, carried):
    if carried is None:
        return lambda bottom_up: module(bottom_up, top_down)
    return lambda _: module(carried, top_down)


def _check_loops(model, loops):
    """The loops as pairs of layers (higher, lower)."""
    listed = isinstance(loops, list | tuple) and len(loops) > 0
    if not listed:
        raise ValueError(
            "loops must be a list of 1, 2, 3 or pairs of layer names (higher, lower), "
            f"got {loops!r}."
        )
    graph.check_channels_last(model, "backbone")
    pairs = [_check_pair(model, loop) for loop in loops]
    lowers = [lower.name for _, lower in pairs]
    twice = sorted({name for name in lowers if lowers.count(name) > 1})
    if twice:
        raise ValueError(
            f"loops must lead to different layers, got two to {', '.join(twice)}."
        )
    for higher, lower in pairs:
        for other_higher, other_lower in pairs:
            if (
                _is_above(model, other_lower, lower)
                and _is_above(model, higher, other_lower)
                and _is_above(model, other_higher, higher)
            ):
                raise ValueError(
                    "loops must not cross, got "
                    f"({higher.name}, {lower.name}) and "
                    f"({other_higher.name}, {other_lower.name})."
                )
    return pairs


def _check_pair(model, loop):
    is_number = isinstance(loop, numbers.Integral)
    names = LOOPS.get(loop) if is_number else loop
    own = {layer.name for layer in model.layers}
    if is_number and names and not own.issuperset(names):
        raise ValueError(
            f"loops must be pairs of layer names (higher, lower) for '{model.name}', "
            "as 1, 2 and 3 are those of the paper, of VGG16 and VGG-small, got "
            f"{loop!r}; it has {', '.join(layer.name for layer in model.layers)}."
        )
    valid = isinstance(names, list | tuple) and len(names) == 2
    if isinstance(loop, bool) or not valid:
        raise ValueError(
            "loops must be a list of 1, 2, 3 or pairs of layer names (higher, lower), "
            f"got {loop!r} among them."
        )
    higher, lower = (graph.get_layer(model, name, "loops") for name in names)
    if is_number:
        higher, lower = _activated(model, higher), _activated(model, lower)
    for layer in (higher, lower):
        outputs = graph.layer_outputs(model, layer)
        if len(outputs) != 1 or len(outputs[0].shape) != 4:
            raise ValueError(
                "loops must join layers with one output (B, H, W, C), got "
                f"'{layer.name}', which has none or several."
            )
    if not _is_above(model, higher, lower):
        raise ValueError(
            "loops must lead from a higher to a lower layer, got "
            f"({higher.name}, {lower.name}), whose first is not above its second."
        )
    return higher, lower


def _activated(model, layer):
    """The activation behind a convolution and its batch norm, or the layer itself."""
    behind = (keras.layers.BatchNormalization, keras.layers.ReLU)
    while True:
        output = graph.layer_outputs(model, layer)[0]
        readers = [
            node.operation
            for node in graph.nodes(model.inputs, model.outputs)
            if any(x is output for x in node.input_tensors)
        ]
        if len(readers) != 1 or not isinstance(readers[0], behind):
            return layer
        layer = readers[0]


def _is_above(model, higher, lower):
    """Whether what one layer gives depends on what another gives."""
    output = graph.layer_outputs(model, higher)[0]
    calls = graph.nodes(model.inputs, [output])
    return higher is not lower and any(node.operation is lower for node in calls)
