"""Where a classifier ends: its last layers with weights, and what follows them.

What says whether a model gives posteriors or logits stands here, and nowhere else.
"""

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
        classifiers = last_with_weights(model.outputs)
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


def last_with_weights(tensors):
    """The nearest calls of layers with weights, on every way back from tensors."""
    return graph.nearest(tensors, lambda node: graph.layer_has_weights(node.operation))


def check_output(
    model, *, from_logits=False, takes=("softmax",), ranks=(2, 3), argument="model"
):
    """Raises unless a functional model gives the posteriors, or logits, that it should.

    Args:
        model: a functional `keras.Model`.
        from_logits: bool; `True` wants logits, `False` posteriors.
        takes: the kinds of posteriors that will do, as `posterior_kind` names them:
            `"softmax"`, one distribution; `"sigmoid"`, a posterior for each class on
            its own; `None`, what the graph does not show.
        ranks: those of the output that will do: 2 for `(B, classes)`, 3 for `(B, T,
            classes)`.
        argument: the name under which an error speaks of the model.

    Returns:
        what `posterior_kind` says.

    Raises:
        TypeError: if `from_logits` is no bool.
        ValueError: if the model gives something else.
    """
    checks.boolean("from_logits", from_logits)
    shape = tuple(model.outputs[0].shape)
    if len(shape) not in ranks or shape[-1] is None:
        shapes = {2: "(B, classes)", 3: "(B, T, classes)"}
        raise ValueError(
            f"{argument} must give {' or '.join(shapes[rank] for rank in ranks)}, got "
            f"'{model.name}' with output {shape}."
        )
    kind = posterior_kind(model)
    if from_logits and kind and kind in takes:
        raise ValueError(
            f"from_logits must be False for '{model.name}', which ends in a {kind}, "
            "got True."
        )
    if kind not in ((None,) if from_logits else takes):
        wanted = " or a ".join(filter(None, takes))
        raise ValueError(
            f"{argument} must give posteriors, by a {wanted}, or logits with "
            f"from_logits=True, got '{model.name}', which ends in "
            f"{f'a {kind}' if kind else 'neither softmax nor sigmoid'}."
        )
    return kind


def posterior_kind(model):
    """`"softmax"` or `"sigmoid"` if that is what a model gives, `None` for logits."""
    kinds = {_kind_of(node) for node in _ends(model)}
    return kinds.pop() if len(kinds) == 1 else None


def posterior_end(model):
    """The layer whose softmax or sigmoid makes the posterior; nothing for logits.

    Returns:
        a set of one layer, or of none.

    Raises:
        ValueError: if it takes several calls to make the posterior, or there are
            neither posteriors nor scores.
    """
    ends = _ends(model)
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


def _ends(model):
    """The nearest calls back from a model's outputs that make posteriors or scores."""
    return graph.nearest(
        model.outputs, lambda node: not _keeps_posterior(node.operation)
    )


def _keeps_posterior(operation):
    if graph.has_graph(operation):
        return not _ends(operation)
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.linear
    # A cast in float32 is an operation without a class that Keras shows.
    return isinstance(operation, _KEEP_POSTERIOR) or type(operation).__name__ == "Cast"


def _kind_of(node):
    """`"softmax"` or `"sigmoid"` if that is what a call ends in, else `None`."""
    if graph.has_graph(node.operation):
        return posterior_kind(node.operation)
    activation = getattr(node.operation, "activation", None)
    kind = getattr(activation, "__name__", type(node.operation).__name__.lower())
    return kind if kind in ("softmax", "sigmoid") else None
