"""Batch normalization that trains as fast as the backend can."""

import math

import keras
from keras import ops


def batch_norm(x, gamma, beta, epsilon, moments=None):
    """Normalizes every channel over batch, height and width.

    `y = γ (x - μ) / √(σ² + ε) + β`. `keras.ops` has this in several passes over the
    data; the fused kernel of TensorFlow, which Keras does not use, is faster. Under a
    strategy of TensorFlow with several replicas μ and σ² are those of the global batch.

    Args:
        x: `(B, H, W, C)`.
        gamma: γ, `(C,)`.
        beta: β, `(C,)`.
        epsilon: ε, float.
        moments: `None`, or a function that gives `(mean, variance)` of `x`, without a
            gradient, where they are known already. It is called where they are of use.

    Returns:
        `(y, mean, variance)`: y like `x`; μ and σ² (biased), `(C,)`, at least float32.
    """
    if is_fused(x.dtype):
        gamma, beta = (ops.cast(vector, "float32") for vector in (gamma, beta))
        parts = _parts(x.shape)
        if parts == 1:
            return _fused(x, gamma, beta, epsilon)
        moments = moments() if moments else _moments(x)
        return _by_moments(x, gamma, beta, epsilon, parts, *moments), *moments
    dtype = keras.backend.result_type(x.dtype, "float32")
    mean, variance = ops.moments(
        ops.cast(x, dtype), axes=(0, 1, 2), synchronized=is_replicated()
    )
    return normalize_by_moments(x, gamma, beta, mean, variance, epsilon), mean, variance


def _fused(x, gamma, beta, epsilon):
    """`batch_norm` by TensorFlow's kernel."""
    import tensorflow as tf

    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=gamma,
        offset=beta,
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=epsilon,
        is_training=True,
    )
    # The kernel gives the unbiased variance.
    count = ops.cast(ops.prod(ops.shape(x)[:3]), variance.dtype)
    return y, mean, variance * (count - 1) / count


_LANES = 16  # numbers that a processor's kernel computes at once


def _parts(shape):
    """How many neighbors to take for one pixel, so that all lanes are used.

    A processor's fast kernel is for channels that are a multiple of 16; with others the
    plain one is two to four times slower. 4 pixels of 36 channels are one of 144.
    """
    import tensorflow as tf

    _, height, width, channels = shape
    if not (height and width) or tf.config.list_logical_devices("GPU"):
        return 1
    parts = _LANES // math.gcd(channels, _LANES)
    return 1 if height * width % parts else parts


def _moments(x):
    """Mean and variance of the channels of `x`, by the kernel, without a gradient."""
    import tensorflow as tf

    parts, (_, height, width, channels) = _parts(x.shape), x.shape
    if parts > 1:
        x = tf.reshape(x, _wide(height * width, channels, parts))
    one = tf.ones([parts * channels])
    found = _fused(tf.stop_gradient(x), one, one, 1.0)[1:]
    means, variances = (ops.reshape(part, (parts, channels)) for part in found)
    mean = ops.mean(means, axis=0)
    return mean, ops.mean(variances + ops.square(means - mean), axis=0)


def _wide(pixels, channels, parts):
    return (-1, 1, pixels // parts, parts * channels)


def _by_moments(x, gamma, beta, epsilon, parts, mean, variance):
    """`batch_norm` with so many neighboring pixels side by side.

    A kernel normalizes by given moments. The gradient that it has is that of constant
    moments; what lacks is the gradient through the moments, an affine function of x:

        ∂L/∂x = γ r (g − Σg / N − x̂ Σ(g x̂) / N),    r = 1/√(σ² + ε),  x̂ = (x − μ) r

    with g = ∂L/∂y and sums over the N pixels of a channel.
    """
    import tensorflow as tf

    channels = x.shape[3]
    wide = _wide(x.shape[1] * x.shape[2], channels, parts)

    def together(vector):
        return ops.tile(vector, [parts])

    def apart(vectors):
        return ops.reshape(vectors, (parts, channels))

    def by_moments(x, scale, offset, moments):
        vectors = map(together, (scale, offset, *moments))
        names = ("scale", "offset", "mean", "variance")
        options = {"epsilon": epsilon, "is_training": False}
        return tf.raw_ops.FusedBatchNormV3(
            x=x, **dict(zip(names, vectors, strict=True)), **options
        )[0]

    @tf.custom_gradient
    def normalize(x, gamma, beta):
        x, shape = tf.reshape(x, wide), tf.shape(x)
        y = by_moments(x, gamma, beta, (mean, variance))

        def gradient(upstream):
            found, *sums = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=tf.reshape(upstream, wide),
                x=x,
                scale=together(gamma),
                reserve_space_1=together(mean),
                reserve_space_2=together(variance),
                reserve_space_3=tf.zeros([0]),
                epsilon=epsilon,
                is_training=False,
            )[:3]
            for_gamma, for_beta = (ops.sum(apart(one), axis=0) for one in sums)
            count = ops.cast(ops.size(x) // channels, "float32")
            # The kernel again: in one pass, and in float32.
            size = -gamma * ops.rsqrt(variance + epsilon) / count
            rest = by_moments(x, size * for_gamma, size * for_beta, (mean, variance))
            return tf.reshape(found + rest, shape), for_gamma, for_beta

        return tf.reshape(y, shape), gradient

    return normalize(x, gamma, beta)


def lazy_moments(maps):
    """A function that gives `(mean, variance)` of concatenated maps.

    Args:
        maps: list of `(x, memo)`: a map `(B, H, W, C)` and a dict, in which its moments
            are kept for the next call with that map.
    """

    def found():
        for x, memo in maps:
            if "moments" not in memo:
                memo["moments"] = _moments(x)
        each = zip(*(memo["moments"] for _, memo in maps), strict=True)
        return tuple(ops.concatenate(part) for part in each)

    return found


def normalize_by_moments(x, gamma, beta, mean, variance, epsilon):
    """`γ (x − μ) / √(σ² + ε) + β` by a given mean and variance, as in inference.

    Args:
        x: `(..., C)`.
        gamma, beta, mean, variance: `(C,)`.
        epsilon: float, ε.

    Returns:
        like x.

    In float32 at least: in 16 bits the sums of its gradient would stop growing.
    """
    dtype = keras.backend.result_type(x.dtype, "float32")
    gamma, beta, mean, variance = (
        ops.cast(vector, dtype) for vector in (gamma, beta, mean, variance)
    )
    scale = gamma * ops.rsqrt(variance + epsilon)
    shift = beta - mean * scale
    return ops.cast(ops.cast(x, dtype) * scale + shift, x.dtype)


def is_fused(dtype):
    """Whether the backend has a fused kernel for that dtype, as things are."""
    takes = ("float32", "bfloat16")
    is_tensorflow = keras.backend.backend() == "tensorflow"
    fused = is_tensorflow and keras.backend.standardize_dtype(dtype) in takes
    return fused and not is_replicated()


def is_replicated():
    """Whether a strategy of TensorFlow runs this on several replicas at once."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync > 1


@keras.saving.register_keras_serializable(package="kfeedback")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that trains with TensorFlow's fused kernel.

    The same arguments, weights and values; faster where the input is `(B, H, W, C)`
    with the axis last, no mask is given and one replica runs, and the very layer of
    Keras everywhere else. Where it is faster, in training, it has first derivatives
    only: a gradient of a gradient leaves out what follows from mean and variance.

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> tuple(FusedBatchNormalization()(x, training=True).shape)
        (2, 8, 8, 4)
    """

    def call(self, inputs, training=None, mask=None):
        """Returns the normalized inputs."""
        axis_is_last = self.axis in (-1, len(inputs.shape) - 1)
        plain = mask is None and self.scale and self.center
        plain = plain and not (self.synchronized or getattr(self, "renorm", False))
        fused = training and self.trainable and is_fused(self.compute_dtype)
        if not (fused and plain and axis_is_last and len(inputs.shape) == 4):
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, self.compute_dtype)
        gamma, beta = (ops.convert_to_tensor(v) for v in (self.gamma, self.beta))
        y, mean, variance = batch_norm(x, gamma, beta, self.epsilon)
        update_moving_average(self.moving_mean, mean, self.momentum)
        update_moving_average(self.moving_variance, variance, self.momentum)
        return y


def update_moving_average(variable, now, momentum, moved=None):
    """Moves a moving mean or variance towards that of this batch.

    Args:
        variable: `(C,)`, or `(S, C)` for S of them.
        now: that of this batch, `(C,)`.
        momentum: float.
        moved: `None` for all, or a bool array `(S, 1)`, which of them to move.
    """
    now = ops.cast(ops.stop_gradient(now), variable.dtype)
    before = ops.convert_to_tensor(variable)
    value = before * momentum + (1 - momentum) * now
    variable.assign(value if moved is None else ops.where(moved, value, before))
