"""Images with the classes and boxes of their objects, as arrays."""

import dataclasses
import os
import pathlib
import xml.etree.ElementTree

import numpy as np

from kfeedback import checks


@dataclasses.dataclass(frozen=True)
class BoxedImages:
    """Images and their objects.

    Attributes:
        images: uint8 `(N, H, W, C)`.
        index: int64 `(M,)`, the image of each object.
        labels: int32 `(M,)`, its class.
        boxes: int64 `(M, 4)`, `(top, left, bottom, right)` in pixels, ends excluded.
        class_names: list of names, or `None`.
        originals: list of uint8 `(h, w, C)`, the images before they were resized.
    """

    images: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    class_names: list | None
    originals: list


def load_boxes(
    name, split, *, image_size=None, data_dir=None, class_names=None, count=None
):
    """Load images with boxes from TFDS or from a folder in the form of VOC.

    Args:
        name: the name of a TFDS set whose examples have an `image` and `objects` with
            `label` and `bbox`, or `label` and `bbox`; or the path (with a slash in it)
            of a folder with `Annotations/*.xml` and `JPEGImages`.
        split: of TFDS; or the name of a file in the folder's `ImageSets/Main`, or
            `"all"` for every annotation.
        image_size: `(height, width)` to resize images to; `None` if all are of one.
        data_dir: the folder of TFDS.
        class_names: for a folder, the classes in the order of their numbers; by default
            those that occur in any of its annotations, sorted.
        count: greatest number of images.

    Returns:
        `BoxedImages`; objects with an empty box are left out.

    Raises:
        ValueError: if there is no such data set, or an argument is not as above.
    """
    if count is not None:
        count = checks.integer("count", count)
    if "/" in os.fspath(name) and pathlib.Path(name).is_dir():
        examples, names = _voc(pathlib.Path(name), split, class_names, count)
    else:
        examples, names = _tfds(name, split, data_dir, count)
    images, originals, index, labels, boxes = [], [], [], [], []
    for image, objects in examples:
        originals.append(image)
        height, width = image.shape[:2]
        if image_size is not None and (height, width) != tuple(image_size):
            image = _resized(image, image_size)
        scale = np.divide(image.shape[:2], (height, width)).repeat(2)[[0, 2, 1, 3]]
        for label, box in objects:
            box = np.round(np.asarray(box) * scale).astype(np.int64)
            if (box[2:] > box[:2]).all():
                index.append(len(images))
                labels.append(label)
                boxes.append(box)
        images.append(image)
    if len({image.shape for image in images}) > 1:
        raise ValueError(
            f"image_size must be given for {name!r}, whose images differ in size."
        )
    if not index:
        raise ValueError(f"name must be a set with boxes, got {name!r} without any.")
    return BoxedImages(
        np.stack(images),
        np.array(index),
        np.array(labels, np.int32),
        np.array(boxes),
        names,
        originals,
    )


def _tfds(name, split, data_dir, count):
    import tensorflow_datasets as tfds

    from kfeedback.datasets._sources import find_builder

    builder = find_builder(name, data_dir)
    features = dict(builder.info.features)
    inner = dict(getattr(features.get("objects"), "feature", {}))
    single = {"label", "bbox"} <= set(features)
    if not ({"label", "bbox"} <= set(inner) or single):
        raise ValueError(
            "name must be a set whose examples have objects with label and bbox, or "
            f"label and bbox, got {name!r} with {', '.join(features)}."
        )
    builder.download_and_prepare()
    label = features["label"] if single else inner["label"]
    dataset = tfds.as_numpy(builder.as_dataset(split=split))

    def examples():
        for number, example in enumerate(dataset):
            if number == count:
                return
            image = example["image"]
            sides = np.array(image.shape[:2] * 2)
            found = example if single else example["objects"]
            yield (
                image,
                zip(
                    np.atleast_1d(found["label"]),
                    np.reshape(found["bbox"], (-1, 4)) * sides,
                    strict=True,
                ),
            )

    return examples(), list(label.names)


def _voc(folder, split, class_names, count):
    if split == "all":
        files = sorted((folder / "Annotations").glob("*.xml"))
    else:
        listed = folder / "ImageSets" / "Main" / f"{split}.txt"
        if not listed.is_file():
            raise ValueError(f"split must be 'all' or name {listed}, got {split!r}.")
        stems = [line.split()[0] for line in listed.read_text().splitlines() if line]
        files = [folder / "Annotations" / f"{stem}.xml" for stem in stems]
    if not files:
        raise ValueError(
            f"name must be a folder with Annotations/*.xml, got {str(folder)!r}."
        )
    parsed = [_annotation(file) for file in files[:count]]
    occurring = {name for _, objects in parsed for name, _ in objects}
    if class_names is None:
        every = map(_annotation, sorted((folder / "Annotations").glob("*.xml")))
        class_names = {name for _, objects in every for name, _ in objects}
        class_names = sorted(class_names)
    names = list(class_names)
    if not occurring <= set(names):
        raise ValueError(
            f"class_names must hold {', '.join(sorted(occurring - set(names)))}, which "
            "the annotations name."
        )

    def examples():
        from PIL import Image

        for file, objects in parsed:
            image = Image.open(folder / "JPEGImages" / file).convert("RGB")
            yield (
                np.asarray(image),
                [(names.index(name), box) for name, box in objects],
            )

    return examples(), names


def _annotation(path):
    """The image's file and `(name, (top, left, bottom, right))` of every object.

    VOC counts pixels from 1 and its upper bounds belong to the box.
    """
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
        objects = []
        for one in root.iter("object"):
            box = one.find("bndbox")
            left, top, right, bottom = (
                float(box.find(side).text) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            objects.append(
                (one.find("name").text.strip(), (top - 1, left - 1, bottom, right))
            )
        # Only a name: a path could lead anywhere.
        return pathlib.PurePath(root.find("filename").text.strip()).name, objects
    except (OSError, AttributeError, TypeError, ValueError, SyntaxError) as error:
        raise ValueError(
            f"name must be a folder with annotations of VOC, got {path}: {error}."
        ) from error


def _resized(image, size):
    from PIL import Image

    squeezed = image[..., 0] if image.shape[-1] == 1 else image
    resized = Image.fromarray(squeezed).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(*size, image.shape[-1])
