"""What a factory returns: a functional model that remembers its factory in files."""

import json

import keras

from kfeedback.weights import origins

_KEY = "kfeedback_origin"


@keras.saving.register_keras_serializable("kfeedback")
class FactoryModel(keras.Model):
    """A functional model; `kfeedback.weights.origin` says what made it.

    It notes that also in a `.keras` file: NIN and LNIN differ by a slope that no tensor
    shows, so a network that was loaded again must not take the other's weights. Such a
    file needs `import kfeedback`; one of `keras.Model(model.inputs, model.outputs)`,
    which forgets, needs nothing more than its layers do. A clone forgets: its layers
    may be others.
    """

    def get_config(self):
        """As a functional model's, with its origin."""
        found = origins.origin(self)
        return {**super().get_config(), **({_KEY: json.dumps(found)} if found else {})}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The model of what `get_config` gave."""
        config = dict(config)
        found = json.loads(config.pop(_KEY, "{}"))
        model = super().from_config(config, custom_objects)
        if found:
            origins.note(model, found["arguments"], found["factory"])
        return model


# Keras' older .h5 of a whole model knows classes by their bare names.
keras.saving.get_custom_objects()["FactoryModel"] = FactoryModel


def remembering(model):
    """A functional model of the same layers as one that remembers its factory."""
    return FactoryModel(model.input, model.output, name=model.name)
