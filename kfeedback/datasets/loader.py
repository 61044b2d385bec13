"""The loader that applications call: any data set as a `tf.data.Dataset`."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from kfeedback import checks
from kfeedback.datasets import augmentation
from kfeedback.datasets.arguments import expanded, height_width
from kfeedback.datasets.arrays import FILLS, epoch_plan
from kfeedback.datasets.sources import SOURCES, open_split

CACHE_BYTES = 2**30
"""Decoded images of up to this many bytes in total are kept in memory."""


def load(
    name,
    split,
    *,
    batch_size=128,
    data_dir=None,
    manual_dir=None,
    classes=None,
    shuffle=False,
    seed=0,
    initial_epoch=0,
    image_size=None,
    preprocess=None,
    center_crop=None,
    random_crop=None,
    flip=False,
    shift=0,
    shift_fill="edge",
    augment=None,
    cache=None,
    by_epoch=False,
):
    """Loads a data set for training or evaluation.

    Order and augmentation are a pure function of (seed, epoch). The epoch is
    `initial_epoch` plus the number of times that the data set has been iterated over
    completely; an iteration that is broken off does not count. In `fit` the n-th epoch
    is therefore the epoch `initial_epoch + n` here. (Under a distribution strategy
    Keras looks at a few batches in advance; that counts if it sees them all, which
    takes fewer than about five.)

    A data set kept in memory is shuffled by one permutation of all examples, the same
    as `ArrayDataset` uses. A streamed one goes through a shuffle buffer: as large as
    the data set; for one of TFDS with more than 100,000 examples, of 10,000 examples,
    after a shuffle of its files.

    A folder of images has one sub-folder per split, in it one per class, in it JPEG,
    PNG, BMP or GIF images. Hidden files and folders are no data; a warning counts
    others that are left out. Every class folder of a split with images is a class, also
    an empty one. Classes take turns, so `"train[:90%]"` has of each its share. Alpha is
    cut off, without blending. Of 16 bits the upper 8 count. The orientation that a
    camera notes (EXIF) is ignored. Of an animation the first frame counts. What Pillow
    reads and TensorFlow does not is decoded by Pillow.

    Args:
        name: a name or path that `load_arrays` takes; the path (a `pathlib.Path`, or
            with a slash in it) of a folder of images, see below; or a TFDS name, among
            them `"mnist_background_images"`, `"cifar10_objects"` and
            `"cluttered_mnist"`. What TFDS has not prepared yet it downloads and
            prepares. A TFDS set without one class label an image but with `objects`
            that have one (as in VOC and COCO) is loaded as a multi-label set. A file
            in `kfeedback/datasets/sources` adds a kind of names, one in
            `kfeedback/datasets/builders` a TFDS set. In paths, also the others here,
            `~` means home.
        split: the name of a split, sliced if wanted, as in TFDS: `"train[:90%]"`.
        batch_size: examples per batch; the last batch may be smaller.
        data_dir: the folder of TFDS (default: the one in the environment variable
            `TFDS_DATA_DIR`, else TFDS' own), or what a relative `.npz` path starts
            from. It need not be writable if the data set is prepared.
        manual_dir: folder with what TFDS cannot download itself.
        classes: as in `load_arrays`. A set that is not in arrays is read once more, to
            count the examples that are left.
        shuffle: whether each epoch has an order of its own.
        seed: what order and augmentation depend on, together with the epoch.
        initial_epoch: the epoch of the first iteration.
        image_size: a number or `(height, width)`: images are resized to it (bilinear
            with antialiasing, without regard to their aspect, rounded to uint8).
            Needed where images differ in size.
        preprocess: a function of a float32 batch `(B, H, W, C)`, applied last.
        center_crop: a share of the shorter side: of each image the square in its
            middle is resized instead of the whole.
        random_crop: `(least, most)`, shares of the area: of each image a window of
            random place, area and aspect (3:4 to 4:3) is resized instead of the whole,
            and none in its middle.
        flip: whether to mirror each image left to right with probability 1/2.
        shift: greatest random translation in pixels.
        shift_fill: what enters then: `"edge"` repeats the edge, `"zero"` is black.
        augment: dict from names in `kfeedback.datasets.augmentation.AUGMENTATIONS` to
            strengths, applied after all these: `{"rand_augment": 0.5, "mixup": 0.2}`.
        cache: whether to keep the decoded images in memory; default: if they take no
            more than `CACHE_BYTES`. Arrays are in memory in any case.
        by_epoch: `True` to get, instead of one data set, a function of `(epoch,
            batch=0)` that gives the batches of that epoch from that batch on: what a
            training that was stopped has still to see.

    Returns:
        `(dataset, info)`: a `tf.data.Dataset` of known cardinality with elements
        `(images, labels)`, float32 `(B, H, W, C)` (0 to 255 before `preprocess`) and
        int32 `(B,)` or, if `info.multi_label`, zeros and ones `(B, classes)`, or, if
        `augment` mixes images, float32 `(B, classes)`; and a `DatasetInfo`.

    Raises:
        TypeError: if `data_dir` or `manual_dir` is no path.
        ValueError: if the data set or split is unknown, a folder is missing, or
            another argument is not as above; or if an image cannot be decoded: the
            error names its file. (Where images are not cached, the iteration raises
            TensorFlow's `InvalidArgumentError` with that sentence.)

    Example:
        >>> train, info = load("./birds", "train[:90%]", image_size=224, shuffle=True)
        >>> for images, labels in train:
        ...     print(images.shape, labels.shape)
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ValueError(f"name must be a name or a path, got {name!r}.")
    if not isinstance(split, str):
        raise ValueError(f"split must be a string, got {split!r}.")
    batch_size = checks.integer("batch_size", batch_size, 1)
    seed = checks.integer("seed", seed, 0)
    shift = checks.integer("shift", shift, 0)
    checks.one_of("shift_fill", shift_fill, FILLS)
    initial_epoch = checks.integer("initial_epoch", initial_epoch, 0)
    image_size = height_width(image_size)
    data_dir = expanded("data_dir", data_dir)
    manual_dir = expanded("manual_dir", manual_dir)
    if manual_dir is not None and not os.path.isdir(manual_dir):
        raise ValueError(
            f"manual_dir must be a folder that exists, got {manual_dir!r}."
        )
    crop = _crop(center_crop, random_crop, image_size, cache)
    # Arrays are cropped before they are resized, as what is decoded.
    in_arrays = SOURCES.get("arrays").takes(name, data_dir)
    examples = open_split(
        name,
        split,
        data_dir=data_dir,
        manual_dir=manual_dir,
        image_size=None if crop and in_arrays else image_size,
    )
    if classes is not None:
        examples = examples.keep(classes)
    if crop and examples.arrays:
        examples = examples.resized(image_size)
    info = examples.info
    augmented = augmentation.pipeline(augment, info) if augment else None
    if cache is None:
        cache = info.num_examples * np.prod(info.image_shape) <= CACHE_BYTES
    if cache and random_crop is None:
        examples, crop = examples.in_memory(crop), None
    count = info.num_examples
    steps = -(-count // batch_size)
    if examples.arrays:
        with tf.device("CPU"):  # once, for all epochs
            examples = dataclasses.replace(
                examples, arrays=tuple(map(tf.constant, examples.arrays))
            )

    def plan(epoch, first=0):
        stream_seed = np.random.SeedSequence([seed, epoch]).generate_state(1)[0]
        drawn = epoch_plan(count, seed, epoch, shuffle, flip, shift)
        # Of an image for its crop; that of a batch's first one for all of the batch.
        rng = np.random.default_rng([seed, epoch, 1])
        seeds = rng.integers(2**31, size=count, dtype=np.int32)
        parts = (part[first:] for part in (*drawn, seeds))
        return *parts, np.int64(stream_seed)

    def finish(images, labels, flips, offsets, seeds):
        if flip or shift:
            images = _augment(images, flips, offsets, shift_fill)
        images = tf.cast(images, tf.float32)
        if augmented is not None:
            images, labels = augmented(images, labels, seeds[0])
        return images if preprocess is None else preprocess(images), labels

    def batches(plans, first=0):
        found = _batches(examples, plans, batch_size, shuffle, first, crop)
        return found.map(finish, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def of_epoch(epoch, batch=0):
        epoch = checks.integer("epoch", epoch, 0)
        if not 0 <= checks.integer("batch", batch, 0) <= steps:
            raise ValueError(f"batch must be from 0 to {steps}, got {batch}.")
        first = min(batch * batch_size, count)
        found = batches(tf.data.Dataset.from_tensors(plan(epoch, first)), first)
        return _finished(found, steps - batch)

    if by_epoch:
        return of_epoch, info
    state = {"epoch": initial_epoch}

    def tick():
        epoch = state["epoch"]
        for step in range(steps):
            if step == steps - 1:
                state["epoch"] = epoch + 1
            yield step

    plans = tf.data.Dataset.from_generator(
        lambda: iter([plan(state["epoch"])]),
        output_signature=(
            tf.TensorSpec([count], tf.int64),
            tf.TensorSpec([count], tf.bool),
            tf.TensorSpec([count, 2], tf.int32),
            tf.TensorSpec([count], tf.int32),
            tf.TensorSpec([], tf.int64),
        ),
    )
    # The ticks run behind the prefetching: they count what was handed out.
    ticks = tf.data.Dataset.from_generator(
        tick, output_signature=tf.TensorSpec([], tf.int64)
    )
    ticked = tf.data.Dataset.zip(batches(plans), ticks)
    return _finished(ticked.map(lambda batch, _: batch), steps), info


def _finished(dataset, steps):
    """A data set of a known number of batches, which workers share batch by batch."""
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return dataset.with_options(options)


def _crop(center, area, size, cache):
    """The function of an image and its seed that two arguments of `load` name."""
    if center is None and area is None:
        return None
    if size is None:
        raise ValueError("image_size must be given for images that are cropped.")
    if area is None:
        center = checks.number("center_crop", center, above=0, most=1)
        return augmentation.center_window(center)
    pair = area if isinstance(area, (tuple, list)) else ()
    shares = [checks.number("random_crop", share, above=0, most=1) for share in pair]
    if len(shares) != 2 or shares[0] > shares[1]:
        raise ValueError(f"random_crop must be (least, most), got {area!r}.")
    if cache:
        raise ValueError("cache must be None or False with random_crop, got True.")
    return augmentation.random_window(shares)


def _batches(examples, plans, batch_size, shuffle, first, crop):
    """The batches of plans, of which the first examples are left out already."""
    slices = tf.data.Dataset.from_tensor_slices
    if examples.arrays:
        images, labels = examples.arrays

        def gather(order, *augmentation):
            return tf.gather(images, order), tf.gather(labels, order), *augmentation

        indices = plans.flat_map(lambda *plan: slices(plan[:-1]).batch(batch_size))
        return indices.map(gather, tf.data.AUTOTUNE)

    @tf.autograph.experimental.do_not_convert
    def stream(_, flips, offsets, seeds, seed):
        decoded = examples.decoded(
            seed if shuffle else None, first, crop, slices(seeds)
        )
        return tf.data.Dataset.zip(decoded, slices((flips, offsets, seeds)))

    def flat(example, augmentation):
        return *example, *augmentation

    return plans.flat_map(stream).map(flat).batch(batch_size)


def _augment(images, flips, offsets, fill):
    # As `arrays.augment` does it.
    height, width = images.shape[1:3]
    rows = tf.range(height) - offsets[:, :1]
    columns = tf.range(width) - offsets[:, 1:]
    columns = tf.where(flips[:, None], width - 1 - columns, columns)
    found = tf.gather(
        images, tf.clip_by_value(rows, 0, height - 1), axis=1, batch_dims=1
    )
    found = tf.gather(
        found, tf.clip_by_value(columns, 0, width - 1), axis=2, batch_dims=1
    )
    if fill == "zero":
        inside = ((rows >= 0) & (rows < height))[:, :, None]
        inside &= ((columns >= 0) & (columns < width))[:, None]
        found *= tf.cast(inside, found.dtype)[..., None]
    return found
