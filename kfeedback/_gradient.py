"""Gradients, and functions compiled around them, on every backend."""

import keras
from keras import tree


def input_gradient(model, objective, prepare=None):
    """A compiled function that differentiates by a model's input.

        g(x, a, ...) = d/dx sum(objective(model(prepare(x)), a, ...))

    The model runs with `training=False` and with the weights that it has when the
    function is called. As samples do not see one another, g holds each one's own
    gradient if `objective` gives a value a sample.

    Args:
        model: `keras.Model` of one input.
        objective: function of the model's output and of more tensors, in `keras.ops`,
            that gives a tensor.
        prepare: function of x that gives the model's input, in `keras.ops`; by default
            x is that input.

    Returns:
        a function of x and the more tensors that gives `(values, gradient)`: what
        `objective` gives, and a tensor of the shape of x.
    """
    prepare = prepare or (lambda x: x)

    def run(x, *more):
        def values(x):
            return objective(model(prepare(x), training=False), *more)

        return value_and_gradient(values, x)

    return compiled(model, run)


def value_and_gradient(function, x):
    """Differentiates a function where it is called, also inside a compiled one.

    Args:
        function: function of x, in `keras.ops`, that gives a tensor.
        x: a tensor, or a list of tensors.

    Returns:
        `(values, gradient)`: `function(x)`, and d sum(function(x)) / dx, like x; zeros
        where the values do not depend on x.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            values = function(x)
            total = tf.reduce_sum(values)
        zero = tf.UnconnectedGradients.ZERO
        return values, tape.gradient(total, x, unconnected_gradients=zero)
    if backend == "jax":
        import jax

        def total(x):
            values = function(x)
            return values.sum(), values

        gradient, values = jax.grad(total, has_aux=True)(x)
        return values, gradient
    import torch

    with torch.enable_grad():
        x = tree.map_structure(lambda one: one.detach().requires_grad_(), x)
        values = function(x)
        found = torch.autograd.grad(
            values.sum(), tree.flatten(x), allow_unused=True, materialize_grads=True
        )
    return values.detach(), tree.pack_sequence_as(x, list(found))


def whole(function):
    """The body of a loop, which TensorFlow then compiles by itself.

    Inlined into the loop, gradients of max-pooling miss the rewriting for oneDNN: the
    passes need an order of the operations, which a loop does not have.

    Args:
        function: function of tensors.

    Returns:
        a function that gives the same.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    attributes = {"_noinline": True}
    return tf.function(function, autograph=False, experimental_attributes=attributes)


def compiled(model, function):
    """A function of tensors that uses a model's layers, compiled once per shape.

    Args:
        model: `keras.Model`, with the weights that it has when the function is called.
        function: function of tensors, in `keras.ops`, that may use
            `value_and_gradient`.

    Returns:
        a function of tensors or arrays that gives what `function` does.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        graph = tf.function(function, reduce_retracing=True, autograph=False)
        return lambda *tensors: graph(*map(tf.convert_to_tensor, tensors))
    if backend == "jax":
        import jax

        def stateless(weights, *tensors):
            # `stateless_call` wants a model whose `call` takes `training`.
            mapping = list(zip(model.variables, weights, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return function(*tensors)

        jitted = jax.jit(stateless)
        return lambda *tensors: jitted([v.value for v in model.variables], *tensors)
    import torch

    def run(*tensors):
        with torch.no_grad():
            return function(*map(keras.ops.convert_to_tensor, tensors))

    return run
