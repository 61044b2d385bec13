"""What all layers with arguments share: a config, read off their constructors."""

import inspect
import types

import keras

from kfeedback import renamed


class Layer(keras.layers.Layer):
    """A layer that keeps each argument of its constructor under the argument's name.

    Attributes:
        ATTRIBUTES: dict from arguments that it keeps under another name to that name.
        has_relus_inside: bool, whether it has ReLUs that the graph does not show.
    """

    ATTRIBUTES = {}
    has_relus_inside = False

    def get_config(self):
        """The constructor's arguments, also those of the classes that it inherits."""
        own = {}
        for cls in type(self).__mro__:
            if issubclass(cls, Layer) and "__init__" in vars(cls):
                for name in inspect.signature(cls.__init__).parameters:
                    attribute = self.ATTRIBUTES.get(name, name)
                    if name not in ("self", "kwargs") and hasattr(self, attribute):
                        own[name] = _serialized(getattr(self, attribute))
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        """The layer of what `get_config` gave, also of an earlier version."""
        return super().from_config(renamed.current(config))


def _serialized(value):
    # An activation by its name alone, as in the layers of Keras.
    if isinstance(value, types.FunctionType):
        return keras.activations.serialize(value)
    return keras.saving.serialize_keras_object(value)
