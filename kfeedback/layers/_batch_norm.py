"""Batch normalization by the statistics of the batch, as fast as the backend has it."""

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
