"""What every family does the same: a factory reads like its network.

    @family("lenet", default_shape=(28, 28, 1), least_size=16, is_backbone=True)
    def LeNet(build, include_top=True, weights=None, ..., *, dropout=0.0):
        x = keras.layers.Conv2D(20, 5, name="conv1")(build.input)
        return build.finish(x, head=lambda x: build.classifier(x))

Users call `LeNet(include_top=True, ...)`. The decorator checks the eight arguments of
`keras.applications`, hands them over as one object, notes on the model what made it,
and loads `weights`. The object is a `Build`, or, for a family that gives feedback to a
backbone, a `kfeedback.models.network.Network`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import keras

from kfeedback import checks
from kfeedback import weights as weights_lib
from kfeedback.classifier import is_constant
from kfeedback.models import registry
from kfeedback.models.arguments import (
    EIGHT,
    check_activation,
    check_data_format,
    check_top,
    image_input,
    make_model,
    pooling_layer,
)
from kfeedback.models.factory_model import remembering
from kfeedback.models.network import Network
from kfeedback.weights import origins

P = ParamSpec("P")


def family(
    name: str, **known
) -> Callable[[Callable[Concatenate[Any, P], keras.Model]], Callable[P, keras.Model]]:
    """Decorator of a factory, or of a class of models, that enters it in the registry.

    Args:
        name: what programs and the argument `backbone` call it.
        **known: attributes of `kfeedback.models.registry.Family` with other values
            than their defaults.

    Returns:
        the decorator. A factory's first parameter, and that of a class' `__init__`
        after `self`, is the object that the decorator hands over; callers do not see
        it. A class loads `network.weights` itself.
    """

    def decorate(made):
        is_class = inspect.isclass(made)
        inner = made.__init__ if is_class else made
        place = 1 if is_class else 0  # of the object, behind `self`
        parameters = list(inspect.signature(inner).parameters.values())
        del parameters[place]
        signature = inspect.Signature(parameters)

        @functools.wraps(inner)
        def call(*args, **kwargs):
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{made.__name__}() {error}") from None
            bound.apply_defaults()
            check_data_format()
            if entry.gives_feedback:
                carrier = Network(bound.arguments)
            else:
                carrier = Build(entry, bound.arguments)
            args = [*bound.args[:place], carrier, *bound.args[place:]]
            model = inner(*args, **bound.kwargs)
            model = args[0] if is_class else remembering(model)
            origins.note(model, bound.arguments | carrier.origin, made.__name__)
            if carrier.weights is not None and not is_class:
                registry.load_weights(model, carrier.weights)
            return None if is_class else model

        call.__signature__ = signature
        if is_class:
            made.__init__ = call
        entry = registry.Family(
            name=name,
            factory=made if is_class else call,
            has_timesteps="timesteps" in signature.parameters,
            **known,
        )
        return registry.TABLE.add(name, entry).factory

    return decorate


class Build:
    """The eight arguments of a feedforward network, checked, and its input.

    Args:
        entry: the `Family`.
        arguments: dict of all arguments of the factory.

    Attributes:
        given: dict of the eight, as they were given.
        weights: what is left to load when the network is made.
        include_top, pooling, name: as given.
        classes: int.
        activation: function, the activation of the head.
        least_size: the least height and width; a network whose other arguments decide
            it sets it before it reads `input`.
    """

    origin = {}  # what a model is to note of its backbone

    def __init__(self, entry, arguments):
        self.given = {name: arguments[name] for name in EIGHT}
        self.include_top, self.pooling = arguments["include_top"], arguments["pooling"]
        check_top(self.include_top, self.pooling)
        self.weights = arguments["weights"]
        if self.weights in entry.own_weights:
            self.weights = None
        weights_lib.check_weights(self.weights)
        self.classes = checks.integer("classes", arguments["classes"])
        self.activation = check_activation(arguments["classifier_activation"])
        if self.include_top and self.classes == 1 and is_constant(self.activation):
            raise ValueError(
                "classes must be ≥ 2 for a softmax, which gives a single class 1, got "
                "1; classifier_activation='sigmoid' is for one."
            )
        self.name = arguments["name"]
        self.least_size = entry.least_size
        self._default_shape = entry.default_shape

    @functools.cached_property
    def input(self):
        """The symbolic image."""
        return image_input(
            self.given["input_tensor"],
            self.given["input_shape"],
            self._default_shape,
            self.least_size,
        )

    def require_sides(self):
        """Raises a ValueError if the head needs a height or width that is unknown."""
        shape = tuple(self.input.shape[1:])
        if self.include_top and None in shape[:2]:
            raise ValueError(
                "input_shape must have a known height and width where a dense layer "
                f"classifies, got {shape}."
            )

    def classifier_layer(self, **kwargs):
        """The dense layer `predictions`, in float32 under every dtype policy."""
        return keras.layers.Dense(
            self.classes,
            activation=self.activation,
            dtype="float32",
            name="predictions",
            **kwargs,
        )

    def classifier(self, x, **kwargs):
        """The output of that layer for `x`."""
        return self.classifier_layer(**kwargs)(x)

    def finish(self, x, head):
        """Returns the model: `head(x)`, or `x` pooled where there is no top."""
        if self.include_top:
            try:
                outputs = head(x)
            except ValueError:
                self.require_sides()  # as a dense layer needs them
                raise
        else:
            outputs = pooling_layer(self.pooling)(x)
        return make_model(self.input, outputs, self.name)
