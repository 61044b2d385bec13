"""A saliency method on one classifier, run in chunks of images."""

import time

import keras
import numpy as np
from keras import ops

from kfeedback import checks, preprocessing
from kfeedback.backend import compile_function
from kfeedback.explain import boxes, second_look
from kfeedback.explain.methods.base import get_method

_MOST_COMPILED = 16  # for so many sizes of images and chunks
_SILENT_SECONDS = 5  # work that takes longer gets a progress bar


class Explainer:
    """Says where in an image a classifier sees a class; compiled once per shape.

    Args:
        model: a functional `keras.Model` that gives `(B, classes)`: softmax or sigmoid
            posteriors, or logits.
        method: a saliency method such as `explain.Feedback(iterations=20)`, or a name
            of `explain.list_methods()`, which stands for it with its defaults.
        preprocess: what is done to images of 0 to 255 before the model: `None`, a mode
            of `kfeedback.preprocessing.preprocess_input`, or a function in `keras.ops`.
        batch_size: int ≥ 1, pairs of an image and a target that are computed at once,
            also of more targets for one image; the memory that is used depends on it
            alone. Fewer are filled up to a power of two, so that few shapes are
            compiled.

    Attributes:
        method: the `explain.Method`.
        network: the model as the method calls it, with `model` and `classes`.

    Raises:
        TypeError: if `model` is no Keras model, `method` a class, or `preprocess` none
            of these.
        ValueError: if an argument is not as above, or the method cannot explain the
            model, as feedback one without a ReLU.

    Example:

        explainer = explain.Explainer(model, explain.GradCAM(), preprocess="scale")
        maps = explainer.saliency(images)
    """

    def __init__(self, model, method="feedback", *, preprocess=None, batch_size=16):
        self.method = get_method(method)
        self.batch_size = checks.integer("batch_size", batch_size)
        self.preprocess = _check_preprocess(preprocess)
        self.network = self.method.network(model)
        self._compiled = {}

    def saliency(self, images, targets=None, *, verbose="auto"):
        """Saliency maps.

        Args:
            images: `(N, H, W, C)` of the model's size, values 0 to 255; with
                `preprocess=None` any finite ones, as the model takes them.
            targets: `None` for the class that the model predicts, or int classes:
                `(N,)`, or `(N, K)` for several targets an image.
            verbose: `True`, `False`, or `"auto"` for a progress bar if it takes long.

        Returns:
            float32 `(N, H, W)`, or `(N, K, H, W)` for K targets an image.

        Raises:
            TypeError: if `verbose` is none of these.
            ValueError: if another argument is not as above.

        Example:

            maps = explainer.saliency(images, [[3, 5]])[0]  # of two classes
        """
        targets = _array("targets", targets)
        parts = self._maps(images, targets, verbose, lambda maps: maps)
        return _joined(parts, len(images), single=np.ndim(targets) < 2)

    def localize(
        self, images, targets=None, *, energy=None, components=False, verbose="auto"
    ):
        """The box of a class: the least that holds the foreground of its map.

        The foreground is the fewest pixels that keep a share of the map's energy.

        Args:
            images, targets, verbose: as for `saliency`.
            energy: that share, > 0 and ≤ 1; by default the method's own `energy`.
            components: bool, the boxes of all connected components of the foreground
                instead.

        Returns:
            int32 `(N, 4)`, or `(N, K, 4)`: `(top, left, bottom, right)` in pixels, ends
            excluded; zeros where a map is zero. With `components` a list (of lists, for
            K targets an image) of int32 `(M, 4)`, the component of most pixels first.

        Raises:
            TypeError: if `components` is no bool, or `verbose` none of these.
            ValueError: if another argument is not as above.

        Example:

            top, left, bottom, right = explainer.localize(images)[0]
        """
        energy = self.method.energy if energy is None else boxes.check_energy(energy)
        energy = np.float32(energy)
        targets = _array("targets", targets)
        single = np.ndim(targets) < 2

        def mask(maps):
            return boxes.foreground(maps, energy)

        def box(maps):
            return boxes.smallest_box(mask(maps))

        if not checks.boolean("components", components):
            parts = self._maps(images, targets, verbose, box)
            return _joined(parts, len(images), single)
        found = [
            [boxes.component_boxes(one) for one in masks]
            for part in self._maps(images, targets, verbose, mask)
            for masks in part
        ]
        return [own[0] for own in found] if single else found

    def look_twice(self, images, **kwargs):
        """`kfeedback.explain.second_look.look_twice(self, images, **kwargs)`.

        Args:
            images, **kwargs: as there.
        """
        return second_look.look_twice(self, images, **kwargs)

    def predict(self, images, *, verbose="auto"):
        """The posterior of images `(N, H, W, C)`: float32 `(N, classes)`.

        Args:
            images: as for `saliency`.
            verbose: `True`, `False`, or `"auto"` for a progress bar if it takes long.
        """
        images = _check_images(images, self.network.model)
        size = _chunk_size(self.batch_size, len(images))
        key = ("predict", size, *images.shape[1:3])
        run = self._compile(key, self._posterior)
        found = []
        for part in self.parts(len(images), size, verbose):
            posterior = run(self._chunk(images[part], size))
            found.append(ops.convert_to_numpy(posterior)[: len(images[part])])
        return np.concatenate(found)

    def explain(self, images, targets=None, top=1):
        """What a method's `explain` gives, for tensors `(B, H, W, C)` of 0 to 255.

        It is not compiled, and may stand inside a graph.

        Args:
            images: tensor `(B, H, W, C)`.
            targets: int32 tensor `(B, K)`, or `None` for the best `top` classes.
            top: int, then the K.
        """
        images = self._prepared(images)
        return self.method.explain(self.network, images, targets, top)

    def parts(self, count, size, verbose):
        """Slices of `count` images, `size` at a time, with a progress bar.

        Args:
            count: int, how many images there are.
            size: int ≥ 1.
            verbose: `True`, `False` or `"auto"`.
        """
        if verbose != "auto" and not isinstance(verbose, bool):
            raise TypeError(f"verbose must be True, False or 'auto', got {verbose!r}.")
        start, bar = time.monotonic(), None
        for first in range(0, count, size):
            yield slice(first, first + size)
            done = min(first + size, count)
            late = time.monotonic() - start > _SILENT_SECONDS and done < count
            if bar is None and (verbose is True or (verbose and late)):
                bar = keras.utils.Progbar(count, unit_name="image")
            if bar is not None:
                bar.update(done)

    def _maps(self, images, targets, verbose, function):
        """`function` of the maps `(B, K, H, W)` of some images at a time, as arrays."""
        images = _check_images(images, self.network.model)
        targets = _check_targets(targets, len(images), self.network.classes)
        columns = 1 if targets is None else targets.shape[1]
        width = _balanced_size(columns, self.batch_size)  # targets of an image at once
        size = _chunk_size(max(1, self.batch_size // width), len(images))
        # Methods ask for the size of images, which TensorFlow forgets in a second one.
        key = ("maps", size, width, targets is None, *images.shape[1:3])
        run = self._compile(key, lambda *given: self.explain(*given)["maps"])
        for part in self.parts(len(images), size, verbose):
            given, found = self._chunk(images[part], size), []
            for first in range(0, columns, width):
                more = []
                if targets is not None:
                    own = targets[part, first : first + width]
                    more = [_padded(_padded(own, size).T, width).T]
                found.append(ops.convert_to_numpy(function(run(given, *more))))
            yield np.concatenate(found, axis=1)[: len(images[part]), :columns]

    def _chunk(self, images, size):
        """Images as float32, checked and padded to a size."""
        check = checks.finite if self.preprocess is None else checks.pixels
        images = check("images", ops.convert_to_numpy(images))
        return _padded(images.astype(np.float32), size)

    def _posterior(self, images):
        return self.network.posterior(self.network.scores(self._prepared(images)))

    def _prepared(self, images):
        """Images of 0 to 255 as the model takes them."""
        images = ops.cast(images, "float32")
        if isinstance(self.preprocess, str):
            images = preprocessing.preprocess_input(images, self.preprocess)
        elif self.preprocess is not None:
            images = self.preprocess(images)
        return ops.cast(images, "float32")

    def _compile(self, key, function):
        """The function compiled for a key; the last few used are kept."""
        run = self._compiled.pop(key, None)
        if run is None:
            run = compile_function(self.network.model, function)
        self._compiled[key] = run
        if len(self._compiled) > _MOST_COMPILED:
            del self._compiled[next(iter(self._compiled))]
        return run


def _joined(parts, count, single):
    """One array of those of chunks; for single targets without their axis."""
    result, first = None, 0
    for part in parts:
        if result is None:
            result = np.empty((count, *part.shape[1:]), part.dtype)
        result[first : first + len(part)] = part
        first += len(part)
    return result[:, 0] if single else result


def _chunk_size(most, count):
    """How many of `count` images to take at once."""
    return min(most, 1 << (count - 1).bit_length())


def _balanced_size(count, most):
    """The least size of as few parts of `count` as hold at most `most` each."""
    parts = -(-count // most)
    return -(-count // parts)


def _padded(array, size):
    """An array with its last entry repeated up to a size: nothing recompiles."""
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, 0)])


def _array(name, value):
    """Lists as an array; `None` and what is an array or a tensor as it is."""
    is_one = value is None or hasattr(value, "dtype")
    return value if is_one else checks.array(name, value)


def _check_preprocess(preprocess):
    if isinstance(preprocess, str):
        checks.one_of("preprocess", preprocess, preprocessing.PREPROCESSING_MODES)
    elif preprocess is not None and not callable(preprocess):
        raise TypeError(
            "preprocess must be None, a mode or a function, got "
            f"{type(preprocess).__name__}."
        )
    return preprocess


def _check_images(images, model):
    """Images as an array, of which only the shape is looked at."""
    images = _array("images", images)
    shape = model.inputs[0].shape[1:]
    if not checks.fits(images.shape[1:], shape) or not len(images):
        wanted = ", ".join(map(str, ("N", *shape)))
        raise ValueError(
            f"images must have the shape ({wanted}), N ≥ 1, of model '{model.name}', "
            f"got {tuple(images.shape)}."
        )
    return images


def _check_targets(targets, count, classes):
    """Targets as int32 `(N, K)`, or `None`."""
    if targets is None:
        return None
    targets = ops.convert_to_numpy(targets)
    if targets.dtype.kind not in "iu" or targets.shape[:1] != (count,):
        raise ValueError(
            f"targets must be int classes, one or one row for each of {count} images, "
            f"got {targets.dtype} {targets.shape}."
        )
    if targets.ndim > 2 or targets.size == 0:
        raise ValueError(f"targets must be (N,) or (N, K), got {targets.shape}.")
    if targets.min() < 0 or targets.max() >= classes:
        raise ValueError(
            f"targets must be from 0 to {classes - 1}, got {targets.min()} to "
            f"{targets.max()}."
        )
    return targets.reshape(count, -1).astype(np.int32)
