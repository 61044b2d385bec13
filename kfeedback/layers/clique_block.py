"""The alternately updated clique of CliqueNet."""

import dataclasses

import keras
from keras import ops

from kfeedback import checks
from kfeedback.layers._layer import Layer
from kfeedback.layers.fused_batch_norm import (
    batch_norm,
    lazy_moments,
    normalize_by_moments,
    update_moving_average,
)
from kfeedback.layers.initializers import with_seed_offset


@keras.saving.register_keras_serializable(package="kfeedback")
class CliqueBlock(Layer):
    r"""A block whose layers are updated in turn, each from all the others.

    With the input `X_0` and n layers `X_1 … X_n` of k filters, stage I makes the
    layers, and every further stage makes them anew with the same kernels:

        X_i(1) = g(Σ_{l<i} W_li ∗ X_l(1)),                             l from 0,
        X_i(s) = g(Σ_{0<l<i} W_li ∗ X_l(s) + Σ_{m>i} W_mi ∗ X_m(s-1)), s = 2, 3, …

    g is batch norm → ReLU → the sum of convolutions, which is one convolution of the
    concatenation → dropout; each (stage, layer) has a batch norm of its own, no
    convolution a bias. With the bottleneck the kernels `W_li` are 1×1 and are followed
    by batch norm → ReLU → a k×k-kernel convolution to `filters` → dropout, whose
    kernel belongs to the layer in all its stages.

    The rows of `kernel_i` are `W_0i`, then `W_li` for all l ≠ i, ascending. So the
    kernels of stage I and those of the others are each one slice of it: nothing is
    put together anew.

    Args:
        filters: int ≥ 1, k, channels of each layer.
        layers: int ≥ 1, n; ≥ 2 with more than one stage.
        stages: int ≥ 1; 1 makes no use of feedback, and then the kernels `W_mi`, m > i,
            do not exist.
        updates: `None` for n, or an int from 0 to n: the first so many layers only
            are updated in the last stage; of no use with one stage.
        kernel_size: odd int, side of the kernels; of the second ones with a bottleneck.
        bottleneck: bool.
        dropout: fraction dropped after each convolution.
        momentum: of the moving mean and variance of the batch norms.
        epsilon: added to their variances.
        kernel_initializer: initializer of each `W_li` as a kernel of its own.
        kernel_regularizer: regularizer of the kernels.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        x: `X_0`, `(B, H, W, C)`.
        training: bool; dropout and, unless the layer is frozen, statistics of the
            batch instead of the moving ones.

    Returns:
        a list of one tensor `(B, H, W, n k)` a stage, the concatenated layers.

    Raises:
        ValueError: if a number is out of its range.

    Departures from the paper: it does not say where dropout lies in a bottleneck; here
    after both convolutions. A moving mean and variance belong to a map instead of to
    each batch norm that reads it: the values are the same.

    Reference:
        Yang et al., Convolutional neural networks with alternately updated clique,
        2018, eq. (1), table 1 and section 3; g as in its published code.

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> [tuple(stage.shape) for stage in CliqueBlock(filters=6, layers=3)(x)]
        [(2, 8, 8, 18), (2, 8, 8, 18)]
    """

    ATTRIBUTES = {"layers": "num_layers"}
    has_relus_inside = True

    def __init__(
        self,
        filters,
        layers,
        stages=2,
        updates=None,
        kernel_size=3,
        bottleneck=False,
        dropout=0.0,
        momentum=0.99,
        epsilon=1e-3,
        kernel_initializer="he_normal",
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = checks.integer("filters", filters)
        self.stages = checks.integer("stages", stages)
        self.num_layers = checks.integer("layers", layers, least=2 if stages > 1 else 1)
        self.updates = None
        if updates is not None:
            self.updates = checks.integer("updates", updates, least=0)
            if updates > layers:
                raise ValueError(
                    f"updates must be at most the {layers} layers, got {updates}."
                )
        self.kernel_size = checks.odd_integer("kernel_size", kernel_size)
        self.bottleneck = checks.boolean("bottleneck", bottleneck)
        self.dropout = checks.number("dropout", dropout, least=0, below=1)
        self.momentum = checks.number("momentum", momentum, least=0, below=1)
        self.epsilon = checks.number("epsilon", epsilon, above=0)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.seed_generator = keras.random.SeedGenerator()

    # --- Weights ---------------------------------------------------------------------

    def build(self, input_shape):
        """Makes the kernels and, for every (stage, layer), a batch norm."""
        self.channels = input_shape[-1]
        side = 1 if self.bottleneck else self.kernel_size
        self.drawn = 0  # initial kernels
        self.kernels, self.second_kernels = [], []
        for layer in range(1, self.num_layers + 1):
            others = self.num_layers if self._is_updated(layer) else layer
            self.kernels.append(
                self._add_kernel(f"kernel_{layer}", side, self.channels, others - 1)
            )
            if self.bottleneck:
                self.second_kernels.append(
                    self._add_kernel(
                        f"second_kernel_{layer}", self.kernel_size, self.filters, 0
                    )
                )
        self.norms, self.second_norms = {}, {}
        self.moving = {"input": self._add_moving("input", self.channels)}
        for stage in range(1, self.stages + 1):
            for layer in range(1, self._updates_of(stage) + 1):
                name = _name(stage, layer)
                channels = self.channels + (layer - 1) * self.filters
                if stage > 1:
                    channels = (self.num_layers - 1) * self.filters
                self.norms[name] = self._add_norm(name, channels)
                if self.bottleneck:
                    second = f"{name}_second"
                    self.second_norms[name] = (
                        self._add_moving(second, self.filters),
                        self._add_norm(second, self.filters),
                    )
                if self._is_read(stage, layer):
                    self.moving[name] = self._add_moving(name, self.filters)

    def kernel(self, source, target):
        """`W_{source, target}`, `(side, side, in, filters)`; source 0 is the input.

        Args:
            source: int, from 0 on, the layer that is read.
            target: int, from 1 on, the layer that reads.

        Raises:
            ValueError: if the block has no such kernel.
        """
        named = 0 <= source <= self.num_layers and 1 <= target <= self.num_layers
        first = 0
        if source > 0:
            first = self.channels + (source - 1 - (source > target)) * self.filters
        if not named or source == target or first >= self.kernels[target - 1].shape[2]:
            raise ValueError(
                "source, target must be two layers that the block connects, got "
                f"{source}, {target} of {self.num_layers} layers, stages={self.stages}."
            )
        size = self.channels if source == 0 else self.filters
        return self.kernels[target - 1][:, :, first : first + size]

    def _updates_of(self, stage):
        """How many layers a stage updates, from the first on."""
        is_last = stage == self.stages
        if stage > 1 and is_last and self.updates is not None:
            return self.updates
        return self.num_layers

    def _is_read(self, stage, layer):
        """Whether any update reads the layer as the stage left it."""
        later = stage < self.stages and self._updates_of(stage + 1) > 0
        return layer < self._updates_of(stage) or later

    def _is_updated(self, layer):
        """Whether any stage after the first updates a layer."""
        return any(layer <= self._updates_of(s) for s in range(2, self.stages + 1))

    def _add_kernel(self, name, side, channels, others):
        """A kernel of `channels` rows and `others` times `filters` rows."""

        inputs = [channels] + [self.filters] * others

        def initialize(shape, dtype=None):
            parts = []
            for count in inputs:
                draw = with_seed_offset(self.kernel_initializer, self.drawn)
                self.drawn += 1
                parts.append(draw((side, side, count, self.filters), dtype=dtype))
            return ops.concatenate(parts, axis=2)

        return self.add_weight(
            name=name,
            shape=(side, side, sum(inputs), self.filters),
            initializer=initialize,
            regularizer=self.kernel_regularizer,
        )

    def _add_norm(self, name, channels):
        return self._add_vectors(name, channels, {"gamma": "ones", "beta": "zeros"})

    def _add_moving(self, name, channels):
        parts = {"moving_mean": "zeros", "moving_variance": "ones"}
        return self._add_vectors(name, channels, parts, trainable=False)

    def _add_vectors(self, name, channels, parts, trainable=True):
        return [
            self.add_weight(
                name=f"{name}_{part}",
                shape=(channels,),
                initializer=initial,
                trainable=trainable,
                autocast=False,
            )
            for part, initial in parts.items()
        ]

    # --- Computation -----------------------------------------------------------------

    def call(self, x, training=None):
        """Returns the concatenated layers of every stage."""
        training = bool(training)
        image = _Map(x, self.moving["input"])
        current, outputs = [], []
        for stage in range(1, self.stages + 1):
            for layer in range(1, self._updates_of(stage) + 1):
                sources = current[: layer - 1] + current[layer:]
                if stage == 1:
                    sources = [image, *sources]
                value = self._update(sources, stage, layer, training)
                made = _Map(value, self.moving.get(_name(stage, layer)))
                current[layer - 1 : layer] = [made]
            outputs.append(ops.concatenate([m.value for m in current], axis=-1))
        return outputs

    def _update(self, sources, stage, layer, training):
        """`X_layer(stage)` from the maps that it reads, in ascending order."""
        x = self._norm_relu(sources, *self.norms[_name(stage, layer)], training)
        first = 0 if stage == 1 else self.channels
        kernel = self.kernels[layer - 1][:, :, first : first + x.shape[-1]]
        x = self._conv_drop(x, kernel, training)
        if self.bottleneck:
            moving, norm = self.second_norms[_name(stage, layer)]
            x = self._norm_relu([_Map(x, moving)], *norm, training)
            kernel = ops.convert_to_tensor(self.second_kernels[layer - 1])
            x = self._conv_drop(x, kernel, training)
        return x

    def _norm_relu(self, maps, gamma, beta, training):
        """Batch norm and ReLU of the concatenated maps."""
        x = ops.concatenate([m.value for m in maps], axis=-1)
        gamma, beta = ops.convert_to_tensor(gamma), ops.convert_to_tensor(beta)
        if not (training and self.trainable):
            mean, variance = (
                ops.concatenate([ops.convert_to_tensor(m.moving[i]) for m in maps])
                for i in (0, 1)
            )
            return ops.relu(
                normalize_by_moments(x, gamma, beta, mean, variance, self.epsilon)
            )
        known = lazy_moments([(m.value, m.memo) for m in maps])
        x, *moments = batch_norm(x, gamma, beta, self.epsilon, known)
        first = 0
        for one in maps:
            last = first + one.value.shape[-1]
            if not one.is_counted:
                one.is_counted = True
                for variable, moment in zip(one.moving, moments, strict=True):
                    update_moving_average(variable, moment[first:last], self.momentum)
            first = last
        return ops.relu(x)

    def _conv_drop(self, x, kernel, training):
        x = ops.conv(x, kernel, padding="same", data_format="channels_last")
        if training and self.dropout:
            return keras.random.dropout(x, self.dropout, seed=self.seed_generator)
        return x

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C)` to a list of `(B, H, W, n k)`."""
        shape = (*input_shape[:-1], self.num_layers * self.filters)
        return [shape] * self.stages


def _name(stage, layer):
    return f"stage{stage}_layer{layer}"


@dataclasses.dataclass
class _Map:
    """A feature map `(B, H, W, C)`, with its moving mean and variance.

    `is_counted` is whether those have moved for this batch: the first reader does it.
    `memo` keeps the moments of this batch for all readers.
    """

    value: object
    moving: list | None
    is_counted: bool = False
    memo: dict = dataclasses.field(default_factory=dict)
