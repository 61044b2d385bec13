"""Counts the multiply-adds that a network executes, on TensorFlow and on JAX."""

import math

import keras

from kfeedback import checks


class UncountableError(ValueError):
    """The traced network does not say how many multiply-adds it executes."""


def count_multiply_adds(model, input_shape=None):
    """Multiply-adds of convolutions and matrix products that one image takes.

    Args:
        model: built `keras.Model` with one input, called with `training=False`.
        input_shape: `None` for the model's own, or the shape of one input.

    Returns:
        int, exact for the traced network: a layer that runs twice counts twice.

    Raises:
        UncountableError: for a loop whose length the trace does not hold, or for a
            product of a kind that this function does not know.
        ValueError: if the input shape is unknown.
    """
    shape = static_shape(model, input_shape)
    dtype = "float32"
    if getattr(model, "inputs", None):
        dtype = keras.backend.standardize_dtype(model.inputs[0].dtype)
    if keras.backend.backend() == "jax":
        import jax

        image = jax.ShapeDtypeStruct((1, *shape), dtype)

        def forward(image):
            with keras.StatelessScope():  # what a layer counts stays here
                return model(image, training=False)

        traced = jax.make_jaxpr(forward)(image)
        return _count_jaxpr(traced.jaxpr)
    import tensorflow as tf

    forward = tf.function(lambda image: model(image, training=False))
    image = tf.TensorSpec((1, *shape), dtype)
    return _count_graph(forward.get_concrete_function(image).graph)


def static_shape(model, input_shape):
    """The shape of one input of `model`, checked against the model's own."""
    own = getattr(model, "input_shape", None)
    shape = input_shape or (own[1:] if own else None)
    if not shape or not all(isinstance(size, int) for size in shape):
        raise ValueError(
            f"input_shape must be given for '{model.name}', whose input is {own}."
        )
    if input_shape and isinstance(own, tuple) and not checks.fits(shape, own[1:]):
        raise ValueError(
            f"input_shape must fit '{model.name}', whose input is {own}, got "
            f"{tuple(input_shape)}."
        )
    return tuple(shape)


def _count_graph(graph):
    """Multiply-adds of a TensorFlow graph and of the functions that it calls."""
    total = 0
    for op in graph.get_operations():
        total += _count_op(op)
        for attribute in op.node_def.attr.values():
            for function in (attribute.func, *attribute.list.func):
                if not function.name:
                    continue
                inner = _count_graph(graph._get_function(function.name).graph)
                if inner and not op.type.endswith("PartitionedCall"):
                    raise UncountableError(
                        f"multiply-adds inside {op.type} '{op.name}' cannot be "
                        "counted: the graph does not say how often it runs."
                    )
                total += inner
    return total


def _count_op(op):
    kind, size = op.type, None
    if kind.startswith(("Conv2D", "Conv3D", "DepthwiseConv2dNative")):
        # Every element of the output, or of its gradient, meets every tap once.
        kernel = op.outputs[0] if "BackpropFilter" in kind else op.inputs[1]
        moved = op.inputs[2] if "Backprop" in kind else op.outputs[0]
        taps = kernel.shape[: 2 if kind.startswith("Depthwise") else -1]
        size = [*moved.shape, *taps]
    elif kind in ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        flipped = op.get_attr("transpose_a" if kind == "MatMul" else "adj_x")
        size = [*op.outputs[0].shape, op.inputs[0].shape[-2 if flipped else -1]]
    elif kind == "Einsum":
        labels = op.get_attr("equation").decode().split("->")[0].split(",")
        if len(labels) == 1:
            return 0
        if "..." not in "".join(labels):
            sizes = {}
            for names, tensor in zip(labels, op.inputs, strict=True):
                sizes.update(zip(names, tensor.shape, strict=True))
            size = list(sizes.values())
    elif "Conv" not in kind and "MatMul" not in kind:
        return 0
    if size is None or None in size:
        raise UncountableError(
            f"multiply-adds of {kind} '{op.name}' cannot be counted: its kind or its "
            "shape is not known."
        )
    return math.prod(size)


def _count_jaxpr(jaxpr):
    """Multiply-adds of a jaxpr and of the jaxprs inside it."""
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "conv_general_dilated":
            total += _count_jax_convolution(equation)
        elif name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * math.prod(
                shape[axis] for axis in contracted
            )
        inner = [
            _count_jaxpr(getattr(value, "jaxpr", value))
            for param in params.values()
            for value in (param if isinstance(param, tuple | list) else [param])
            if hasattr(value, "jaxpr") or hasattr(value, "eqns")
        ]
        if (name == "while" and any(inner)) or (name == "cond" and len({*inner}) > 1):
            raise UncountableError(
                f"multiply-adds inside '{name}' cannot be counted: the jaxpr does not "
                "say how often it runs."
            )
        repeats = params["length"] if name == "scan" else 1
        total += repeats * (max(inner) if name == "cond" else sum(inner))
    return total


def _count_jax_convolution(equation):
    image, kernel = (variable.aval for variable in equation.invars)
    params = equation.params
    out_axis, in_axis = params["dimension_numbers"].rhs_spec[:2]
    if math.prod(params["lhs_dilation"]) == 1:
        output = equation.outvars[0].aval.size
        return output * kernel.size // kernel.shape[out_axis]
    # A transposed convolution: every element of the input meets every tap once.
    groups = params["feature_group_count"]
    return image.size * kernel.size // (kernel.shape[in_axis] * groups)
