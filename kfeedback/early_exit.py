"""Predict pass by pass, and stop for a sample as soon as the model is sure of it."""

import keras
import numpy as np
from keras import ops, tree

from kfeedback import checks, graph
from kfeedback.backend import compile_forward, root_scope
from kfeedback.classifier import check_output
from kfeedback.layers import StackTimesteps


def early_exit(model, threshold, *, from_logits=False):
    """A model's predictions with as many timesteps as each sample needs.

    After each pass the samples whose highest posterior reaches the threshold are done.
    The others go on with the state that they have, smaller in number: what a pass needs
    of an earlier one is carried over, nothing is computed twice.

    Args:
        model: functional model that gives the posteriors, by a softmax, of all its
            timesteps, such as an `LRNet` or a `FeedbackConvLSTMNet` built with
            `return_sequences=True`. A sigmoid p of a single class stands for p and
            1 − p.
        threshold: number in (0, 1].
        from_logits: bool; `True` for a model that gives logits: the threshold is for
            their softmax, `predict` gives them as they are.

    Returns:
        an `EarlyExit`.

    Raises:
        TypeError: if `model` is no Keras model, or `from_logits` no bool.
        ValueError: if it does not give the predictions of all timesteps, or these are
            no distributions (or logits), or the threshold is not in its range.

    Reference:
        Zamir et al., Feedback networks, 2017, section 1: early prediction.

    Example:
        >>> model = kfeedback.load_pretrained(
        ...     "lr_lenet_mnist_bg_sample", return_sequences=True
        ... )
        >>> images, *_ = kfeedback.datasets.load_arrays(
        ...     "mnist_background_images_sample", "test[:8]"
        ... )
        >>> predictor = kfeedback.early_exit(model, threshold=0.9)
        >>> predictions, timesteps = predictor.predict(images / 255)
        >>> predictions.shape, timesteps.shape
        ((8, 10), (8,))
    """
    return EarlyExit(model, threshold, from_logits)


class EarlyExit:
    """Predicts with a threshold; see `early_exit`.

    The weights are those of the model when `predict` is called.

    Attributes:
        threshold: float, may be changed between predictions.
        timesteps: int, the passes of the model.
        parts: list of what each timestep adds to the earlier ones.
    """

    def __init__(self, model, threshold, from_logits=False):
        self.threshold = threshold
        model = graph.seen_through(graph.require_graph(model))
        predictions = predictions_of(model)
        single = model.outputs[0].shape[-1] == 1
        takes = ("sigmoid",) if single else ("softmax",)
        check_output(model, from_logits=from_logits, takes=takes, ranks=(3,))
        self.timesteps = len(predictions)
        self._is_logits = from_logits
        self._input = model.inputs[0]
        self.parts = _cut(model, predictions)

    @property
    def threshold(self):
        """The highest posterior at which a sample is done."""
        return self._threshold

    @threshold.setter
    def threshold(self, value):
        self._threshold = checks.number("threshold", value, above=0, most=1)

    def predict(self, images, batch_size=32, verbose=0):
        """Predicts in batches.

        Args:
            images: array or tensor `(N, H, W, C)`.
            batch_size: int ≥ 1, images that start together.
            verbose: 1 for a progress bar, 0 for none.

        Returns:
            `(predictions, timesteps)`: an array `(N, classes)`, each row the model's
            output at the timestep where the sample stopped, and an int32 array `(N,)`
            of those timesteps, from 1.

        Raises:
            ValueError: if `batch_size` is no integer ≥ 1, or the images have not the
                shape that the model takes.
        """
        batch_size = checks.integer("batch_size", batch_size)
        found, wanted = tuple(getattr(images, "shape", ())), tuple(self._input.shape)
        if not checks.fits(found[1:], wanted[1:]):
            raise ValueError(
                "images must be an array or tensor of shape "
                f"{wanted}, got {type(images).__name__} of shape {found}."
            )
        starts = range(0, len(images), batch_size)
        progress = keras.utils.Progbar(len(starts), verbose=verbose)
        predictions, timesteps = [], []
        for start in starts:
            made = self._predict_batch(images[start : start + batch_size])
            predictions.append(made[0])
            timesteps.append(made[1])
            progress.add(1)
        if not predictions:
            classes = self.parts[0].model.outputs[0].shape[-1]
            return np.zeros((0, classes), "float32"), np.zeros(0, "int32")
        return np.concatenate(predictions), np.concatenate(timesteps)

    def _predict_batch(self, images):
        count = len(images)
        left = np.arange(count)  # which samples are not done
        carried = [ops.cast(ops.convert_to_tensor(images), self._input.dtype)]
        results, timesteps = None, np.zeros(count, "int32")
        for timestep, part in enumerate(self.parts, start=1):
            prediction, carried = part(carried, len(left))
            if results is None:
                results = np.zeros((count, prediction.shape[1]), prediction.dtype)
            done = self._confidence(prediction) >= self.threshold
            if timestep == self.timesteps:
                done[:] = True
            results[left[done]] = prediction[done]
            timesteps[left[done]] = timestep
            left = left[~done]
            if not len(left):
                break
            if done.any():
                kept = np.flatnonzero(~done)
                carried = [ops.take(x, kept, axis=0) for x in carried]
        return results, timesteps

    def _confidence(self, prediction):
        prediction = prediction.astype("float32")  # 16 bits add up many small ones to 0
        if prediction.shape[-1] == 1:
            p = ops.sigmoid(prediction) if self._is_logits else prediction
            p = ops.convert_to_numpy(p)[..., 0]
            return np.maximum(p, 1 - p)
        if self._is_logits:
            e = np.exp(prediction - prediction.max(axis=-1, keepdims=True))
            prediction = e / e.sum(axis=-1, keepdims=True)
        return prediction.max(axis=-1)


class _Part:
    """What one timestep adds to what is carried over from the earlier ones.

    Args:
        model: the model that is cut.
        carried: symbolic tensors of it that earlier parts hand over.
        prediction: the symbolic prediction of this timestep.
        handed_on: symbolic tensors for the later parts; what is in `carried` is
            handed on as it is.
    """

    def __init__(self, model, carried, prediction, handed_on):
        made = [x for x in handed_on if not _is_in(x, carried)]
        # Of any number of samples, also where the model's own is fixed.
        inputs = [keras.Input(x.shape[1:], dtype=x.dtype) for x in carried]
        places = dict(zip(carried, inputs, strict=True))
        outputs = graph.rerun(model, places, outputs=[prediction, *made])
        self.model = keras.Model(inputs, outputs)
        self._run = compile_forward(self.model)
        # Where each tensor to hand on is found: among those carried, then those made.
        known = [*carried, *made]
        self._places = [
            next(place for place, y in enumerate(known) if y is x) for x in handed_on
        ]

    def __call__(self, carried, count):
        """Returns the prediction as an array and what to hand on, `count` samples."""
        prediction, *made = tree.flatten(self._run([_padded(x) for x in carried]))
        prediction = ops.convert_to_numpy(prediction)[:count]
        return prediction, self._hand_on(carried, [x[:count] for x in made])

    def trace(self, carried):
        """The same with tensors, for a graph."""
        with root_scope():
            prediction, *made = tree.flatten(self.model(carried, training=False))
        return prediction, self._hand_on(carried, made)

    def _hand_on(self, carried, made):
        known = [*carried, *made]
        return [known[place] for place in self._places]


def _padded(x):
    """On JAX, which compiles for each shape: as many samples as a power of two."""
    if keras.backend.backend() != "jax":
        return x
    wanted = 1 << (len(x) - 1).bit_length()
    return ops.pad(x, [(0, wanted - len(x))] + [(0, 0)] * (len(x.shape) - 1))


def predictions_of(model):
    """The symbolic predictions of all timesteps of a model, in their order.

    Raises:
        TypeError, ValueError: as `early_exit`.
    """
    model = graph.seen_through(graph.require_graph(model))
    stacked = graph.producer(model.outputs[0])
    if not isinstance(stacked.operation, StackTimesteps):
        raise ValueError(
            "model must give the predictions of all its timesteps, as one built with "
            f"return_sequences=True does, got '{model.name}' with output "
            f"{tuple(model.outputs[0].shape)}."
        )
    return stacked.input_tensors


def _cut(model, predictions):
    """One `_Part` a timestep."""
    inputs = list(model.inputs)
    nodes = graph.nodes(inputs, predictions)
    first_use = {}  # of each call, the first timestep that needs it
    for timestep, prediction in enumerate(predictions):
        for node in graph.nodes(inputs, [prediction]):
            first_use.setdefault(id(node), timestep)
    made_in = {id(x): first_use[id(n)] for n in nodes for x in n.outputs}
    used_in = {}  # of each tensor, the last timestep that needs it
    for node in nodes:
        for x in node.input_tensors:
            used_in[id(x)] = max(used_in.get(id(x), 0), first_use[id(node)])
    tensors = [*inputs, *(x for node in nodes for x in node.outputs)]
    carried = [
        [
            x
            for x in tensors
            if made_in.get(id(x), -1) < timestep <= used_in.get(id(x), -1)
        ]
        for timestep in range(1, len(predictions))
    ]
    return [
        _Part(model, before, prediction, after)
        for before, prediction, after in zip(
            [inputs, *carried], predictions, [*carried, []], strict=True
        )
    ]


def _is_in(tensor, tensors):
    return any(tensor is x for x in tensors)
