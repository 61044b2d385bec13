"""What TFDS knows, and the builders of this package."""

import numpy as np

from kfeedback import images
from kfeedback.datasets import builders
from kfeedback.datasets.info import DatasetInfo
from kfeedback.datasets.sources import (
    FULL_BUFFER,
    LARGE_BUFFER,
    SOURCES,
    Examples,
    Source,
    shuffle,
)


class TensorFlowDatasets(Source):
    """Sets of images with one class each, or with objects that have one."""

    kinds = "a TFDS data set"
    last = True  # it imports TFDS to know its names

    def names(self):
        """As `Source.names`."""
        import tensorflow_datasets as tfds

        return [*builders.names(), *tfds.list_builders()]

    def takes(self, name, data_dir):
        """As `Source.takes`."""
        return self.find(name, data_dir) is not None

    def find(self, name, data_dir):
        """The TFDS builder of a name; `None` if there is none."""
        if not isinstance(name, str):
            return None
        if name in builders.names():
            return builders.find(name)(data_dir=data_dir)
        import tensorflow_datasets as tfds

        try:
            return tfds.builder(name, data_dir=data_dir)
        except ValueError:
            return None

    def open(self, name, split, *, data_dir, manual_dir, image_size):
        """As `Source.open`."""
        import tensorflow as tf
        import tensorflow_datasets as tfds

        builder = self.find(name, data_dir)
        image_key, label_key, image, label, multi_label = _features(name, builder)
        _prepare(builder, manual_dir)
        shape = *(image_size or image.shape[:2]), image.shape[2]
        if None in shape:
            raise ValueError(
                f"image_size must be given for {name!r}, whose images differ in size."
            )
        wanted = {image_key: True}
        wanted |= {"objects": {"label"}} if multi_label else {label_key: True}

        def read(seed=None):
            dataset = builder.as_dataset(
                split=split,
                shuffle_files=seed is not None,
                decoders=tfds.decode.PartialDecoding(
                    wanted, decoders={image_key: tfds.decode.SkipDecoding()}
                ),
                read_config=tfds.ReadConfig(
                    try_autocache=False,
                    shuffle_seed=seed,
                    shuffle_reshuffle_each_iteration=False,
                ),
            )
            return dataset.map(
                lambda example: (
                    example[image_key],
                    example["objects"]["label"] if multi_label else example[label_key],
                )
            )

        try:
            count = int(read().cardinality())
        except (AssertionError, KeyError, ValueError):
            raise _wrong_split(builder, split) from None

        def stream(seed):
            if seed is None:
                return read()
            if count > FULL_BUFFER:
                return shuffle(read(seed), LARGE_BUFFER, seed)
            return shuffle(read(None), count, seed)

        def decode(encoded, labels, crop):
            decoded = decode_image(image, encoded)
            if crop:
                decoded = crop(decoded)
            if image_size is not None:
                decoded = images.resize(decoded, image_size)
            if multi_label:
                hot = tf.one_hot(labels, label.num_classes, dtype=tf.int32)
                labels = tf.minimum(tf.reduce_sum(hot, axis=0), 1)
            return tf.ensure_shape(decoded, shape), tf.cast(labels, tf.int32)

        info = DatasetInfo(
            name,
            split,
            count,
            label.num_classes,
            shape,
            tuple(label.names),
            multi_label,
        )
        return Examples(info, stream=stream, decode=decode)

    def boxes(self, builder, split):
        """Opens a set with boxes.

        Args:
            builder: what `find` gave.
            split: as in TFDS.

        Returns:
            `(examples, names, total)`, as `kfeedback.datasets.voc.open_folder`.

        Raises:
            ValueError: if its examples have no boxes, or there is no such split.
        """
        import tensorflow_datasets as tfds

        features = dict(builder.info.features)
        inner = dict(getattr(features.get("objects"), "feature", {}))
        single = {"label", "bbox"} <= set(features)
        if not ({"label", "bbox"} <= set(inner) or single):
            raise ValueError(
                "name must be a set whose examples have objects with label and bbox, "
                f"or label and bbox, got {builder.name!r} with {', '.join(features)}."
            )
        _prepare(builder, None)
        label = features["label"] if single else inner["label"]
        try:
            dataset = builder.as_dataset(
                split=split,
                decoders={"image": tfds.decode.SkipDecoding()},
                read_config=tfds.ReadConfig(try_autocache=False),
            )
        except (AssertionError, KeyError, ValueError):
            raise _wrong_split(builder, split) from None

        def objects(example):
            found = example if single else example["objects"]
            image = decode_image(features["image"], example["image"])
            return image, found["label"], found["bbox"]

        def examples():
            for image, labels, boxes in dataset.map(objects).as_numpy_iterator():
                sides = np.tile(image.shape[:2], 2)
                yield image, np.atleast_1d(labels), boxes.reshape(-1, 4) * sides

        return examples, list(label.names), int(dataset.cardinality())


def decode_image(feature, encoded):
    """The pixels of an image as TFDS keeps it, inside a graph.

    Args:
        feature: the `tfds.features.Image`.
        encoded: string tensor `()`.

    Returns:
        uint8 `(H, W, C)`.
    """
    import tensorflow as tf

    if feature.shape[2] != 3:
        return feature.decode_example(encoded)
    decoded = tf.cond(
        images.is_png(encoded) | images.is_jpeg(encoded),
        lambda: images.decode(encoded),
        lambda: feature.decode_example(encoded),
    )
    return tf.ensure_shape(decoded, feature.shape)


def _features(name, builder):
    """The keys and features of image and label, and whether an image has several."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    image_key, label_key = builder.info.supervised_keys or ("image", "label")
    found = {k: features[k] for k in (image_key, label_key, "objects") if k in features}
    image, label = found.get(image_key), found.get(label_key)
    multi_label = not isinstance(label, tfds.features.ClassLabel)
    if multi_label:
        objects = getattr(found.get("objects"), "feature", None)
        if isinstance(objects, tfds.features.FeaturesDict):
            label = dict(objects).get("label")
    if (
        not isinstance(image, tfds.features.Image)
        or not isinstance(label, tfds.features.ClassLabel)
        or image.np_dtype != np.uint8
    ):
        raise ValueError(
            "name must be a set of uint8 images with a class label, or with objects "
            f"that have one, got {name!r}, whose features are {', '.join(features)}."
        )
    return image_key, label_key, image, label, multi_label


def _wrong_split(builder, split):
    splits = ", ".join(map(repr, builder.info.splits))
    return ValueError(f"split must select some examples of {splits}, got {split!r}.")


def _prepare(builder, manual_dir):
    import tensorflow_datasets as tfds

    if manual_dir is not None or not builder.is_prepared():
        config = tfds.download.DownloadConfig(manual_dir=manual_dir)
        builder.download_and_prepare(download_config=config)


SOURCES.add("tfds", TensorFlowDatasets())
