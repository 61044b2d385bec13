"""FeedbackCNN, Look and Think Twice: gates on ReLUs find what speaks for a class."""

import inspect

import keras

from kfeedback import checks, explain, graph, renamed
from kfeedback import weights as weights_lib
from kfeedback.models.factory import family
from kfeedback.preprocessing import decode_predictions, preprocess_input

__all__ = ["FeedbackCNN", "decode_predictions", "preprocess_input"]


_NO_H5 = "filepath must end in .keras for a FeedbackCNN"


def _with_arguments_of(method):
    """A decorator of an `__init__`: its last `**` stands for the arguments of a method.

    `help` and `inspect.signature` then show them one by one.
    """

    def decorate(function):
        own = inspect.signature(function)
        *parameters, _ = own.parameters.values()
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters += [
            parameter.replace(kind=keyword)
            for parameter in inspect.signature(method).parameters.values()
        ]
        function.__signature__ = own.replace(parameters=parameters)
        return function

    return decorate


@family("feedback_cnn", gives_feedback=True, trains=False)
@keras.saving.register_keras_serializable("kfeedback")
class FeedbackCNN(keras.Model):
    """Look and Think Twice: says where in an image a classifier sees a class.

    Gates on the ReLUs of the feature maps open where a neuron speaks for the class, and
    the map is the gradient at these gates times the evidence of the last feature maps:
    `kfeedback.explain.Feedback` has the equations.

    The network has no weights of its own: nothing of the backbone is changed, and
    nothing of an image stays on the model. `call` gives a dict and exports with the
    loop inside the graph.

    Args:
        backbone: a name as for `kfeedback.LRNet`, or any functional `keras.Model` that
            gives `(B, classes)`: softmax or sigmoid posteriors, or logits.
        include_top: bool, `True`: a class needs the classifier.
        weights: `None`; or a tag of `kfeedback.list_weights()` or the path of a file
            that `kfeedback.weights.load` takes, of the backbone; or, for `"vgg16"`,
            `"imagenet"`.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for the backbone's own, or `(H, W, C)`.
        pooling: `None`.
        classes: `None` for the backbone's own number, or an int.
        classifier_activation: activation of a backbone given by name.
        name: name of the model.
        top: int ≥ 1, how many of the best classes `call` explains.
        energy: share of a map's energy that `call`'s boxes hold, > 0 and ≤ 1; by
            default 0.9, or 0.95 with `readout="gradient"`.
        preprocess: `None`, a mode of `preprocess_input`, or a function in `keras.ops`:
            from images of 0 to 255 to what the backbone takes. (A model with a function
            cannot be saved as `.keras`.)
        batch_size: int ≥ 1, image-target pairs that the methods compute at once.
        **feedback: the arguments of `kfeedback.explain.Feedback`, which says what they
            mean: `iterations`, `step_size`, `sparsity`, `update_rule`, `gate_layers`,
            `start`, `normalize`, `objective`, `readout` and `smoothing`.

    Call arguments: images `(B, H, W, C)`, values 0 to 255; with `preprocess=None` as
    the backbone takes them.

    Call returns: dict of `probabilities` `(B, classes)`, `top_classes` int32 and
    `top_scores` `(B, top)`, `saliency` `(B, top, H, W)` and `boxes` int32 `(B, top, 4)`
    (top, left, bottom, right in pixels, ends excluded).

    Raises:
        TypeError: if an argument has another type.
        ValueError: if an argument is out of its range, or the backbone has no ReLU.

    Departures from the paper: those of `kfeedback.explain.Feedback`.

    Reference:
        Cao et al., Look and think twice: capturing top-down visual attention with
        feedback convolutional neural networks, 2015.

    Example:

        network = kfeedback.FeedbackCNN(trained, preprocess="scale", iterations=20)
        maps = network.saliency(images, classes)  # (N, H, W)
    """

    @_with_arguments_of(explain.Feedback)
    def __init__(
        self,
        network,
        backbone,
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=None,
        classifier_activation="softmax",
        name="feedback_cnn",
        *,
        top=5,
        energy=None,
        preprocess=None,
        batch_size=16,
        **feedback,
    ):
        super().__init__(name=name, autocast=False)  # images stay float32
        if not include_top:
            raise ValueError("include_top must be True for FeedbackCNN, got False.")
        self.backbone = network.model
        given_size = input_shape is not None and not isinstance(backbone, str)
        if input_tensor is not None or given_size:
            network.open()
            output = graph.rerun(network.model, network.image)
            self.backbone = keras.Model(
                keras.utils.get_source_inputs(network.image)[0], output
            )
        if network.weights is not None:
            weights_lib.load(self.backbone, network.weights)
        self.explainer = explain.Explainer(
            self.backbone,
            explain.Feedback(**feedback),
            preprocess=preprocess,
            batch_size=batch_size,
        )
        self.top = min(checks.integer("top", top), self.explainer.network.classes)
        self.energy = self.explainer.method.energy
        if energy is not None:
            self.energy = explain.boxes.check_energy(energy)
        self.build(self.backbone.input_shape)

    def build(self, input_shape):
        """Nothing is left to build; Keras notes the shape for the export."""
        self.built = True

    def call(self, images):
        """What the docstring of the class says.

        Args:
            images: `(B, H, W, C)`, values 0 to 255; with `preprocess=None` as the
                backbone takes them.
        """
        found = self.explainer.explain(images, top=self.top)
        foreground = explain.boxes.foreground(found["maps"], self.energy)
        return {
            "probabilities": found["posterior"],
            "top_classes": found["targets"],
            "top_scores": found["scores"],
            "saliency": found["maps"],
            "boxes": explain.boxes.smallest_box(foreground),
        }

    def saliency(self, images, targets=None, **kwargs):
        """`kfeedback.explain.Explainer.saliency`.

        Args:
            images, targets, **kwargs: as there.
        """
        return self.explainer.saliency(images, targets, **kwargs)

    def localize(self, images, targets=None, **kwargs):
        """`kfeedback.explain.Explainer.localize`.

        Args:
            images, targets, **kwargs: as there.
        """
        return self.explainer.localize(images, targets, **kwargs)

    def look_twice(self, images, **kwargs):
        """`kfeedback.explain.Explainer.look_twice`.

        Args:
            images, **kwargs: as there.
        """
        return self.explainer.look_twice(images, **kwargs)

    @property
    def input_shape(self):
        """`(None, H, W, C)`, that of the backbone."""
        return self.backbone.input_shape

    def serving_endpoints(self):
        """The signature that `kfeedback.serving.export` adds: maps and boxes."""
        return {"saliency": self.call}

    def save(self, filepath, *args, **kwargs):
        """As `keras.Model.save`, but not as `.h5`, which Keras could not load.

        Args:
            filepath, *args, **kwargs: as there.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(f"{_NO_H5}, got '{filepath}'.")
        return super().save(filepath, *args, **kwargs)

    def export(self, filepath, *args, **kwargs):
        """As `keras.Model.export`, also before the first call.

        Args:
            filepath, *args, **kwargs: as there.
        """
        own = keras.InputSpec(dtype="float32", shape=self.backbone.input_shape)
        kwargs.setdefault("input_signature", [own])
        return super().export(filepath, *args, **kwargs)

    def get_config(self):
        """The arguments, for Keras."""
        explainer = self.explainer
        if callable(explainer.preprocess):
            raise ValueError(
                "preprocess must be None or a mode for a model that is saved, got a "
                "function."
            )
        backbone = keras.saving.serialize_keras_object(self.backbone)
        if not all("module" in layer for layer in backbone["config"]["layers"]):
            raise ValueError(f"{_NO_H5}, got one for Keras' older format.")
        return {
            "backbone": backbone,
            "name": self.name,
            **explainer.method.get_config(),
            "top": self.top,
            "energy": self.energy,
            "preprocess": explainer.preprocess,
            "batch_size": explainer.batch_size,
        }

    @classmethod
    def from_config(cls, config):
        """The model of what `get_config` gave."""
        config = dict(config)
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"))
        # What files say nothing of that were written before there was a choice.
        config = {"objective": "score", "readout": "gradient"} | config
        return cls(backbone, **renamed.current(config))
