"""Saliency maps as functions of tensors, in `keras.ops`: feedback and its rivals."""

import dataclasses

from keras import ops

from kfeedback.backend import loop_body, value_and_gradient

METHODS = (
    "feedback",
    "gradient",
    "deconvnet",
    "guided_backpropagation",
    "grad_cam",
)

UPDATE_RULES = ("gradient_ascent", "recovering", "selective_pruning")

STARTS = ("activations", "half")


@dataclasses.dataclass(frozen=True)
class Feedback:
    """How the gates are found; see `kfeedback.FeedbackCNN`."""

    iterations: int
    step_size: float
    sparsity: float
    update_rule: str
    start: str
    normalize: bool


def saliency_maps(network, method, feedback, images, targets, features):
    """Maps of several targets an image.

    Args:
        network: `Gated`.
        method: one of `METHODS`.
        feedback: `Feedback`.
        images: `(B, H, W, C)`.
        targets: int32 `(B, K)`.
        features: the output of every site, from the network's `first_pass`.

    Returns:
        float32 `(B, K, H, W)`.
    """
    count = targets.shape[1]
    flat = ops.reshape(targets, (-1,))
    if method == "feedback":
        repeated = _repeat(images, count)
        features = [_repeat(x, count) for x in features]
        gates = find_gates(network, feedback, repeated, features, flat)
        maps = feedback_map(network, repeated, gates, flat)
    else:
        function = _RIVALS[method]
        maps = function(network, _repeat(images, count), flat)
    height, width = ops.shape(images)[1:3]
    return ops.reshape(maps, (-1, count, height, width))


def find_gates(network, feedback, images, features, targets):
    """The gates that maximize the score of a class, before they are binarized.

    Args:
        network: `Gated`.
        feedback: `Feedback`.
        images: `(B, H, W, C)`.
        features: the output of every site for them, from `first_pass`.
        targets: int32 `(B,)`.

    Returns:
        list of float32 tensors like `features`, between 0 and 1.
    """
    rule = feedback.update_rule
    fired = [ops.cast(x > 0, "float32") for x in features]
    start = 0.5 if rule == "gradient_ascent" and feedback.start == "half" else 1.0
    gates = [start * z for z in fired]

    def gradients(gates):
        def score(gates):
            scores = network.gated_scores(gates, images, features, _GATES[rule])
            return take(scores, targets)

        return value_and_gradient(score, gates)[1]

    def update(_, gates):
        found = gradients(gates)
        if rule != "gradient_ascent":
            return [ops.cast(g > 0, "float32") for g in found]
        step, sparsity = feedback.step_size, feedback.sparsity
        steps = [step / _scale(g) if feedback.normalize else step for g in found]
        return [
            ops.clip(z + (g * step_of_layer - step * sparsity), 0.0, 1.0)
            for z, g, step_of_layer in zip(gates, found, steps, strict=True)
        ]

    return ops.fori_loop(0, feedback.iterations, loop_body(update), gates)


def feedback_map(network, images, gates, targets):
    """max over channels of |∂s_k/∂I| at the binarized gates: `(B, H, W)`."""
    binary = [ops.cast(z > 0.5, "float32") for z in gates]
    return _input_map(
        images,
        lambda x: take(
            network.scores(x, lambda n, features: multiply(features, binary[n])),
            targets,
        ),
    )


def take(scores, targets):
    """`scores[i, targets[i]]`."""
    hot = ops.one_hot(targets, scores.shape[-1], dtype="float32")
    return ops.sum(scores * hot, axis=-1)


def multiply(features, gate):
    """A gate: y = z ∘ r."""
    return features * ops.cast(gate, features.dtype)


def _pruning(features, gate):
    """The same; what reaches the gate's gradient is ∂s/∂y instead of r ∂s/∂y."""
    return _gate_with(features, gate, lambda up, gate: up * gate)


def _recovering(features, gate):
    """The same; down goes ∂s/∂y where it is positive: through the gates just found."""
    return _gate_with(features, gate, lambda up, gate: ops.relu(up))


def _gate_with(features, gate, down):
    @ops.custom_gradient
    def apply(features, gate):
        cast = ops.cast(gate, features.dtype)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return down(upstream, cast), ops.cast(upstream, "float32")

        return features * cast, gradient

    return apply(features, gate)


_GATES = {
    "gradient_ascent": multiply,
    "selective_pruning": _pruning,
    "recovering": _recovering,
}


def _gradient(network, images, targets):
    return _input_map(images, lambda x: take(network.scores(x), targets))


def _guided_backpropagation(network, images, targets):
    """Springenberg et al., 2015: negative gradients stop at every ReLU."""

    def score(x):
        scores = network.scores(x, lambda _, y: _rectify(y, y), sites=network.relus)
        return take(scores, targets)

    return _input_map(images, score)


def _deconvnet(network, images, targets):
    """Zeiler and Fergus, 2014: what goes down passes the ReLU, whatever came up."""
    relus = network.relus

    def score(x):
        def edit(n, y):
            operation = relus[n].operation
            return _rectify(y, (getattr(operation, "activation", None) or operation)(y))

        linear = {site.operation for site in relus}
        return take(network.scores(x, edit, sites=relus, linear=linear), targets)

    return _input_map(images, score)


def _rectify(x, value):
    """`value`; only positive gradients go down, all of those, and straight to x."""

    @ops.custom_gradient
    def apply(x, value):
        def gradient(*args, upstream=None):
            up = ops.relu(args[0] if upstream is None else upstream)
            return up, ops.zeros_like(up)

        return value, gradient

    return apply(x, value)


def _grad_cam(network, images, targets):
    """Selvaraju et al., 2017: ReLU of the last feature maps weighted by mean gradients.

    The map is enlarged to the image bilinearly.
    """
    outputs = network.features
    values = network.values(images, outputs)

    def score(values):
        inputs = dict(zip(outputs, values, strict=True))
        return take(network.scores(None, inputs=inputs), targets)

    _, gradients = value_and_gradient(score, values)
    size = tuple(ops.shape(images)[1:3])
    total = 0.0
    for x, gradient in zip(values, gradients, strict=True):
        weight = ops.mean(gradient, axis=(1, 2), keepdims=True)
        cam = ops.relu(ops.sum(weight * x, axis=-1, keepdims=True))
        cam = ops.cast(cam, "float32")
        cam = ops.image.resize(cam, size, data_format="channels_last")
        total = total + ops.squeeze(cam, axis=-1)
    return total


_RIVALS = {
    "gradient": _gradient,
    "deconvnet": _deconvnet,
    "guided_backpropagation": _guided_backpropagation,
    "grad_cam": _grad_cam,
}


def _input_map(images, score):
    images = ops.cast(images, "float32")
    _, gradient = value_and_gradient(score, images)
    return ops.max(ops.abs(gradient), axis=-1)


def _scale(gradient):
    """The largest |g| of an image in one layer, or 1 where there is none."""
    axes = tuple(range(1, len(gradient.shape)))
    most = ops.max(gradient, axis=axes, keepdims=True)
    largest = ops.maximum(most, -ops.min(gradient, axis=axes, keepdims=True))
    return ops.where(largest > 0, largest, ops.ones_like(largest))


def _repeat(x, count):
    return x if count == 1 else ops.repeat(x, count, axis=0)
