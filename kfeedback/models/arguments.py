"""The arguments that all factories share: each checked, with one wording."""

import numbers

import keras

from kfeedback import checks

EIGHT = (
    "include_top",
    "weights",
    "input_tensor",
    "input_shape",
    "pooling",
    "classes",
    "classifier_activation",
    "name",
)
"""Those of `keras.applications`, which every factory takes in this order."""


def check_top(include_top, pooling):
    """Checks the two arguments that say where the network ends."""
    checks.boolean("include_top", include_top)
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"pooling must be None, 'avg' or 'max', got {pooling!r}.")
    if include_top and pooling is not None:
        raise ValueError(
            f"pooling must be None with include_top=True, got {pooling!r}."
        )


def check_data_format():
    """Raises a ValueError where Keras would build layers with their channels first."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "keras.config.image_data_format() must be 'channels_last' for a network of "
            f"kfeedback, got '{keras.config.image_data_format()}'."
        )


def check_activation(classifier_activation):
    """Returns the activation function; `None` gives logits."""
    try:
        return keras.activations.get(classifier_activation)
    except ValueError as error:
        raise ValueError(
            "classifier_activation must be None or the name of a Keras activation, "
            f"got {classifier_activation!r}."
        ) from error


def check_initializer(name, value):
    """Returns the initializer; raises a ValueError unless Keras knows it."""
    try:
        found, cause = keras.initializers.get(value), None
    except (TypeError, ValueError) as error:
        found, cause = None, error
    if found is None:
        raise ValueError(
            f"{name} must be a Keras initializer or the name of one, got {value!r}."
        ) from cause
    return found


def image_input(input_tensor, input_shape, default_shape, minimum, dtype=None):
    """Returns the symbolic image that a network starts from.

    Args:
        input_tensor: `None`, or a symbolic tensor `(B, H, W, C)` to start from.
        input_shape: `None`, or `(H, W, C)`; H and W may be `None`.
        default_shape: `(H, W, C)` where neither is given.
        minimum: the least H and W that the network can take.
        dtype: of an input made here; `None` for Keras' default.

    Returns:
        a `keras.KerasTensor` of shape `(B, H, W, C)`.

    Raises:
        TypeError: if `input_tensor` is no symbolic tensor.
        ValueError: if a shape has no such form, is too small, or the two differ.
    """
    shape = default_shape if input_shape is None else input_shape
    if input_tensor is not None:
        if not isinstance(input_tensor, keras.KerasTensor):
            raise TypeError(
                "input_tensor must be a symbolic Keras tensor, got "
                f"{type(input_tensor).__name__}."
            )
        shape = tuple(input_tensor.shape[1:])
        given = input_shape
        if isinstance(given, tuple | list):  # NumPy's integers are equal to Python's
            given = tuple(given)
        if given is not None and given != shape:
            raise ValueError(
                f"input_shape must be that of input_tensor, {shape}, "
                f"got {input_shape!r}."
            )
    what = "input_shape" if input_tensor is None else "input_tensor"
    valid = isinstance(shape, tuple | list) and len(shape) == 3
    if valid:
        *sides, channels = shape
        valid = all(s is None or _is_side(s, minimum) for s in sides)
        valid = valid and _is_side(channels, 1)
    if not valid:
        raise ValueError(
            f"{what} must be (height, width, channels) with height and width ≥ "
            f"{minimum} or None and channels ≥ 1, got {shape!r}."
        )
    if input_tensor is not None:
        return input_tensor
    # Keras takes no integers of NumPy.
    shape = [None if side is None else int(side) for side in shape]
    return keras.Input(tuple(shape), dtype=dtype)


def _is_side(value, least):
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return whole and value >= least


def pooling_layer(pooling, name=lambda base: base):
    """The layer for the `pooling` of `keras.applications`; for `None`, identity.

    Args:
        pooling: `None`, `"avg"` or `"max"`.
        name: function from the usual name of the layer to the one it gets.
    """
    if pooling == "avg":
        return keras.layers.GlobalAveragePooling2D(name=name("avg_pool"))
    if pooling == "max":
        return keras.layers.GlobalMaxPooling2D(name=name("max_pool"))
    return lambda x: x


def make_model(tensor, outputs, name):
    """Returns the functional model from an image to outputs.

    Args:
        tensor: the symbolic image.
        outputs: symbolic output.
        name: name of the model.
    """
    inputs = keras.utils.get_source_inputs(tensor)
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs, name=name)
