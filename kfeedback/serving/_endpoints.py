"""What a served model answers: one function of a batch for each endpoint."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from kfeedback.early_exit import early_exit
from kfeedback.preprocessing import preprocess_input
from kfeedback.serving import _image_bytes


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One signature of a SavedModel.

    Attributes:
        name: of the signature.
        spec: `tf.TensorSpec` of its only input, whose name is that of the input.
        function: from a tensor of that kind to a dict of named tensors.
        about: one line for the model card.
    """

    name: str
    spec: tf.TensorSpec
    function: Callable
    about: str


@dataclasses.dataclass(frozen=True)
class Endpoints:
    """Makes the endpoints of a model.

    Attributes:
        model: `keras.Model`, checked.
        shape: `(H, W, C)` of its images, H and W may be `None`.
        forward: function of prepared images, what the model gives for them.
        preprocessing: mode, function or `None`.
        class_names: names of the classes or `None`.
        top: how many classes to name.
        from_logits: whether the model gives logits.
        crop_fraction: as `_image_bytes.decode`.
        exit_threshold: as `kfeedback.early_exit`.
    """

    model: keras.Model
    shape: tuple
    forward: Callable
    _: dataclasses.KW_ONLY
    preprocessing: Callable | str | None
    class_names: list | None
    top: int
    from_logits: bool
    crop_fraction: float | None
    exit_threshold: float

    def make(self, names):
        """The endpoints of those names, or, for `None`, all that the model can have.

        Raises:
            ValueError: with the reason why there is not one of these names.
        """
        makers = {
            "serving_default": self._serving_default,
            "image_bytes": self._image_bytes,
            "timesteps": self._timesteps,
            "early_exit": self._early_exit,
        }
        for name, function in own_endpoints(self.model).items():
            makers[name] = functools.partial(self._own, name, function)
        unknown = sorted(set(names or ()) - set(makers))
        if unknown:
            raise ValueError(
                f"signatures must be some of {', '.join(makers)}, got "
                f"{', '.join(unknown)}."
            )
        made = []
        for name, make in makers.items():
            if names is not None and name not in ("serving_default", *names):
                continue
            try:
                made.append(make())
            except _NotHereError as error:
                if names is not None:
                    raise ValueError(
                        f"signatures must be those that '{self.model.name}' can "
                        f"have, got {name}: {error}"
                    ) from error
        return made

    def _serving_default(self):
        return self._of_images(
            "serving_default",
            lambda images: self._named(self._last(images)),
            "classes of images of one size",
        )

    def _image_bytes(self):
        height, width, channels = self.shape
        if self.preprocessing is None:
            raise _NotHereError("preprocessing must be known for it, got None.")
        if height is None or width is None or channels not in (1, 3):
            raise _NotHereError(
                "the model must take images of one size with 1 or 3 channels, got "
                f"{self.shape}."
            )

        def answer(encoded):
            encoded = tf.ensure_shape(encoded, [None])
            images = _image_bytes.decode(encoded, self.shape, self.crop_fraction)
            return self._run(lambda images: self._named(self._last(images)), images)

        spec = tf.TensorSpec([None], tf.string, name="image_bytes")
        about = "classes of JPEG or PNG files of any size"
        return Endpoint("image_bytes", spec, answer, about)

    def _timesteps(self):
        if not has_timesteps(self.model):
            raise _NotHereError(
                "the model must give the predictions of all its timesteps, as one "
                "built with return_sequences=True does."
            )
        return self._of_images(
            "timesteps",
            lambda images: self._named(self._call(images)),
            "classes after every look at the images",
        )

    def _early_exit(self):
        try:
            predictor = early_exit(
                self.model, self.exit_threshold, from_logits=self.from_logits
            )
        except (TypeError, ValueError) as error:
            raise _NotHereError(str(error)) from error

        def answer(images):
            predictions, timesteps = run_parts(
                predictor.parts, images, predictor.threshold, self.from_logits
            )
            return {**self._named(predictions), "timesteps": timesteps}

        about = (
            "classes after as many looks as it takes until one has a probability of "
            f"{predictor.threshold:g}, and how many these were"
        )
        return self._of_images("early_exit", answer, about)

    def _own(self, name, function):
        return self._of_images(
            name, lambda images: self._labeled(dict(function(images))), "see the model"
        )

    def _of_images(self, name, function, about):
        """An endpoint by a function of prepared images."""

        def answer(images):
            # Else an input of another rank ends the process (tensorflow#111453).
            images = tf.ensure_shape(images, [None, *self.shape])
            sides = tf.shape(images)[1:]
            message = "images must have sides of 1 or more"
            with tf.control_dependencies(
                [tf.debugging.assert_positive(sides, message)]
                if None in self.shape
                else []
            ):
                images = tf.identity(images)
            message = "images must be finite numbers"
            return self._run(function, tf.debugging.check_numerics(images, message))

        spec = tf.TensorSpec([None, *self.shape], tf.float32, name="images")
        return Endpoint(name, spec, answer, about)

    def _run(self, function, images):
        """The outputs of a function of prepared images, also for an empty batch."""
        shape = tf.shape(images)
        # Convolutions fail on no images at all, so there is one to be left out again.
        filler = tf.zeros(tf.concat([tf.maximum(1 - shape[:1], 0), shape[1:]], 0))
        outputs = function(self._prepare(tf.concat([images, filler], 0)))
        return {name: value[: shape[0]] for name, value in outputs.items()}

    def _call(self, images):
        """The probabilities for prepared images: of one look, or of all."""
        outputs = self.forward(images)
        return outputs["probabilities"] if isinstance(outputs, dict) else outputs

    def _prepare(self, images):
        """Images as the model takes them."""
        if callable(self.preprocessing):
            images = self.preprocessing(images)
        else:
            images = preprocess_input(images, self.preprocessing or "none")
        images = tf.cast(images, tf.float32)
        if not images.shape.is_compatible_with([None, *self.shape]):
            raise ValueError(
                f"preprocessing must give images {self.shape}, got {images.shape[1:]}."
            )
        return tf.ensure_shape(images, [None, *self.shape])

    def _last(self, images):
        predictions = self._call(images)
        return predictions[:, -1] if has_timesteps(self.model) else predictions

    def _named(self, predictions):
        predictions = tf.cast(predictions, tf.float32)
        predictions = as_posterior(predictions, self.from_logits)
        predictions = tf.debugging.check_numerics(
            predictions, "images must be such that the model stays finite"
        )
        scores, classes = tf.math.top_k(predictions, self.top)
        return self._labeled(
            {
                "probabilities": predictions,
                "top_classes": classes,
                "top_scores": scores,
            }
        )

    def _labeled(self, outputs):
        if self.class_names is not None and "top_classes" in outputs:
            names = tf.constant(self.class_names)
            outputs["top_labels"] = tf.gather(names, outputs["top_classes"])
        return outputs


def as_posterior(predictions, from_logits):
    """Posteriors of predictions `(..., classes)`; of a single class, two: 1 − p and p.

    Args:
        predictions: posteriors, or logits of a softmax, or of a sigmoid if single.
        from_logits: bool, which of them.
    """
    if predictions.shape[-1] != 1:
        return tf.nn.softmax(predictions) if from_logits else predictions
    if from_logits:
        return tf.sigmoid(tf.concat([-predictions, predictions], -1))
    return tf.concat([1 - predictions, predictions], -1)


class _NotHereError(ValueError):
    """An endpoint that a model cannot have."""


def own_endpoints(model):
    """`{name: function}` that a model brings with `serving_endpoints()`, or `{}`."""
    return dict(getattr(model, "serving_endpoints", dict)())


def has_timesteps(model):
    """Whether a model gives `(B, T, classes)`."""
    outputs = getattr(model, "outputs", None) or []
    return len(outputs) == 1 and len(outputs[0].shape) == 3


def run_parts(parts, images, threshold, from_logits):
    """`EarlyExit.predict` as a graph: `(predictions (B, classes), timesteps (B,))`."""
    count = tf.shape(images)[0]

    def run(timestep, rows, carried, predictions, timesteps):
        prediction, carried = parts[timestep].trace(carried)
        prediction = tf.cast(prediction, tf.float32)
        is_last = timestep + 1 == len(parts)
        posterior = as_posterior(prediction, from_logits)
        done = (tf.reduce_max(posterior, axis=-1) >= threshold) | is_last
        places = tf.boolean_mask(rows, done)[:, None]
        predictions = tf.tensor_scatter_nd_update(
            predictions, places, tf.boolean_mask(prediction, done)
        )
        timesteps = tf.tensor_scatter_nd_update(
            timesteps, places, tf.fill(tf.shape(places)[:1], timestep + 1)
        )
        if is_last:
            return predictions, timesteps
        left = tf.where(~done)[:, 0]

        def go_on():
            kept = [tf.gather(x, left) for x in carried]
            return run(
                timestep + 1, tf.gather(rows, left), kept, predictions, timesteps
            )

        return tf.cond(tf.size(left) > 0, go_on, lambda: (predictions, timesteps))

    classes = parts[0].model.outputs[0].shape[-1]
    start = tf.zeros([count, classes]), tf.zeros([count], tf.int32)
    images = tf.cast(images, parts[0].model.inputs[0].dtype)
    return run(0, tf.range(count), [images], *start)
