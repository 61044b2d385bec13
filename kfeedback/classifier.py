"""Where a classifier ends: its last layers with weights, and what follows them."""

import keras

from kfeedback import checks, graph
from kfeedback.layers import StackTimesteps

# What makes one posterior, or several, into a posterior again.
_KEEP_POSTERIOR = (
    keras.layers.Average,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Reshape,
    StackTimesteps,
)


class Head:
    """The end of a functional classifier.

    Attributes:
        posterior: `"softmax"`, `"sigmoid"`, or `None` for logits.
        is_logits: bool.
        classes: int, the classes.
        inputs: symbolic inputs of its last layers with weights, the classifier.
        features: the last feature maps `(B, H, W, C)` before those.
    """

    def __init__(self, model, argument="backbone"):
        self.model = model
        shape = tuple(model.outputs[0].shape)
        self.posterior = posterior_kind(model)
        self.is_logits = self.posterior is None
        classifiers = graph.nearest(model.outputs, _has_weights)
        if not classifiers:
            raise ValueError(
                f"{argument} must end in a classifier, got '{model.name}', whose "
                "output comes from no layer with weights."
            )
        least = 2 if self.posterior != "sigmoid" else 1
        if len(shape) != 2 or shape[1] is None or shape[1] < least:
            raise ValueError(
                f"{argument} must end in a classifier with output (B, classes) and "
                f"classes ≥ {least}, got '{model.name}' with output {shape}."
            )
        self.classes = shape[1]
        self.inputs = [x for node in classifiers for x in node.input_tensors]
        maps = graph.nearest(self.inputs, lambda node: len(node.outputs[0].shape) == 4)
        if not maps:
            raise ValueError(
                f"{argument} must have a feature map (B, H, W, C) before its "
                f"classifier, got '{model.name}' without one."
            )
        self.features = [node.outputs[0] for node in maps]

    def check(self, include_top, classes, classifier_activation):
        """Raises a ValueError for arguments that the network contradicts."""
        if not include_top and len(self.features) > 1:
            raise ValueError(
                f"include_top must be True for backbone '{self.model.name}', whose "
                f"classifier sees {len(self.features)} feature maps, got False."
            )
        if classes is not None:
            checks.integer("classes", classes)
        if classes not in (None, self.classes):
            raise ValueError(
                f"classes must be None or the {self.classes} classes of backbone "
                f"'{self.model.name}', got {classes!r}."
            )
        if classifier_activation is None and not self.is_logits:
            raise ValueError(
                "classifier_activation must not be None for a backbone with its own, "
                f"got None for '{self.model.name}', which ends in a {self.posterior}."
            )


def posterior_kind(model):
    """`"softmax"` or `"sigmoid"` if that is what a model gives, `None` for logits."""
    ends = graph.nearest(
        model.outputs, lambda node: not _keeps_posterior(node.operation)
    )
    kinds = {_kind_of(node) for node in ends}
    return kinds.pop() if len(kinds) == 1 else None


def posterior_end(model):
    """The layer whose softmax or sigmoid makes the posterior; nothing for logits.

    Returns:
        a set of one layer, or of none.

    Raises:
        ValueError: if it takes several calls to make the posterior, or there are
            neither posteriors nor scores.
    """
    ends = graph.nearest(
        model.outputs, lambda node: not _keeps_posterior(node.operation)
    )
    if posterior_kind(model) is None:
        for node in ends:
            activation = getattr(node.operation, "activation", None)
            if activation not in (None, keras.activations.linear):
                raise ValueError(
                    "model must end in a softmax, a sigmoid or scores, got "
                    f"'{model.name}', which ends in {activation.__name__}."
                )
        return set()
    layer = ends[0].operation
    if len(ends) > 1 or len(graph.layer_outputs(model, layer)) > 1:
        raise ValueError(
            "model must have one posterior, so that there are scores before it, got "
            f"'{model.name}', which makes one of several."
        )
    return {layer}


def _keeps_posterior(operation):
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.linear
    # A cast in float32 is an operation without a class that Keras shows.
    return isinstance(operation, _KEEP_POSTERIOR) or type(operation).__name__ == "Cast"


def _has_weights(node):
    return bool(getattr(node.operation, "weights", None))


def _kind_of(node):
    """`"softmax"` or `"sigmoid"` if that is what a call ends in, else `None`."""
    if graph.has_graph(node.operation):
        return posterior_kind(node.operation)
    activation = getattr(node.operation, "activation", None)
    kind = getattr(activation, "__name__", type(node.operation).__name__.lower())
    return kind if kind in ("softmax", "sigmoid") else None
