"""Batch normalization that trains as fast as the backend can."""

import keras
from keras import ops


def batch_norm(x, gamma, beta, epsilon):
    """Normalises every channel over batch, height and width.

    `y = γ (x - μ) / √(σ² + ε) + β`. `keras.ops` has this in several passes over the
    data; the fused kernel of TensorFlow, which Keras does not use, is faster.

    Args:
        x: `(B, H, W, C)`.
        gamma: γ, `(C,)`, float32.
        beta: β, `(C,)`, float32.
        epsilon: ε, float.

    Returns:
        `(y, mean, variance)`: y like `x`; μ and σ² (biased), `(C,)`, float32.
    """
    if keras.backend.backend() == "tensorflow" and x.dtype != "float16":
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
    mean, variance = ops.moments(ops.cast(x, "float32"), axes=(0, 1, 2))
    return affine(x, gamma, beta, mean, variance, epsilon), mean, variance


def affine(x, gamma, beta, mean, variance, epsilon):
    """The same by a given mean and variance `(C,)`, as in inference."""
    scale = gamma * ops.rsqrt(variance + epsilon)
    shift = beta - mean * scale
    return x * ops.cast(scale, x.dtype) + ops.cast(shift, x.dtype)


@keras.saving.register_keras_serializable(package="kfeedback")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that trains with TensorFlow's fused kernel.

    The same arguments, weights and values; faster where the input is `(B, H, W, C)`
    with the axis last, no mask is given and nothing is synchronized, and the very
    layer of Keras everywhere else.
    """

    def call(self, inputs, training=None, mask=None):
        """Returns the normalised inputs."""
        axis_is_last = self.axis in (-1, len(inputs.shape) - 1)
        plain = mask is None and not self.synchronized and self.scale and self.center
        fused = training and self.trainable and plain and axis_is_last
        if not fused or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, self.compute_dtype)
        gamma, beta = (ops.convert_to_tensor(v) for v in (self.gamma, self.beta))
        y, mean, variance = batch_norm(x, gamma, beta, self.epsilon)
        move(self.moving_mean, mean, self.momentum)
        move(self.moving_variance, variance, self.momentum)
        return y


def move(variable, now, momentum):
    """Moves a moving mean or variance towards that of this batch."""
    new = (1 - momentum) * ops.stop_gradient(now)
    variable.assign(variable * momentum + new)
