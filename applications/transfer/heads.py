"""Embeddings of a trained network, and a new head on them."""

import collections

import keras

from kfeedback import graph
from kfeedback.layers import StackTimesteps


def embeddings_of(model, layer):
    """The outputs of a layer at every timestep, `T` symbolic tensors in that order.

    Args:
        model: a functional model that gives `(B, T, classes)`.
        layer: name of a layer that it calls `T` times.

    Raises:
        ValueError: if there is no such layer, or a side of its output is not known.
    """
    steps = model.output_shape[1]
    calls = collections.Counter(
        node.operation.name for node in graph.nodes(model.inputs, model.outputs)
    )
    if calls[layer] != steps:
        known = ", ".join(name for name, count in calls.items() if count == steps)
        raise ValueError(
            f"--embedding_layer must name a layer that '{model.name}' calls once a "
            f"timestep, {steps} times, such as {known or 'none'}, got {layer!r}, "
            f"called {calls[layer]} times."
        )
    found = graph.layer_outputs(model, layer)
    if None in found[0].shape[1:]:
        raise ValueError(
            "--embedding_layer must name a layer with an output of known shape, got "
            f"{layer!r} with {found[0].shape[1:]}."
        )
    return found


def embedding_model(model, layer):
    """The model that gives the embeddings `(B, T, ...)` of `embeddings_of`."""
    outputs = StackTimesteps(name="embeddings")(embeddings_of(model, layer))
    return keras.Model(model.inputs[0], outputs, name="embeddings")


class NewHead:
    """Dropout, dense, ReLU, dropout, dense over flattened embeddings.

    Args:
        classes: int, units of the last layer.
        multi_label: bool, a sigmoid instead of a softmax.
        units: int, units of the first dense layer.
        dropout: fraction dropped before each dense layer.
    """

    def __init__(self, classes, multi_label, units=256, dropout=0.5):
        activation = "sigmoid" if multi_label else "softmax"
        # A feedback network may keep its own head, which its feedback comes from.
        self.layers = [
            keras.layers.Flatten(name="transfer_flatten"),
            keras.layers.Dropout(dropout, name="transfer_dropout1"),
            keras.layers.Dense(units, activation="relu", name="transfer_dense"),
            keras.layers.Dropout(dropout, name="transfer_dropout2"),
            keras.layers.Dense(
                classes,
                activation=activation,
                dtype="float32",
                name="transfer_predictions",
            ),
        ]

    def __call__(self, embeddings):
        """The predictions `(B, T, classes)` of `T` embeddings."""
        predictions = []
        for x in embeddings:
            for layer in self.layers:
                x = layer(x)
            predictions.append(x)
        return StackTimesteps(name="timesteps", dtype="float32")(predictions)

    def alone(self, shape):
        """The model of the head on embeddings `(B, T, ...)` computed before."""
        stacked = keras.Input(shape, name="embeddings")
        parts = [stacked[:, step] for step in range(shape[0])]
        return keras.Model(stacked, self(parts), name="head")

    def on(self, model, layer):
        """The model of the feedback layers with this head, from image on."""
        predictions = self(embeddings_of(model, layer))
        return keras.Model(model.inputs[0], predictions, name="transfer")
