"""What differs between TensorFlow, JAX and PyTorch: compiling, gradients, loops.

compile_forward     a model's inference, one compiled function
compile_function    any function of tensors that uses a model's layers
value_and_gradient  d sum(f(x)) / dx, also inside a compiled function
input_gradient      the compiled gradient of an objective by a model's input
loop_body           what a loop repeats, so that TensorFlow optimizes it
root_scope          where layers of any name can be called
"""

import contextlib
import functools

import keras
from keras import tree

_Normalization = keras.layers.Normalization


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

    return compile_function(model, run)


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
        if not values.requires_grad:  # they do not depend on x
            return values, tree.map_structure(torch.zeros_like, x)
        found = torch.autograd.grad(
            values.sum(), tree.flatten(x), allow_unused=True, materialize_grads=True
        )
    return values.detach(), tree.pack_sequence_as(x, list(found))


def root_scope():
    """A context in which layers can be called whose names TensorFlow takes inside only.

    Keras calls the layers of a model within a scope of the model's name. At the root
    of a graph TensorFlow refuses names such as `_conv`.
    """
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    inside = tf.executing_eagerly() or tf.get_current_name_scope()
    return contextlib.nullcontext() if inside else tf.name_scope("network")


def loop_body(function):
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

    def scoped(*tensors):
        with root_scope():
            return function(*tensors)

    attributes = {"_noinline": True}
    return tf.function(scoped, autograph=False, experimental_attributes=attributes)


def _renewed(compiler):
    """A decorator: what is compiled of a model is compiled anew where it is stale.

    A `Normalization` keeps what follows from its weights as constants, which compiling
    takes in. They are others after `adapt` and after a load.
    """

    @functools.wraps(compiler)
    def compile_model(model, *args):
        layers = [x for x in _nested(model) if isinstance(x, _Normalization)]
        if not layers:
            return compiler(model, *args)
        found = {}

        def run(*tensors):
            constants = [getattr(layer, "mean", None) for layer in layers]
            if [*map(id, constants)] != [*map(id, found.get("constants", ()))]:
                found.update(constants=constants, run=compiler(model, *args))
            return found["run"](*tensors)

        return run

    return compile_model


def _nested(model):
    """The layers of a model and of models nested in it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _nested(layer)


@_renewed
def compile_function(model, function):
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

        def scoped(*tensors):
            with root_scope():
                return function(*tensors)

        graph = tf.function(scoped, reduce_retracing=True, autograph=False)
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


@_renewed
def compile_forward(model):
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
        if len(inputs) == 1:  # a Sequential may have no `input`
            return inputs[0]
        return keras.tree.pack_sequence_as(model.input, list(inputs))

    if backend == "tensorflow":
        import tensorflow as tf

        def forward(inputs):
            with root_scope():
                return model(pack(inputs), training=False)

        inputs = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
        return tf.function(forward, input_signature=[inputs])
    run = compile_function(model, lambda *x: model(pack(x), training=False))
    return lambda inputs: run(*inputs)
