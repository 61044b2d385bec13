"""Adversarial images: FGSM and PGD, untargeted, bounded in every pixel (L∞)."""

import keras
import numpy as np
from keras import ops

from kfeedback import checks, graph
from kfeedback.backend import input_gradient
from kfeedback.classifier import check_output
from kfeedback.corruptions import checked_images, start_noise

PREDICTIONS = ("last", "all")


def fgsm(model, images, labels, epsilon, **kwargs):
    """One step of size epsilon up the loss; see `Attack`.

        x' = clip(x + ε sign(∇_x L(x, y)), 0, 255)

    Args:
        model: a classifier, as `Attack` takes it.
        images: `(N, ...)`, values 0 to 255.
        labels: int classes `(N,)`.
        epsilon: ε ≥ 0, on the scale of 0 to 255.
        **kwargs: arguments of `Attack`.

    Returns:
        float32 images of the same shape.

    Raises:
        ValueError: if an argument is not as above.

    Reference:
        Goodfellow, Shlens and Szegedy, Explaining and harnessing adversarial examples,
        2015.

    Example:
        >>> model = kfeedback.load_pretrained("lenet_mnist_bg_sample")
        >>> images, labels, _ = kfeedback.datasets.load_arrays(
        ...     "mnist_background_images_sample", "test[:8]"
        ... )
        >>> attacked = fgsm(model, images, labels, 2, preprocess=lambda x: x / 255)
        >>> attacked.shape, float(np.abs(attacked - images.astype("float32")).max())
        ((8, 28, 28, 1), 2.0)
    """
    return Attack(model, **kwargs).fgsm(images, labels, epsilon)


def pgd(
    model,
    images,
    labels,
    epsilon,
    step_size,
    steps,
    random_start=True,
    seed=0,
    **kwargs,
):
    """Several steps up the loss, each back into the ε ball; see `Attack`.

        x' ← clip_{x, ε}(x' + α sign(∇_x' L(x', y)))

    where clip_{x, ε} brings every value to within ε of x and to 0 to 255.

    Args:
        model: a classifier, as `Attack` takes it.
        images: `(N, ...)`, values 0 to 255.
        labels: int classes `(N,)`.
        epsilon: ε ≥ 0, on the scale of 0 to 255.
        step_size: α > 0, on that scale.
        steps: int ≥ 1.
        random_start: bool, starts from a uniform point of the ball instead of x.
        seed: int ≥ 0, of that point; image i's depends on (seed, i) only.
        **kwargs: arguments of `Attack`.

    Returns:
        float32 images of the same shape.

    Raises:
        ValueError: if an argument is not as above.

    Reference:
        Madry et al., Towards deep learning models resistant to adversarial attacks,
        2018.

    Example:
        >>> model = kfeedback.load_pretrained("lenet_mnist_bg_sample")
        >>> images, labels, _ = kfeedback.datasets.load_arrays(
        ...     "mnist_background_images_sample", "test[:8]"
        ... )
        >>> attacked = pgd(model, images, labels, 4, 1, 5, preprocess=lambda x: x / 255)
        >>> attacked.shape
        (8, 28, 28, 1)
    """
    attack = Attack(model, **kwargs)
    return attack.pgd(images, labels, epsilon, step_size, steps, random_start, seed)


class Attack:
    """Attacks on one classifier, which are compiled once.

    The gradient goes through `preprocess` and through all timesteps. L is the
    cross-entropy. For the last prediction its direction is taken from the log-odds,
    log Σ_{k≠y} p_k − log p_y, which rises where the cross-entropy does: the sign of the
    gradient is the same, but it does not vanish where float32 rounds p_y to 1. (It does
    where every other posterior is below 1e-37; then only logits can be attacked.)

    Args:
        model: a Keras classifier of one input that gives `(B, classes)`, or `(B, T,
            classes)` for T timesteps: softmax posteriors or, with `from_logits`,
            logits.
        preprocess: function from images of 0 to 255 to what `model` takes, in
            `keras.ops` or arithmetic; by default it takes them as they are.
        from_logits: bool.
        predictions: which of the timesteps to attack: `"last"`, or `"all"`, the sum of
            their losses.
        batch_size: int ≥ 1.

    Raises:
        TypeError: if `model` is no Keras model or a flag no bool.
        ValueError: if an argument is not as above.

    Example:
        >>> model = kfeedback.load_pretrained("lenet_mnist_bg_sample")
        >>> images, labels, _ = kfeedback.datasets.load_arrays(
        ...     "mnist_background_images_sample", "test[:8]"
        ... )
        >>> attack = Attack(model, preprocess=lambda x: x / 255)
        >>> [attack.fgsm(images, labels, epsilon).shape for epsilon in (1, 2)]
        [(8, 28, 28, 1), (8, 28, 28, 1)]
    """

    def __init__(
        self,
        model,
        *,
        preprocess=None,
        from_logits=False,
        predictions="last",
        batch_size=128,
    ):
        if not isinstance(model, keras.Model):
            raise TypeError(f"model must be a keras.Model, got {model!r}.")
        if preprocess is not None and not callable(preprocess):
            raise TypeError(
                f"preprocess must be None or a function, got {preprocess!r}."
            )
        checks.boolean("from_logits", from_logits)
        checks.one_of("predictions", predictions, PREDICTIONS)
        self.model = model
        self._from_logits = from_logits
        self._batch_size = checks.integer("batch_size", batch_size)
        self._preprocess = preprocess
        self._classes = None  # known when the model has been checked
        self._has_gradient = False  # seen to be elsewhere than zero
        if graph.has_graph(model):  # else what it gives is checked
            takes = ("softmax", None)
            check_output(model, from_logits=from_logits, takes=takes, least=2)
        last = predictions == "last"
        self._gradient = input_gradient(
            model,
            lambda output, labels: _loss(output, labels, from_logits, last),
            preprocess,
        )

    def fgsm(self, images, labels, epsilon, first=0):
        """Returns the images of `kfeedback.attacks.fgsm`.

        Args:
            images, labels, epsilon: as for `kfeedback.attacks.fgsm`.
            first: of no effect, as nothing is random; so that it can stand for `pgd`.
        """
        del first  # nothing is random
        images, labels, epsilon = self._check(images, labels, epsilon)
        return self._each_batch(images, labels, epsilon, images, 1, epsilon)

    def pgd(
        self,
        images,
        labels,
        epsilon,
        step_size,
        steps,
        random_start=True,
        seed=0,
        first=0,
    ):
        """Returns the images of `kfeedback.attacks.pgd`.

        With `first`, the number of the first image, a data set can be attacked in
        parts.

        Args:
            images, labels, epsilon, step_size, steps, random_start, seed: as for
                `kfeedback.attacks.pgd`.
            first: int ≥ 0, the number of the first image in its data set.
        """
        step_size = checks.number("step_size", step_size, above=0, below=np.inf)
        steps = checks.integer("steps", steps)
        checks.boolean("random_start", random_start)
        seed = checks.integer("seed", seed, 0)
        first = checks.integer("first", first, 0)
        images, labels, epsilon = self._check(images, labels, epsilon)
        start = images
        if random_start:
            start = images + start_noise(images, epsilon, seed, first)
        return self._each_batch(images, labels, epsilon, start, steps, step_size)

    def _each_batch(self, images, labels, epsilon, start, steps, step_size):
        if not epsilon or not len(images):
            return images
        low, high = _ball(images, epsilon)
        attacked = np.clip(start, low, high)
        for begin in range(0, len(images), self._batch_size):
            part = slice(begin, begin + self._batch_size)
            for _ in range(steps):
                losses, gradient = self._gradient(attacked[part], labels[part])
                gradient = ops.convert_to_numpy(gradient)
                if not np.isfinite(gradient).all():
                    raise ValueError(
                        "model must have a finite gradient with respect to images, got "
                        f"one with NaN or infinity from '{self.model.name}'."
                    )
                if not (self._has_gradient or gradient.any()):
                    noise = start_noise(attacked[part], epsilon, seed=0)
                    moved = np.clip(attacked[part] + noise, low[part], high[part])
                    self._check_constant(losses, moved, labels[part])
                self._has_gradient = self._has_gradient or gradient.any()
                moved = attacked[part] + np.float32(step_size) * np.sign(gradient)
                attacked[part] = np.clip(moved, low[part], high[part])
        return attacked

    def _check_constant(self, losses, images, labels):
        """Refuses losses that change with the images but have no gradient."""
        others = self._gradient(images, labels)[0]
        if not np.array_equal(*map(ops.convert_to_numpy, (losses, others))):
            raise ValueError(
                "model must have a gradient with respect to images, got zero from "
                f"'{self.model.name}', whose loss changes with them: an input or "
                "`preprocess` of whole numbers has none, nor has a posterior that "
                "float32 rounds to 1."
            )

    def _check(self, images, labels, epsilon):
        epsilon = checks.number("epsilon", epsilon, least=0, most=255)
        images = checked_images(images, least_rank=2, most_rank=5)
        if len(images) and self._classes is None:
            self._check_output(images[: self._batch_size])
        labels = np.asarray(labels)
        whole = labels.dtype.kind in "iu" and labels.shape == images.shape[:1]
        if not whole or (
            labels.size and not (labels.min() >= 0 and labels.max() < self._classes)
        ):
            raise ValueError(
                f"labels must be whole numbers from 0 to {(self._classes or 1) - 1} of "
                f"the shape {images.shape[:1]}, got {labels.dtype} {labels.shape}."
            )
        return images, labels.astype("int32"), epsilon

    def _check_output(self, images):
        """Refuses a model that does not give distributions."""
        inputs = ops.convert_to_tensor(images)
        if self._preprocess is not None:
            inputs = self._preprocess(inputs)
        output = self.model(inputs, training=False)
        rank = len(getattr(output, "shape", ()))
        if rank not in (2, 3) or output.shape[-1] < 2:
            raise ValueError(
                "model must give (B, classes) or (B, T, classes) of at least 2 "
                f"classes, got '{self.model.name}', which gives "
                f"{tuple(getattr(output, 'shape', ())) or type(output).__name__}."
            )
        self._classes = output.shape[-1]
        output = ops.convert_to_numpy(ops.cast(output, "float32"))
        sums = output.sum(axis=-1)
        # bfloat16 keeps eight bits.
        sums_to_one = output.min() >= 0 and np.abs(sums - 1).max() < 0.02
        if self._from_logits and sums_to_one:
            raise ValueError(
                f"from_logits must be False for '{self.model.name}', which gives "
                "distributions, got True."
            )
        if not (self._from_logits or sums_to_one):
            raise ValueError(
                "model must give a distribution over the classes, or logits with "
                f"from_logits=True, got '{self.model.name}', whose output does not sum "
                "to 1."
            )


def _loss(output, labels, from_logits, last):
    """A value a sample, `(B,)`."""
    logits = ops.cast(output, "float32")
    if not from_logits:
        logits = ops.log(ops.maximum(logits, 1e-37))
    if len(logits.shape) == 2:
        logits = logits[:, None]
    if last:
        logits = logits[:, -1:]
    right = ops.one_hot(labels, logits.shape[-1], dtype="float32")[:, None]
    of_label = ops.sum(right * logits, axis=-1)
    # Of the label alone, the log-odds instead of the cross-entropy; see `Attack`.
    among = logits - 1e9 * right if last else logits
    return ops.sum(ops.logsumexp(among, axis=-1) - of_label, axis=-1)


def _ball(images, epsilon):
    """Bounds in float32 that lie within ε of the images and in 0 to 255."""
    exact = images.astype(np.float64)
    low = np.maximum(exact - epsilon, 0)
    high = np.minimum(exact + epsilon, 255)
    inner_low, inner_high = low.astype(np.float32), high.astype(np.float32)
    inner_low = np.where(inner_low < low, np.nextafter(inner_low, np.inf), inner_low)
    inner_high = np.where(
        inner_high > high, np.nextafter(inner_high, -np.inf), inner_high
    )
    return inner_low.astype(np.float32), inner_high.astype(np.float32)
