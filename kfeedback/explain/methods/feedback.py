"""Feedback of Cao and others: gates on ReLUs that keep what speaks for a class."""

import math

import keras
from keras import ops

from kfeedback import checks
from kfeedback.backend import loop_body, value_and_gradient
from kfeedback.explain.methods.base import Method, register
from kfeedback.explain.methods.evidence import blur, contrast, evidence
from kfeedback.explain.network import Network, target_scores

UPDATE_RULES = ("gradient_ascent", "recovering", "selective_pruning")

STARTS = ("activations", "half")

OBJECTIVES = ("contrast", "score")

READOUTS = ("evidence", "gradient")

_SPREAD = 1 / 16  # of the evidence, as `smoothing`


@register("feedback")
class Feedback(Method):
    """Look and Think Twice: gates on ReLUs find what speaks for a class.

    A gate z in 0 to 1 stands on every neuron behind a ReLU of the feature maps,
    y = z ∘ ReLU(x). For a class k, the loop maximizes over all gates at once

        J(I, z) − λ ‖z‖₁,      z ← clip(z + α (g − λ), 0, 1),     g = ∂J/∂z

    with I the image and J, of the scores s before the softmax, how far that of class k
    is above its rivals in the plain network, whose scores are s°:

        J = s_k − Σ_j p_j s_j,                  p = softmax over j ≠ k of s°_j / T

    T is the standard deviation of s° over the classes. The gates end as 0 or 1, cut at
    0.5. The map is the root of the gradient at these gates, times what the plain
    network finds for the class at a place of its last feature maps y:

        M = G(√ max_c |∂J/∂I_c|) ∘ G'(E),       E = max(0, Σ_c y_c ∂J/∂y_c)

    with G and G' Gaussians, and E enlarged to the image. A box holds 90 % of the energy
    of M, and 95 % of that of a map by `readout="gradient"`. (The layer of that name, of
    LRNet, is `kfeedback.layers.Feedback`.)

    Args:
        iterations: int ≥ 1, a forward and a backward pass each.
        step_size: α > 0.
        sparsity: λ ≥ 0; with `normalize`, as a share of the largest g of a layer. By
            default 0.02 · min(1, 64² / (H W))² for images of H × W pixels.
        update_rule: `"gradient_ascent"`; or, of the authors' later work, `"recovering"`
            (z = 1 where the gradient that reaches the gate is positive, layer by layer
            on the way down) or `"selective_pruning"` (the same, all layers after the
            backward pass). α, λ and `start` are of the first alone.
        gate_layers: layers, or names, with an output `(B, H, W, C)`. By default every
            ReLU, also of 6, leaky, PReLU, or fused into a layer, before the dense
            layers.
        start: `"half"`, gates at 0.5 where the ReLU fired, 0 elsewhere; or
            `"activations"`, at 1 there.
        normalize: bool, divides g by the largest |g| of an image in the layer: α and λ
            then mean the same in every layer and every network.
        objective: `"contrast"`, J as above; or `"score"`, s_k in place of J for the
            gates and their gradient. For a model of sigmoids J is s_k in any case.
        readout: `"evidence"`, M as above; or `"gradient"`, max_c |∂J/∂I_c| alone. E is
            of J with either objective.
        smoothing: deviation of G, as a share of the longer side of an image; that of G'
            is a sixteenth. For `"evidence"` alone.

    Raises:
        TypeError: if `normalize` is no bool; by `network`, if `gate_layers` is none of
            these.
        ValueError: if another argument is not as above; by `network`, if the model has
            no such layer, or no ReLU.

    Reference:
        Cao et al., Look and think twice: capturing top-down visual attention with
        feedback convolutional neural networks, 2015; the later rules: Cao et al.,
        Feedback convolutional neural network for visual localization and segmentation,
        2019.

    Departures: `start`, `normalize`, `objective`, `readout` and the default λ. The
    paper's rule is `Feedback(sparsity=λ, start="activations", normalize=False,
    objective="score", readout="gradient")`; at the published α its gates hardly move,
    as a gradient of a deep layer is orders of magnitude smaller than one of a shallow
    layer. `start` and `normalize` were chosen by measurement on digits
    (`applications/results/look_and_think_twice`), the rest on digits of 64 and
    photographs of 224 and 240 pixels (`applications/results/photographs`), λ at these
    sizes only. On a network with batch norm and linear bottlenecks the gates' gradient
    alone says little of the class; E is there to say it.

    Example:

        method = explain.Feedback(iterations=20)
        maps = explain.saliency(model, images, method=method)
    """

    def __init__(
        self,
        iterations=10,
        step_size=0.1,
        sparsity=None,
        update_rule="gradient_ascent",
        gate_layers=None,
        start="half",
        normalize=True,
        objective="contrast",
        readout="evidence",
        smoothing=1 / 56,
    ):
        self.iterations = checks.integer("iterations", iterations)
        self.step_size = checks.number("step_size", step_size, above=0, below=math.inf)
        if sparsity is not None:
            checks.number("sparsity", sparsity, least=0, below=math.inf)
        self.sparsity = sparsity
        self.update_rule = checks.one_of("update_rule", update_rule, UPDATE_RULES)
        self.gate_layers = gate_layers
        self.start = checks.one_of("start", start, STARTS)
        self.normalize = checks.boolean("normalize", normalize)
        self.objective = checks.one_of("objective", objective, OBJECTIVES)
        self.readout = checks.one_of("readout", readout, READOUTS)
        self.smoothing = checks.number("smoothing", smoothing, least=0, most=1)

    def network(self, model):
        """The model with a gate on every ReLU, or on `gate_layers`."""
        return Network(model, self.gate_layers)

    def maps(self, network, images, targets, features):
        """One map an image: `(B, H, W)`."""
        contrasts = target_scores
        if not network.is_sigmoid:
            contrasts = contrast(network.scores(images), targets)
        objective = contrasts if self.objective == "contrast" else target_scores
        gates = self.gates(network, images, targets, features, objective)
        found = gated_map(network, images, targets, gates, objective)
        if self.readout == "gradient":
            return found
        found = blur(ops.sqrt(found), self.smoothing)
        coarse = evidence(network, images, targets, contrasts)
        return found if coarse is None else found * blur(coarse, _SPREAD)

    @property
    def energy(self):
        """The share of a map's energy that a box holds where none is given."""
        return 0.9 if self.readout == "evidence" else Method.energy

    def gates(self, network, images, targets, features, objective=target_scores):
        """The gates that maximize an objective, before they are binarized.

        Args:
            network: what `network` gave.
            images: `(B, H, W, C)`.
            targets: int32 `(B,)`.
            features: the output of every site for them, from `first_pass`.
            objective: function of scores and targets that gives J `(B,)`.

        Returns:
            list of float32 tensors like `features`, between 0 and 1.
        """
        ascends = self.update_rule == "gradient_ascent"
        start = 0.5 if ascends and self.start == "half" else 1.0
        gates = [start * ops.cast(x > 0, "float32") for x in features]

        def score(gates):
            gate = _GATES[self.update_rule]
            scores = network.gated_scores(gates, images, features, gate)
            return objective(scores, targets)

        def update(_, gates):
            found = value_and_gradient(score, gates)[1]
            if not ascends:
                return [ops.cast(g > 0, "float32") for g in found]
            step, sparsity = self.step_size, self.sparsity_for(images)
            steps = [step / _scale(g) if self.normalize else step for g in found]
            return [
                ops.clip(z + (g * step_of_layer - step * sparsity), 0.0, 1.0)
                for z, g, step_of_layer in zip(gates, found, steps, strict=True)
            ]

        return ops.fori_loop(0, self.iterations, loop_body(update), gates)

    def sparsity_for(self, images):
        """λ for images `(B, H, W, C)`.

        Args:
            images: tensor; only their size matters.
        """
        if self.sparsity is not None:
            return self.sparsity
        _, height, width, _ = ops.shape(images)
        share = ops.minimum(1.0, 64 * 64 / ops.cast(height * width, "float32"))
        return 0.02 * ops.square(share)

    def get_config(self):
        """The arguments, a dict, with the names of layers."""
        layers = self.gate_layers
        if isinstance(layers, str | keras.Operation):
            layers = [layers]
        if layers is not None:
            layers = sorted({getattr(layer, "name", layer) for layer in layers})
        return {**super().get_config(), "gate_layers": layers}


def gated_map(network, images, targets, gates, objective=None):
    """max over channels of |∂s_k/∂I| at the binarized gates: `(B, H, W)`."""
    binary = [ops.cast(z > 0.5, "float32") for z in gates]

    def edit(n, x):
        return multiply(x, binary[n])

    return network.input_map(images, targets, edit, objective=objective)


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


def _scale(gradient):
    """The largest |g| of an image in one layer, or 1 where there is none."""
    axes = tuple(range(1, len(gradient.shape)))
    most = ops.max(gradient, axis=axes, keepdims=True)
    largest = ops.maximum(most, -ops.min(gradient, axis=axes, keepdims=True))
    return ops.where(largest > 0, largest, ops.ones_like(largest))
