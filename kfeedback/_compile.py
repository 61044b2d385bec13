"""A model's inference as one compiled function, on every backend."""

import keras


def compiled(model):
    """`inputs -> outputs` of `model` with `training=False`, compiled.

    It sees what the weights are when it is called. On TensorFlow one trace serves all
    batch sizes, on JAX each shape has one.

    Args:
        model: functional `keras.Model`.

    Returns:
        a function of the list of input tensors.
    """
    backend = keras.backend.backend()

    def pack(inputs):
        return keras.tree.pack_sequence_as(model.input, inputs)

    if backend == "tensorflow":
        import tensorflow as tf

        inputs = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
        return tf.function(
            lambda inputs: model(pack(inputs), training=False), input_signature=[inputs]
        )
    if backend == "jax":
        import jax

        forward = jax.jit(stateless_forward(model))
        return lambda inputs: forward(state(model), pack(inputs))
    import torch

    def run(inputs):
        with torch.no_grad():
            return model(pack(inputs), training=False)

    return run


def state(model):
    """The arrays of a model's variables, as `stateless_forward` takes them."""
    return (
        [variable.value for variable in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
    )


def stateless_forward(model):
    """`state, inputs -> outputs` as a pure function, for JAX."""
    return lambda state, inputs: model.stateless_call(*state, inputs, training=False)[0]
