"""Which factory made a model, and with which arguments.

Tensors of one shape and name can belong to two networks: NIN and LNIN differ by a slope
that no tensor shows. So a factory notes what it made, a weights file keeps that, and
where both sides know, they must agree.
"""

import json
import operator

import keras
import numpy as np

from kfeedback import renamed

# What may differ: it changes no weight's meaning, or names and shapes decide.
_FREE = {
    "classes",
    "classifier_activation",
    "dropout",
    "emphasis_layers",
    "feedback_initializer",
    "head_dropout",
    "include_top",
    "input_shape",
    "pooling",
    "return_sequences",
    "timesteps",
}
_WITHOUT = ("FeedbackCNN",)  # factories around a backbone without weights of their own
NOT_NOTED = ("weights", "input_tensor", "name")
"""Arguments that do not say what network it is."""


def note(model, arguments, factory):
    """Notes on a model what made it; arguments without a JSON form are left out."""
    # As text: Keras would track a dict for saving.
    object.__setattr__(
        model,
        "_kfeedback_origin",
        json.dumps({"factory": factory, "arguments": _arguments(arguments)}),
    )


def origin(model):
    """`{"factory": name, "arguments": dict}` of a model that a factory made, or `{}`.

    The arguments are all of those that have a JSON form, but for `weights`,
    `input_tensor` and `name`; a backbone is an origin itself.

    Args:
        model: any `keras.Model`.

    Example:
        >>> origin(kfeedback.models.backbones.LeNet(classes=7))["arguments"]["classes"]
        7
    """
    return json.loads(getattr(model, "_kfeedback_origin", "{}"))


def check_origin(model, about, path):
    """Raises a ValueError if a file and a model say that they are different networks.

    A network of one timestep is its backbone; and a file of a network with feedback may
    be for its backbone alone.
    """
    mine, theirs = origin(model), renamed.current(about)
    if not mine.get("factory") or not theirs.get("factory"):
        return
    a, b = _with_weights(mine), _with_weights(theirs)
    reason = _difference(a, b)
    if reason and _wraps(a) != _wraps(b):
        reason = _difference(_inner(a), _inner(b))
    if reason:
        raise ValueError(
            f"weights in {path} do not fit model '{model.name}': they are of "
            f"{call(theirs)}, got {call(mine)} ({reason})."
        )


def call(one):
    """`Factory(argument=value, …)` of an origin."""
    arguments = ", ".join(
        f"{name}={call(value) if _is_origin(value) else repr(value)}"
        for name, value in (one.get("arguments") or {}).items()
        if value is not None
    )
    return f"{one['factory']}({arguments})"


def _arguments(arguments):
    known = {}
    for name, value in arguments.items():
        if name in NOT_NOTED:
            continue
        if name == "classifier_activation" and callable(value):
            value = _name(value)
        try:
            known[name] = json.loads(json.dumps(value, default=_plain))
        except (TypeError, ValueError):
            if name == "backbone":
                known[name] = None  # there is one, nobody knows which
    return known


def _name(function):
    """What Keras calls a function; `registry.build` refuses what it does not know."""
    if hasattr(function, "__name__"):
        return keras.saving.get_registered_name(function)
    return type(function).__name__


def _plain(value):
    """What JSON has for a number of NumPy: of float32 0.2 it is 0.2."""
    if isinstance(value, np.floating):
        return float(str(value))
    return value.item() if isinstance(value, np.bool_) else operator.index(value)


def _is_origin(value):
    same = isinstance(value, dict) and set(value) == {"factory", "arguments"}
    return same and isinstance(value["arguments"], dict)


def _wraps(one):
    return one is not None and "backbone" in (one.get("arguments") or {})


def _inner(one):
    """The origin of the backbone, `None` for an unknown one; else itself."""
    if not _wraps(one):
        return one
    backbone = one["arguments"]["backbone"]
    return backbone if _is_origin(backbone) else None


def _with_weights(one):
    """The origin of what has weights: the backbone, where all around it has none."""
    once = (one.get("arguments") or {}).get("timesteps") == 1
    return _inner(one) if once or one["factory"] in _WITHOUT else one


def _difference(a, b):
    """What two origins do not share, as words, or an empty text."""
    if a is None or b is None:
        return ""
    if a["factory"] != b["factory"]:
        return "another factory"
    mine, theirs = a.get("arguments") or {}, b.get("arguments") or {}
    for name in sorted((mine.keys() & theirs.keys()) - _FREE):
        one, two = mine[name], theirs[name]
        if _is_origin(one) and _is_origin(two):
            if _difference(one, two):
                return f"another {name}"
        elif not _is_origin(one) and not _is_origin(two) and one != two:
            return f"another {name}"
    return ""
