"""A classifier as saliency methods call it: with edits, and never changed."""

import dataclasses
import warnings
from collections.abc import Callable

import keras
from keras import ops

from kfeedback import graph
from kfeedback.backend import value_and_gradient
from kfeedback.classifier import Head, posterior_end
from kfeedback.explain import relus


@dataclasses.dataclass(frozen=True)
class Site:
    """One call of an operation whose output gets a gate.

    Attributes:
        operation: a layer, or an operation of `keras.ops`.
        call: int, which of its calls, from 0.
        output: its symbolic output.
        activate: the activation, a function of its pre-activation.
    """

    operation: keras.Operation
    call: int
    output: keras.KerasTensor
    activate: Callable


class Network:
    """A functional classifier that is called with edits, such as gates on its ReLUs.

        y = z ∘ ReLU(x)

    Gates and other edits are arguments of a call: nothing of an image stays here, and
    the layers of the model are called, never copied or changed.

    Args:
        model: a functional `keras.Model` that gives `(B, classes)`: softmax or sigmoid
            posteriors, or logits.
        gate_layers: `None` for every ReLU (also of 6, leaky, PReLU or at the end of a
            layer) that gives a feature map `(B, H, W, C)` and follows no dense layer,
            but for one on a side path such as that of squeeze and excitation; or
            layers, or names, that give such maps.
        gated: bool, `False` for a network without gates.
        needs_relus: bool, whether there has to be a ReLU where gates would stand.

    Attributes:
        model: the classifier, nothing nested in it.
        classes: int; 2 for a single sigmoid, whose class 1 it is, class 0 the rest.
        features: symbolic last feature maps before the classifier and its pooling.
        relus: list of `Site`, every ReLU, in the order of their calls.
        sites: list of `Site`, those with a gate.

    Raises:
        TypeError: if an argument has another type.
        ValueError: if the model has no such end or no such layer.

    Example:

        network = Network(model)
        scores, features = network.first_pass(images)
    """

    def __init__(self, model, gate_layers=None, *, gated=True, needs_relus=False):
        self.model = graph.flatten(model)
        if len(self.model.inputs[0].shape) != 4:
            raise ValueError(
                "model must take images (B, H, W, C), got "
                f"'{self.model.name}' with input {tuple(self.model.inputs[0].shape)}."
            )
        graph.check_channels_last(self.model)
        head = Head(self.model, argument="model")
        self.classes = max(2, head.classes)
        self._is_single = head.classes == 1
        self.features = _last_maps(head)
        self.is_sigmoid = head.posterior == "sigmoid"
        self._end = posterior_end(self.model)
        calls = graph.nodes(self.model.inputs, self.model.outputs)
        self.relus = _sites(calls, lambda node: relus.is_relu(self.model, node))
        sites = []
        if gated or needs_relus:
            sites = _gated_sites(self, calls, gate_layers)
        self.sites = sites if gated else []
        self._frontier, self._needs_image = _frontier(self.model, calls, self.sites)

    def scores(self, images, edit=None, *, sites=None, linear=(), inputs=None):
        """The scores before the softmax or sigmoid.

        Args:
            images: `(B, H, W, C)`.
            edit: function of a site's number and output that gives what follows it.
            sites: those to edit instead of the gated ones.
            linear: layers without their activation, as in `graph.rerun`.
            inputs: dict from symbolic tensors to values that take their places.

        Returns:
            float32 `(B, classes)`.
        """
        sites = self.sites if sites is None else sites
        edits = {} if edit is None else _edits(sites, edit)
        x = images if inputs is None else inputs
        scores = graph.rerun(
            self.model, x, edits, linear=linear, linear_last=self._end, training=False
        )
        scores = ops.cast(scores, "float32")
        # σ(−s) = 1 − σ(s)
        return ops.concatenate([-scores, scores], -1) if self._is_single else scores

    def gradient(self, images, targets, edit=None, *, objective=None, **kwargs):
        """The gradient ∂s_k/∂I of a class by the image: float32 `(B, H, W, C)`.

        Args:
            images: `(B, H, W, C)`.
            targets: int32 `(B,)`, the classes k.
            objective: function of scores and targets that is differentiated instead of
                the score s_k.
            edit, **kwargs: as for `scores`.
        """

        def score(x):
            return (objective or target_scores)(self.scores(x, edit, **kwargs), targets)

        return value_and_gradient(score, ops.cast(images, "float32"))[1]

    def input_map(self, images, targets, *args, **kwargs):
        """The map max_c |∂s_k/∂I_c|, over the channels c of images: `(B, H, W)`.

        The arguments are as for `gradient`.
        """
        gradient = self.gradient(images, targets, *args, **kwargs)
        return ops.max(ops.abs(gradient), axis=-1)

    def last_maps(self, images, targets, objective=None):
        """The values of `features` for images, and ∂s_k of each: two lists.

        The arguments are as for `gradient`.
        """
        outputs = self.features
        if not outputs:
            return [], []
        values = graph.rerun(self.model, images, outputs=list(outputs), training=False)

        def score(values):
            inputs = dict(zip(outputs, values, strict=True))
            return (objective or target_scores)(
                self.scores(None, inputs=inputs), targets
            )

        return values, value_and_gradient(score, values)[1]

    def posterior(self, scores):
        """Softmax, or sigmoid where the model gives one."""
        return ops.sigmoid(scores) if self.is_sigmoid else ops.softmax(scores, axis=-1)

    def first_pass(self, images):
        """The plain forward pass.

        Returns:
            `(scores, features)`: `(B, classes)`, and the output of every site.
        """
        found = {}

        def keep(number, features):
            found[number] = features
            return features

        scores = self.scores(images, keep)
        return scores, [found[number] for number in range(len(self.sites))]

    def gated_scores(self, gates, images, features, gate):
        """The scores with gates; what lies below the first gates is not run again.

        Args:
            gates: list of tensors like the sites' outputs.
            images: `(B, H, W, C)`.
            features: what `first_pass` gave for them.
            gate: function of the features and the gate of one site.

        Returns:
            float32 `(B, classes)`.
        """
        inputs = {
            self.sites[n].output: gate(features[n], gates[n]) for n in self._frontier
        }
        if self._needs_image:
            inputs[self.model.inputs[0]] = images
        return self.scores(None, lambda n, x: gate(x, gates[n]), inputs=inputs)


def target_scores(scores, targets):
    """`scores[i, targets[i]]`."""
    hot = ops.one_hot(targets, scores.shape[-1], dtype="float32")
    return ops.sum(scores * hot, axis=-1)


def _last_maps(head):
    """The last feature maps of several pixels before the classifier and its pooling."""

    def is_map(node):
        shape = node.outputs[0].shape
        is_one = len(shape) == 4 and shape[1] == shape[2] == 1
        return len(shape) == 4 and not is_one and not _is_pooling_or_dropout(node)

    return [node.outputs[0] for node in graph.nearest(head.inputs, is_map)]


def _is_pooling_or_dropout(node):
    """Whether a call pools, however it is written, or drops."""
    if graph.layer_has_weights(node.operation):  # whatever its name, as PoolFormer's
        return False
    name = type(node.operation).__name__
    if "Pool" in name or "Dropout" in name:
        return True
    if len(node.input_tensors) != 1:
        return False
    before, after = node.input_tensors[0].shape, node.outputs[0].shape
    if len(before) != 4 or before[3] != after[3] or None in (*before[1:], *after[1:]):
        return False
    return before[1] * before[2] > after[1] * after[2]


def _gated_sites(network, calls, gate_layers):
    maps = _maps_before_dense(calls)
    if gate_layers is not None:
        return _listed(network.model, calls, maps, gate_layers)
    seen = {id(site.output) for site in network.relus}
    several = relus.of_several(network.model, calls, seen)
    if several:
        raise ValueError(
            "model must make each ReLU by one call, such as keras.layers.ReLU, got "
            f"'{network.model.name}', which makes one of several calls, of which "
            f"'{several[0].operation.name}' is the last."
        )
    hidden = [node.operation.name for node in calls if relus.may_hide_one(node, seen)]
    if hidden:
        warnings.warn(
            "ReLUs inside of layers of their own kind count as none: in "
            f"'{network.model.name}' {_shown(hidden)} may have some.",
            stacklevel=2,
        )
    found = [site for site in network.relus if id(site.output) in maps]
    if not found:
        raise ValueError(_no_relu(network.model, calls))
    return found


def _sites(calls, wanted):
    sites, counts = [], {}
    for node in calls:
        number = counts.get(id(node.operation), 0)
        counts[id(node.operation)] = number + 1
        if len(node.outputs) == 1 and wanted(node):
            activate = relus.activation(node)
            sites.append(Site(node.operation, number, node.outputs[0], activate))
    return sites


def _edits(sites, edit):
    """Edits for `graph.rerun`, in which each call of a layer is a site of its own."""
    numbers = {}
    for number, site in enumerate(sites):
        numbers.setdefault(site.operation, {})[site.call] = number

    def of(own):
        count = iter(range(max(own) + 1))

        def apply(features):
            call = next(count, None)
            return edit(own[call], features) if call in own else features

        return apply

    return {operation: of(own) for operation, own in numbers.items()}


def _maps_before_dense(calls):
    """Ids of the feature maps to which not every way leads through a dense layer.

    Dense layers are those with a vector as input.
    """
    after, maps = set(), set()
    for node in calls:
        dense = isinstance(node.operation, keras.layers.Dense)
        dense = dense and len(node.input_tensors[0].shape) == 2
        below = all(id(x) in after for x in node.input_tensors)
        for x in node.outputs:
            if dense or below:
                after.add(id(x))
            elif len(x.shape) == 4:
                maps.add(id(x))
    return maps


def _listed(model, calls, maps, gate_layers):
    wanted = graph.get_layers(model, gate_layers, "gate_layers")
    sites = _sites(calls, lambda node: any(node.operation is one for one in wanted))
    for layer in wanted:
        own = [site for site in sites if site.operation is layer]
        if not own or any(id(site.output) not in maps for site in own):
            raise ValueError(
                "gate_layers must be layers with an output (B, H, W, C) that follow no "
                f"dense layer of '{model.name}', got "
                f"{getattr(layer, 'name', layer)!r}, which is none."
            )
    return sites


def _no_relu(model, calls):
    others = [
        node.operation.name
        for node in calls
        if relus.is_other(node) and len(node.outputs[0].shape) == 4
    ]
    hint = (
        f"has other activations in {_shown(others)}; gate_layers can name those to gate"
        if others
        else "has no activation that gate_layers could name either"
        if not any(len(node.outputs[0].shape) == 4 for node in calls)
        else "has none; gate_layers can name other layers to gate"
    )
    return (
        "model must have a ReLU on a feature map (B, H, W, C) before any dense layer, "
        f"got '{model.name}', which {hint}."
    )


def _shown(names):
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _frontier(model, calls, sites):
    """Numbers of the sites that no other leads to, and whether more is needed.

    What lies below them is the same for all gates.
    """
    number = {id(site.output): n for n, site in enumerate(sites)}
    repeated = {s.operation for s in sites if s.call} | {
        s.operation
        for s in sites
        if sum(node.operation is s.operation for node in calls) > 1
    }
    gated, free, frontier = set(), {id(model.inputs[0])}, []
    for node in calls:
        above = any(id(x) in gated for x in node.input_tensors)
        for x in node.outputs:
            n = number.get(id(x))
            first = n is not None and not above and node.operation not in repeated
            if first:
                frontier.append(n)
            elif any(id(y) in free for y in node.input_tensors):
                free.add(id(x))
            if above or n is not None:
                gated.add(id(x))
    return frontier, id(model.outputs[0]) in free
