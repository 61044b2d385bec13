"""Batch normalization that trains as fast as the backend can."""

import keras
from keras import ops


def batch_norm(x, gamma, beta, epsilon):
    """Normalizes every channel over batch, height and width.

    `y = γ (x - μ) / √(σ² + ε) + β`. `keras.ops` has this in several passes over the
    data; the fused kernel of TensorFlow, which Keras does not use, is faster. Under a
    strategy of TensorFlow with several replicas μ and σ² are those of the global batch.

    Args:
        x: `(B, H, W, C)`.
        gamma: γ, `(C,)`.
        beta: β, `(C,)`.
        epsilon: ε, float.

    Returns:
        `(y, mean, variance)`: y like `x`; μ and σ² (biased), `(C,)`, at least float32.
    """
    if is_fused(x.dtype):
        import tensorflow as tf

        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=ops.cast(gamma, "float32"),
            offset=ops.cast(beta, "float32"),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=epsilon,
            is_training=True,
        )
        # The kernel gives the unbiased variance.
        count = ops.cast(ops.prod(ops.shape(x)[:3]), variance.dtype)
        return y, mean, variance * (count - 1) / count
    dtype = keras.backend.result_type(x.dtype, "float32")
    mean, variance = ops.moments(
        ops.cast(x, dtype), axes=(0, 1, 2), synchronized=is_replicated()
    )
    return affine(x, gamma, beta, mean, variance, epsilon), mean, variance


def affine(x, gamma, beta, mean, variance, epsilon):
    """The same by a given mean and variance `(C,)`, as in inference.

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
    Keras everywhere else.
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
        move(self.moving_mean, mean, self.momentum)
        move(self.moving_variance, variance, self.momentum)
        return y


def move(variable, now, momentum, moved=None):
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
