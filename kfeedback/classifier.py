"""Where a classifier ends: its last layers with weights, and what follows them.

What says whether a model gives posteriors or logits stands here, and nowhere else. It
is measured: the end of the model, from the inputs of its last layers with weights on,
is run on random numbers, with random weights, and the outputs are looked at.
"""

import warnings

import keras
import numpy as np
from keras import ops

from kfeedback import checks, graph

_LARGE = 100  # times what goes in: by this a bound is told from a chance
_PRECISION = 2e-2  # to which rows add up to 1: bfloat16 has 8 bits
_SINGLE = 1e-3  # to which posteriors of single precision agree


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
        least = 1 if self.posterior == "sigmoid" else 2
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
    model,
    *,
    from_logits=False,
    takes=("softmax",),
    ranks=(2, 3),
    least=1,
    argument="model",
):
    """Raises unless a functional model gives the posteriors, or logits, that it should.

    Args:
        model: a functional `keras.Model`.
        from_logits: bool; `True` wants logits, `False` posteriors.
        takes: the kinds of posteriors that will do, as `posterior_kind` names them:
            `"softmax"`, one distribution; `"sigmoid"`, a posterior for each class on
            its own; `None`, neither, such as logits or a scaled softmax.
        ranks: those of the output that will do: 2 for `(B, classes)`, 3 for `(B, T,
            classes)`.
        least: the fewest classes that will do; of a softmax there are two or more.
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
    if shape[-1] < (2 if kind == "softmax" else least):
        raise ValueError(
            f"{argument} must have two classes or more, as a softmax of one is 1, got "
            f"'{model.name}' with output {shape}."
        )
    return kind


def posterior_kind(model):
    """`"softmax"` or `"sigmoid"` if that is what a model gives, `None` for logits.

    By what its outputs are: rows that are ≥ 0 and add up to 1; or numbers that all lie
    in 0 to 1, however large what goes into the end is; or neither.
    """
    end = _End(model)
    return _kind_of(end, end.outputs())


def is_constant(activation):
    """Whether an activation gives a single class the same whatever its score."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of a softmax over one
        values = activation(ops.convert_to_tensor([[-3.0], [0.0], [3.0]]))
    return bool(np.ptp(ops.convert_to_numpy(ops.cast(values, "float32"))) == 0)


def posterior_end(model):
    """The layer that makes the posterior of scores; nothing for logits.

    Returns:
        a set of one layer, or of none; of a layer that is called several times, as by
        a network that feeds its posterior back, the last call makes the posterior.

    Raises:
        ValueError: if no single call makes a softmax or sigmoid of scores, or there are
            neither posteriors nor scores.
    """
    end = _End(model)
    posterior = end.outputs()
    kind = _kind_of(end, posterior)
    if kind is None:
        for node in graph.nearest(model.outputs, lambda node: True):
            activation = getattr(node.operation, "activation", None)
            if activation not in (None, keras.activations.linear):
                raise ValueError(
                    "model must end in a softmax, a sigmoid or scores, got "
                    f"'{model.name}', which ends in {activation.__name__}."
                )
        return set()
    calls = graph.nodes(model.inputs, model.outputs)
    cause = None
    for node in reversed(end.calls):
        if not _is_last_call(model, node, calls):
            continue
        try:
            scores = end.outputs([node.operation])
        except Exception as error:  # whatever a layer raises without its activation
            cause = cause or error
            continue
        if _is_posterior_of(scores, posterior, kind, end.precision):
            return {node.operation}
    tried = f" ({checks.reason(cause)})" if cause else ""
    raise ValueError(
        "model must have one posterior, so that there are scores before it, got "
        f"'{model.name}', in which no single layer makes a {kind} of scores{tried}."
    ) from cause


class _End:
    """The end of a functional model, to be run on random numbers.

    Args:
        model: a functional `keras.Model`.
    """

    def __init__(self, model):
        model = graph.seen_through(model)
        last = last_with_weights(model.outputs)
        sources = {id(x): x for node in last for x in node.input_tensors}
        if not sources or not _depends_on(model.outputs, sources):
            sources |= {id(x): x for x in model.inputs}
        self._model = model
        self.calls = graph.nodes(list(sources.values()), model.outputs)
        tensors = [
            x for node in self.calls for x in (*node.input_tensors, *node.outputs)
        ]
        single = all(x.dtype in ("float32", "float64") for x in tensors)
        self.precision = _SINGLE if single else _PRECISION
        self._inputs, self._weights = graph.random_trial(
            sources.values(), [node.operation for node in self.calls]
        )

    def outputs(self, linear=(), scale=1):
        """What the end gives for its inputs × `scale`, float32.

        `linear` is as `linear_last` of `graph.rerun`.
        """
        inputs = {
            x: value * scale if "float" in x.dtype else value
            for x, value in self._inputs.items()
        }
        with (
            warnings.catch_warnings(),
            keras.StatelessScope(state_mapping=self._weights),
        ):
            warnings.simplefilter("ignore")  # Keras warns of a softmax over one
            found = graph.rerun(self._model, inputs, linear_last=linear, training=False)
        return ops.convert_to_numpy(ops.cast(found, "float32"))


def _is_posterior_of(scores, posterior, kind, precision):
    """Whether a softmax or sigmoid of scores is the posterior."""
    if scores.shape != posterior.shape:
        return False
    function = ops.sigmoid if kind == "sigmoid" else ops.softmax
    again = ops.convert_to_numpy(function(ops.convert_to_tensor(scores)))
    return bool(np.allclose(again, posterior, rtol=0, atol=precision))


def _is_last_call(model, node, calls):
    """Whether all other calls of a call's operation lead to it."""
    others = [x for x in calls if x.operation is node.operation and x is not node]
    if not others:
        return True
    before = graph.nodes(model.inputs, node.input_tensors)
    return all(any(x is one for one in before) for x in others)


def _depends_on(outputs, sources):
    """Whether outputs follow from sources alone."""
    try:
        keras.Function(list(sources.values()), outputs)
    except ValueError:
        return False
    return True


def _kind_of(end, rows):
    """`posterior_kind` by what an end gave."""
    rows = rows.reshape(-1, rows.shape[-1]) if rows.ndim > 1 else rows[:, None]
    if not (rows.size and np.isfinite(rows).all() and rows.min() >= 0):
        return None
    if np.abs(rows.sum(axis=-1) - 1).max() <= _PRECISION:
        return "softmax"
    if not 0 < rows.max() <= 1:
        return None
    # A mean of many scores ≥ 0 may happen to lie below 1, but not whatever goes in.
    return None if end.outputs(scale=_LARGE).max() > 1 else "sigmoid"
