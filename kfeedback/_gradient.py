"""The gradient of a scalar with respect to a model's input, on every backend."""

import keras


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
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _with_tensorflow(model, objective, prepare)
    if backend == "jax":
        return _with_jax(model, objective, prepare)
    return _with_torch(model, objective, prepare)


def _with_tensorflow(model, objective, prepare):
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def gradient(x, *more):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            values = objective(model(prepare(x), training=False), *more)
            total = tf.reduce_sum(values)
        return values, tape.gradient(
            total, x, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    return lambda *tensors: gradient(*map(tf.convert_to_tensor, tensors))


def _with_jax(model, objective, prepare):
    import jax

    def total(x, weights, *more):
        # `stateless_call` wants a model whose `call` takes `training`.
        mapping = list(zip(model.variables, weights, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            values = objective(model(prepare(x), training=False), *more)
        return values.sum(), values

    gradient = jax.jit(jax.grad(total, has_aux=True))

    def run(x, *more):
        weights = [variable.value for variable in model.variables]
        found, values = gradient(x, weights, *more)
        return values, found

    return run


def _with_torch(model, objective, prepare):
    import torch

    def run(x, *more):
        with torch.enable_grad():
            x = keras.ops.convert_to_tensor(x).detach().requires_grad_()
            more = [keras.ops.convert_to_tensor(one) for one in more]
            values = objective(model(prepare(x), training=False), *more)
            (gradient,) = torch.autograd.grad(
                values.sum(), x, allow_unused=True, materialize_grads=True
            )
        return values.detach(), gradient

    return run
