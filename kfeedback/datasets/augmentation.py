"""Augmentations by name, drawn from a seed that each image brings along.

Layers of Keras draw from a state of their own, which no checkpoint of a training holds.
Here they draw from the seed of the batch they get, so that a training that goes on in
the middle of an epoch sees what it would have seen. They run inside `tf.data`.

A new augmentation is one entry of `AUGMENTATIONS`.
"""

import dataclasses
import importlib.util
from collections.abc import Callable

import keras
import numpy as np

from kfeedback import checks
from kfeedback.registry import Registry

AUGMENTATIONS = Registry()

_RANGE = (0, 255)  # of the images
_ASPECTS = (3 / 4, 4 / 3)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What changes the images of a batch.

    Attributes:
        about: what it does, and what its strength is, a number from 0 to 1.
        build: function of the strength that gives a function of `(images, labels,
            seeds)`, float32 `(B, H, W, C)` from 0 to 255, labels and `Seeds`, that
            gives new images and labels.
        mixes: whether it mixes images, and with them their labels, which are then
            float32 `(B, classes)`.
        colored: whether the images must have 3 channels.
        needs: the package that it comes from besides Keras, or `None`.
    """

    about: str
    build: Callable
    mixes: bool = False
    colored: bool = False
    needs: str | None = None


class Seeds(keras.random.SeedGenerator):
    """The seeds of one batch, a new one for each draw, as Keras asks for them."""

    def __init__(self):
        super().__init__(0)
        self.start(0)

    def start(self, seed):
        """Begins a batch; `seed` is an int32 tensor `()`."""
        self.of_batch, self.drawn = seed, 0

    def next(self, ordered=True):
        """The next seed, int32 `(2,)`, as `tf.random.stateless_uniform` takes it."""
        import tensorflow as tf

        self.drawn += 1
        return tf.stack([self.of_batch, self.drawn])


def chosen(augment, argument="augment"):
    """The augmentations that a dict of their strengths names.

    Args:
        augment: dict from names in `AUGMENTATIONS` to numbers above 0 and up to 1.
        argument: what errors call it.

    Returns:
        list of `(augmentation, strength)`, those that mix at its end.

    Raises:
        ValueError: if a name is unknown or a strength not as above.
        ImportError: if one needs keras-cv, which is missing.
    """
    found = []
    for name, strength in (augment or {}).items():
        entry = AUGMENTATIONS.get(name, f"names in {argument}")
        checks.number(f"{argument}[{name!r}]", strength, above=0, most=1)
        if entry.needs and not importlib.util.find_spec(entry.needs):
            raise ImportError(
                f"{argument}[{name!r}] needs {entry.needs}, which is missing; install "
                "it with `pip install kfeedback[cv]`."
            )
        found.append((entry, float(strength)))
    return sorted(found, key=lambda pair: pair[0].mixes)


def mixes(augment):
    """Whether a dict of strengths has an augmentation that mixes labels."""
    return any(entry.mixes for entry, _ in chosen(augment))


def pipeline(augment, info):
    """A function that augments batches inside `tf.data`.

    Of several augmentations that mix, each batch gets one, by chance.

    Args:
        augment: as `chosen` takes it.
        info: `DatasetInfo` of the images.

    Returns:
        function of `(images, labels, seed)`: float32 `(B, H, W, C)` from 0 to 255,
        int32 `(B,)` or `(B, classes)` and int32 `()`, that gives images and labels;
        the labels are float32 `(B, classes)` if anything mixes.

    Raises:
        ValueError: also if the images have not the channels that are needed, or Keras
            has another backend than TensorFlow.
    """
    entries = chosen(augment)
    for entry, _ in entries:
        if entry.colored and info.image_shape[-1] != 3:
            names = [n for n, e in AUGMENTATIONS.entries().items() if e is entry]
            raise ValueError(
                f"augment must leave out {names[0]!r} for images without 3 channels, "
                f"got images {info.image_shape}."
            )
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "augment must be left out where KERAS_BACKEND is not tensorflow, as Keras' "
            f"layers then draw from a state of their own, got {', '.join(augment)}."
        )
    seeds = Seeds()
    single = [e.build(strength) for e, strength in entries if not e.mixes]
    mixing = [e.build(strength) for e, strength in entries if e.mixes]

    def apply(images, labels, seed):
        import tensorflow as tf

        shape = images.shape
        seeds.start(seed)
        for function in single:
            images, labels = function(images, labels, seeds)
        if mixing:
            if not info.multi_label:
                labels = tf.one_hot(labels, info.num_classes)
            labels = tf.cast(labels, tf.float32)
            which = keras.random.randint((), 0, len(mixing), seed=seeds)
            images, labels = tf.switch_case(
                which,
                [lambda mix=mix: mix(images, labels, seeds) for mix in mixing],
            )
        return tf.ensure_shape(images, shape), labels

    return apply


def random_window(scale):
    """A function of an image and its seed that cuts a window out of it.

    Args:
        scale: `(least, most)`, shares of the image's area; the window's aspect is
            between 3:4 and 4:3.

    Reference:
        Szegedy et al., Going deeper with convolutions, 2015, section 6.
    """
    import tensorflow as tf

    def crop(image, seed):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.shape(image),
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            seed=tf.stack([seed, 0]),
            min_object_covered=0.0,
            aspect_ratio_range=_ASPECTS,
            area_range=scale,
            max_attempts=10,
        )
        window = tf.slice(image, begin, size)
        return tf.ensure_shape(window, (None, None, image.shape[-1]))

    return crop


def center_window(share):
    """A function of an image (and a seed) that cuts the square in its middle out of it.

    Args:
        share: of the shorter side.
    """
    import tensorflow as tf

    def crop(image, seed):
        height, width = tf.unstack(tf.shape(image)[:2])
        # In float32 0.7 of 345 pixels would be one more than in `boxes`.
        shorter = tf.cast(tf.minimum(height, width), tf.float64)
        side = tf.maximum(tf.cast(tf.round(share * shorter), tf.int32), 1)
        top, left = (height - side) // 2, (width - side) // 2
        return image[top : top + side, left : left + side]

    return crop


def _changing(*make):
    """The `build` of layers that change images, each made by a function of strength."""

    def build(strength):
        layers = [one(strength) for one in make]

        def apply(images, labels, seeds):
            for layer in layers:
                layer.generator = seeds
                images = layer(images, training=True)
            return images, labels

        return apply

    return build


def _mixing(make):
    """The `build` of a layer that mixes, made by a function of strength."""

    def build(strength):
        layer = make(strength)

        def apply(images, labels, seeds):
            layer.generator = seeds
            mixed = layer({"images": images, "labels": labels}, training=True)
            return mixed["images"], mixed["labels"]

        return apply

    return build


def _grid_mask(share):
    """The `build` of keras-cv's GridMask, one image after the other."""
    import keras_cv
    import tensorflow as tf

    draws = _Draws()
    # It draws from what is the global generator when it is made.
    before = tf.random.get_global_generator()
    tf.random.set_global_generator(draws)
    try:
        layer = keras_cv.layers.GridMask(dtype="float32")
    finally:
        tf.random.set_global_generator(before)
    layer.ratio_factor = lambda: draws.uniform((), 0, share)

    def apply(images, labels, seeds):
        of_each = keras.random.randint(tf.shape(images)[:1], 0, 2**31 - 1, seed=seeds)

        def one(pair):
            draws.seeds.start(pair[1])
            return layer(pair[0], training=True)

        spec = tf.TensorSpec(images.shape[1:], tf.float32)
        return tf.map_fn(one, (images, of_each), fn_output_signature=spec), labels

    return apply


class _Draws:
    """What keras-cv asks of a `tf.random.Generator`, drawn from `Seeds`."""

    def __init__(self):
        self.seeds = Seeds()

    def uniform(self, shape, minval=0, maxval=1, dtype="float32"):
        return keras.random.uniform(shape, minval, maxval, dtype, seed=self.seeds)


def _fourier_mix(alpha, decay=3):
    """The `build` of FMix: masks of the low frequencies of noise.

    Keras-cv's draws from states of TensorFlow that no seed of a batch reaches.

    Reference:
        Harris et al., FMix: enhancing mixed sample data augmentation, 2020.
    """
    import tensorflow as tf

    def apply(images, labels, seeds):
        height, width = images.shape[1:3]
        count, area = tf.shape(images)[0], height * width
        rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
        frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))
        noise = keras.random.normal((count, *frequency.shape, 2), seed=seeds)
        noise /= frequency.astype("float32")[..., None] ** decay
        waves = tf.signal.irfft2d(
            tf.complex(*tf.unstack(noise, axis=-1)), [height, width]
        )
        share = keras.random.beta((count, 1), alpha, alpha, seed=seeds)
        share = tf.round(share * area)
        order = tf.argsort(tf.reshape(waves, (count, area)), direction="DESCENDING")
        first = tf.cast(tf.argsort(order), tf.float32) < share
        first = tf.reshape(first, (count, height, width, 1))
        other = keras.random.shuffle(tf.range(count), seed=seeds)
        images = tf.where(first, images, tf.gather(images, other))
        share /= area
        return images, share * labels + (1 - share) * tf.gather(labels, other)

    return apply


# In float32, channels last, whatever Keras is told: the images of a batch come before
# the network.
_always = {"dtype": "float32", "data_format": "channels_last"}
_color = {"value_range": _RANGE, **_always}

AUGMENTATIONS.add(
    "color_jitter",
    Augmentation(
        "Brightness changes by up to a share of white, contrast and saturation by up "
        "to a share of themselves.",
        _changing(
            lambda share: keras.layers.RandomBrightness(share, **_color),
            lambda share: keras.layers.RandomContrast((share, share), **_color),
            lambda share: keras.layers.RandomSaturation(
                # Its m / (1 + m) multiplies by m. Its range is that of saturations.
                ((1 - share) / (2 - share), (1 + share) / (2 + share)),
                value_range=(0, 1),
                **_always,
            ),
        ),
        colored=True,
    ),
)
AUGMENTATIONS.add(
    "rand_augment",
    Augmentation(
        "Two of Keras' eleven operations, the same for a batch, of up to a share of "
        "their greatest strength; but of a smaller share posterization, solarization "
        "and sharpness change more.",
        _changing(
            lambda share: keras.layers.RandAugment(factor=share, **_color),
        ),
        colored=True,
    ),
)
AUGMENTATIONS.add(
    "random_erasing",
    Augmentation(
        "A rectangle turns into noise, with a probability.",
        _changing(
            lambda share: keras.layers.RandomErasing(factor=(share, share), **_color)
        ),
    ),
)
AUGMENTATIONS.add(
    "mixup",
    Augmentation(
        "Images and labels are blended; α of the beta distribution.",
        _mixing(lambda alpha: keras.layers.MixUp(alpha, **_always)),
        mixes=True,
    ),
)
AUGMENTATIONS.add(
    "cutmix",
    Augmentation(
        "A rectangle comes from another image; α of the beta distribution.",
        _mixing(lambda alpha: keras.layers.CutMix(factor=(alpha, alpha), **_always)),
        mixes=True,
    ),
)
AUGMENTATIONS.add(
    "fourier_mix",
    Augmentation(
        "Patches of any form come from another image; α of the beta distribution.",
        _fourier_mix,
        mixes=True,
    ),
)
AUGMENTATIONS.add(
    "grid_mask",
    Augmentation(
        "A turned grid of black squares, up to a share of their distance.",
        _grid_mask,
        needs="keras_cv",
    ),
)
