"""Maps, boxes and second looks of one classifier, in chunks of images."""

import math

import numpy as np
from keras import ops

from kfeedback import checks, preprocessing
from kfeedback.backend import compile_function
from kfeedback.explain import _arguments
from kfeedback.explain import boxes as boxes_lib
from kfeedback.explain._gated import Gated
from kfeedback.explain._methods import METHODS, saliency_maps
from kfeedback.explain._progress import Progress


class Explainer:
    """Says where in an image a classifier sees a class; compiled once per shape.

    Args:
        model: a functional `keras.Model` that gives `(B, classes)`: softmax or sigmoid
            posteriors, or logits.
        method: `"feedback"` (Cao et al., 2015, see `kfeedback.FeedbackCNN`),
            `"gradient"` (Simonyan et al., 2014), `"deconvnet"` (Zeiler and Fergus,
            2014), `"guided_backpropagation"` (Springenberg et al., 2015) or
            `"grad_cam"` (Selvaraju et al., 2017).
        preprocess: what is done to images of 0 to 255 before the model: `None`, a mode
            of `kfeedback.preprocessing.preprocess_input`, or a function in `keras.ops`.
        batch_size: int ≥ 1, pairs of an image and a target that are computed at once;
            the memory that is used depends on it alone. Fewer are filled up to a power
            of two, so that few shapes are compiled.
        gate_layers, iterations, step_size, sparsity, update_rule, start, normalize: of
            the feedback, as `kfeedback.FeedbackCNN` takes them.

    Raises:
        TypeError: if an argument has another type.
        ValueError: if an argument is not as above, or the model has no ReLU to gate.
    """

    def __init__(
        self,
        model,
        method="feedback",
        *,
        preprocess=None,
        batch_size=16,
        gate_layers=None,
        iterations=10,
        step_size=0.1,
        sparsity=0.02,
        update_rule="gradient_ascent",
        start="half",
        normalize=True,
    ):
        _arguments.one_of("method", method, METHODS)
        self.method = method
        self.batch_size = checks.integer("batch_size", batch_size)
        self.feedback = _arguments.check_feedback(
            iterations, step_size, sparsity, update_rule, start, normalize
        )
        self.preprocess = _arguments.check_preprocess(preprocess)
        self.network = Gated(model, gate_layers, need_sites=method == "feedback")
        self.model = self.network.model
        self._functions = {}

    def saliency(self, images, targets=None, *, verbose="auto"):
        """Saliency maps.

        Args:
            images: `(N, H, W, C)` of the model's size, values 0 to 255.
            targets: `None` for the class that the model predicts, or int classes:
                `(N,)`, or `(N, K)` for several targets an image.
            verbose: `True`, `False`, or `"auto"` for a progress bar if it takes long.

        Returns:
            float32 `(N, H, W)`, or `(N, K, H, W)` for K targets an image: for feedback
            and gradients the maximum over channels of |∂s_k/∂I|.

        Raises:
            ValueError: if an argument is not as above.
        """
        return self._all(images, targets, verbose, "maps")

    def localize(
        self, images, targets=None, *, energy=0.95, components=False, verbose="auto"
    ):
        """The box of a class: the least that holds the foreground of its map.

        The foreground is the fewest pixels that keep a share of the map's energy.

        Args:
            images, targets, verbose: as for `saliency`.
            energy: that share, > 0 and ≤ 1.
            components: bool, the boxes of all connected components of the foreground
                instead.

        Returns:
            int32 `(N, 4)`, or `(N, K, 4)`: `(top, left, bottom, right)` in pixels, ends
            excluded; zeros where a map is zero. With `components` a list (of lists, for
            K targets an image) of int32 `(M, 4)`, the component of most pixels first.

        Raises:
            TypeError: if `components` is no bool.
            ValueError: if another argument is not as above.
        """
        energy = _arguments.check_energy(energy)
        if not checks.boolean("components", components):
            return self._all(images, targets, verbose, "boxes", energy)
        single = np.ndim(targets) < 2
        found = []
        for chunk in self._chunks(images, targets, verbose, "mask", energy):
            found += [
                [boxes_lib.component_boxes(mask) for mask in masks]
                for masks in chunk["mask"]
            ]
        return [boxes[0] for boxes in found] if single else found

    def look_twice(
        self,
        images,
        *,
        top=5,
        energy=0.95,
        margin=0.0,
        square=False,
        size=None,
        verbose="auto",
    ):
        """Classifies, crops what matters for each of the best classes, and again.

        The boxes of the `top` classes of the whole image are cut out of the original,
        resized to the model's input and classified; of the top · top pairs of class and
        confidence the best distinct classes are the answer.

        Args:
            images: `(N, H, W, C)`, or a list of `(H, W, C)` of any sizes, values 0 to
                255: the originals. The first look is at them resized.
            top: int ≥ 1, classes; no more than the model has are taken.
            energy: as for `localize`.
            margin: ≥ 0, what is added to a box on each side, as a share of it.
            square: bool, cut out the least square around a box.
            size: `(H, W)` of both looks; by default the model's own, if it has one.
            verbose: as for `saliency`.

        Returns:
            dict of arrays: `classes` and `scores` `(N, top)`, the answer, best first;
            `first_classes` and `first_scores` `(N, top)` of the first look; `boxes`
            int32 `(N, top, 4)`, what was cut out, in pixels of the original.

        Raises:
            ValueError: if an argument is not as above.
        """
        energy = _arguments.check_energy(energy)
        top = min(checks.integer("top", top), self.network.classes)
        margin = checks.number("margin", margin, least=0, below=math.inf)
        checks.boolean("square", square)
        names = ["classes", "scores", "first_classes", "first_scores", "boxes"]
        results = {name: [] for name in names}
        if len(images) == 0:
            raise ValueError("images must be at least one, got none.")
        size = self._size(size)
        step = max(1, self.batch_size // top)
        bar = Progress(len(images), verbose)
        for first in range(0, len(images), step):
            part = images[first : first + step]
            originals = [_original(x, self.model) for x in part]
            resized = np.stack([_resize(x, size) for x in originals])
            found = self._chunks(
                resized, None, False, "boxes", energy, top, len(images)
            )
            found = next(found)
            boxes = [
                [_window(b, x.shape[:2], size, margin, square) for b in own]
                for own, x in zip(found["boxes"], originals, strict=True)
            ]
            crops = [
                _resize(x[t:b, left:r], size)
                for own, x in zip(boxes, originals, strict=True)
                for t, left, b, r in own
            ]
            posterior = self._posterior(np.stack(crops), top * len(images))
            posterior = posterior.reshape(len(part), top, -1)
            classes, scores = _best_distinct(posterior, top)
            for name, value in zip(
                names,
                (classes, scores, found["targets"], found["scores"], boxes),
                strict=True,
            ):
                results[name].append(np.asarray(value))
            bar.update(first + len(part))
        return {name: np.concatenate(parts) for name, parts in results.items()}

    def predict(self, images, *, verbose="auto"):
        """The posterior of images `(N, H, W, C)`: float32 `(N, classes)`."""
        images = _arguments.check_images(images, self.model)
        bar = Progress(len(images), verbose)
        found = []
        for first in range(0, len(images), self.batch_size):
            part = images[first : first + self.batch_size]
            found.append(self._posterior(_arguments.check_range(part), len(images)))
            bar.update(first + len(part))
        return np.concatenate(found)

    def _posterior(self, images, total):
        """The posterior of checked images, some of `total`."""

        def function(images):
            scores = self.network.scores(self._prepared(images))
            return self.network.posterior(scores)

        run = self._compiled("posterior", function)
        size, parts = _chunk_size(self.batch_size, total), []
        for first in range(0, len(images), size):
            part = images[first : first + size]
            found = run(_padded(part, size))
            parts.append(ops.convert_to_numpy(found)[: len(part)])
        return np.concatenate(parts)

    def _prepared(self, images):
        return ops.cast(prepare(self.preprocess, images), "float32")

    def _compiled(self, key, function):
        if key not in self._functions:
            self._functions[key] = compile_function(self.model, function)
        return self._functions[key]

    def _size(self, size):
        own = self.model.inputs[0].shape[1:3]
        size = own if size is None else tuple(size)
        fits = len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
        if not fits or any(n not in (None, m) for n, m in zip(own, size, strict=True)):
            raise ValueError(
                f"size must be (H, W) as '{self.model.name}' takes it, {own}, got "
                f"{size}."
            )
        return size

    def _all(self, images, targets, verbose, wanted, energy=1.0):
        """One array of what the chunks give; for single targets without their axis."""
        chunks = self._chunks(images, targets, verbose, wanted, energy)
        single, result, first = np.ndim(targets) < 2, None, 0
        for chunk in chunks:
            found = chunk[wanted][:, 0] if single else chunk[wanted]
            if result is None:
                result = np.empty((len(images), *found.shape[1:]), found.dtype)
            result[first : first + len(found)] = found
            first += len(found)
        return result

    def _chunks(self, images, targets, verbose, wanted, energy=1.0, top=1, total=None):
        """Dicts of arrays with `wanted`, `targets` and `scores` of some images each.

        They are some of `total` images, all of which are to come in one shape.
        """
        images = _arguments.check_images(images, self.model)
        targets = _arguments.check_targets(targets, len(images), self.network.classes)

        def function(images, energy, targets=None):
            return explain(
                self.network,
                self.method,
                self.feedback,
                self._prepared(images),
                targets,
                top,
                energy,
                wanted,
            )

        run = self._compiled((wanted, targets is None, top), function)
        count = top if targets is None else targets.shape[1]
        step = max(1, self.batch_size // count)
        step = _chunk_size(step, len(images) if total is None else total)
        return self._run(run, images, targets, step, np.float32(energy), verbose)

    def _run(self, run, images, targets, step, energy, verbose):
        bar = Progress(len(images), verbose)
        for first in range(0, len(images), step):
            part = _arguments.check_range(images[first : first + step])
            more = []
            if targets is not None:
                more = [_padded(targets[first : first + step], step)]
            found = run(_padded(part, step), energy, *more)
            yield {
                name: ops.convert_to_numpy(value)[: len(part)]
                for name, value in found.items()
            }
            bar.update(first + len(part))


def explain(network, method, feedback, images, targets, top, energy, wanted):
    """Posterior, targets, and what is wanted of maps and boxes, in `keras.ops`.

    Args:
        network: `Gated`.
        method: one of `METHODS`.
        feedback: `Feedback`.
        images: float32 `(B, H, W, C)`, as the model takes them.
        targets: int32 `(B, K)`, or `None` for the best `top` classes.
        top: int.
        energy: share of the foreground.
        wanted: `"maps"`, `"mask"`, `"boxes"`, or `"all"`.

    Returns:
        dict of tensors: `posterior` `(B, classes)`, `targets` and `scores` `(B, K)`,
        `maps` `(B, K, H, W)`, `mask` of that shape, `boxes` `(B, K, 4)`.
    """
    first = network.first_pass(images)
    posterior = network.posterior(first[0])
    if targets is None:
        scores, targets = ops.top_k(posterior, top)
        targets = ops.cast(targets, "int32")
    else:
        scores = ops.take_along_axis(posterior, targets, axis=-1)
    maps = saliency_maps(network, method, feedback, images, targets, first[1])
    result = {"posterior": posterior, "targets": targets, "scores": scores}
    if wanted in ("maps", "all"):
        result["maps"] = maps
    if wanted != "maps":
        mask = boxes_lib.foreground(maps, energy)
        if wanted == "mask":
            result["mask"] = mask
        else:
            result["boxes"] = boxes_lib.smallest_box(mask)
    return result


def prepare(preprocess, images):
    """Images of 0 to 255 as a model takes them."""
    if preprocess is None:
        return images
    if isinstance(preprocess, str):
        return preprocessing.preprocess_input(images, preprocess)
    return preprocess(images)


def _chunk_size(most, count):
    """How many of `count` images to take at once."""
    return min(most, 1 << (count - 1).bit_length())


def _padded(array, size):
    """An array with its last entry repeated up to a size: nothing recompiles."""
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, 0)])


def _original(image, model):
    image = ops.convert_to_numpy(image)
    channels = model.inputs[0].shape[-1]
    if image.ndim != 3 or image.shape[-1] != channels or 0 in image.shape:
        raise ValueError(
            f"images must be (H, W, {channels}), got one of shape {image.shape}."
        )
    return _arguments.check_range(image)


def _resize(image, size):
    if image.shape[:2] == size:
        return image
    resized = ops.image.resize(image, size, antialias=True, data_format="channels_last")
    return np.clip(ops.convert_to_numpy(resized), 0, 255)


def _window(box, shape, size, margin, square):
    """A box in the model's input as one in the original; all of it for an empty box."""
    if not (box[2:] > box[:2]).all():
        return np.array([0, 0, *shape], np.int32)
    scale = np.array(shape) / np.array(size)
    start, stop = box[:2] * scale, box[2:] * scale
    sides = (stop - start) * (1 + 2 * margin)
    if square:
        sides = np.maximum(sides, sides.max())
    sides = np.minimum(sides, shape)
    start = np.clip((start + stop - sides) / 2, 0, np.array(shape) - sides)
    first = np.floor(start + 1e-6).astype(int)
    last = np.ceil(start + sides - 1e-6).astype(int)
    return np.concatenate([first, np.maximum(last, first + 1)]).astype(np.int32)


def _best_distinct(posterior, top):
    """The best classes of several looks `(N, looks, classes)`, each counted once."""
    best = posterior.max(axis=1)
    # Only the best `top` of a look are candidates.
    bound = -np.sort(-posterior, axis=-1)[..., top - 1 : top]
    best = np.where((posterior >= bound).any(axis=1), best, -1.0)
    classes = np.argsort(-best, axis=-1, kind="stable")[:, :top].astype(np.int32)
    return classes, np.take_along_axis(best, classes, axis=-1)
