"""What transfer learning is made of: embeddings, a new head, classifiers, scores."""

import collections
import sys

import keras
import numpy as np

from applications import _scores
from kfeedback import graph
from kfeedback.layers import StackTimesteps

TREES = 128
"""Of the random forest, as in the paper."""


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


def outputs_of(model, batches):
    """What a model gives in inference for all batches, and their labels."""
    outputs, labels = [], []
    progress = keras.utils.Progbar(len(batches), verbose=int(sys.stdout.isatty()))
    for images, batch_labels in batches:
        batch = model.predict_on_batch(keras.ops.convert_to_tensor(images))
        outputs.append(np.asarray(batch).astype("float32"))
        labels.append(np.asarray(batch_labels))
        progress.add(1)
    return np.concatenate(outputs), np.concatenate(labels)


def examples(embeddings, labels, iteration):
    """Vectors and labels to fit a classifier on.

    Args:
        embeddings: `(N, T, ...)`.
        labels: `(N,)` or `(N, classes)`.
        iteration: int from 1, or `"all"`: the `T` embeddings of an image are then so
            many examples.

    Returns:
        `(N, features)` or, for all iterations, `(N T, features)`, and as many labels.
    """
    count, steps = embeddings.shape[:2]
    vectors = embeddings.reshape(count, steps, -1)
    if iteration != "all":
        return vectors[:, iteration - 1], labels
    return vectors.reshape(count * steps, -1), np.repeat(labels, steps, axis=0)


def classifier(method, multi_label, seed):
    """The scikit-learn classifier of a method, `"forest"` or `"logistic"`."""
    _scores.require_sklearn()
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if method == "forest":
        return RandomForestClassifier(TREES, random_state=seed, n_jobs=-1)
    regression = LogisticRegression(max_iter=1000, random_state=seed)
    if multi_label:
        regression = OneVsRestClassifier(regression)
    return make_pipeline(StandardScaler(), regression)


def scores_of(fitted, embeddings):
    """Probabilities `(N, T, classes)` of a fitted classifier at every timestep."""
    steps = []
    for step in range(embeddings.shape[1]):
        found = fitted.predict_proba(examples(embeddings, [], step + 1)[0])
        if isinstance(found, list):  # of a forest: (not this label, this label) each
            found = np.stack([label[:, 1] for label in found], axis=1)
        steps.append(found)
    return np.stack(steps, axis=1)
