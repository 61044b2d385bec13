"""TFDS builder of scenes of CIFAR-10 objects with exact boxes."""

import numpy as np
import tensorflow_datasets as tfds

from kfeedback.datasets import objects
from kfeedback.datasets.builders._prepared import (
    example,
    objects_feature,
    read_prepared,
)

EXAMPLES = {"train": 20_000, "test": 4_000}

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_DESCRIPTION = f"""
Scenes of one to {objects.MAX_OBJECTS} CIFAR-10 images of different classes on colored
noise, {objects.CANVAS_SIZE} by {objects.CANVAS_SIZE} pixels, for multi-label
classification and localization: {EXAMPLES["train"]:,} training and
{EXAMPLES["test"]:,} test examples.

Each object is a whole CIFAR-10 image, resized to {objects.SIDES[0]} to
{objects.SIDES[1]} pixels squared; none covers another, and the boxes (top, left,
bottom, right, as parts of the canvas) are exact at pixel edges. A box therefore holds
the photograph around the object as well, and its edge is a sharp one, which those of
photographed scenes are not. Objects of the training scenes are from the training set of
CIFAR-10, those of the test scenes from its test set. Made with seed 0; `image/id` is
the number of the scene in its split.
"""

_CITATION = """
@techreport{krizhevsky2009learning,
  title={Learning multiple layers of features from tiny images},
  author={Krizhevsky, Alex},
  institution={University of Toronto},
  year={2009}
}
"""


class Cifar10Objects(tfds.core.GeneratorBasedBuilder):
    """Scenes of several CIFAR-10 objects with exact boxes, composed when prepared.

    `kfeedback.datasets.load("cifar10_objects", ...)` uses it; after this module was
    imported, so does `tfds.load("cifar10_objects")`, which gives the boxes too.
    CIFAR-10 is taken from `data_dir`, from `TFDS_DATA_DIR` or from TFDS' own folder if
    it is prepared in one of them, and downloaded by TFDS otherwise.

    How the scenes are made: `kfeedback.datasets.objects.compose`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    def _info(self):
        size = objects.CANVAS_SIZE
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3)),
                    "image/id": tfds.features.Scalar(np.int64),
                    "objects": objects_feature(
                        tfds.features.ClassLabel(names=CLASS_NAMES)
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        sources = read_prepared("cifar10", self.data_dir_root)
        return {
            split: self._generate_examples(*sources[split], count, stream)
            for stream, (split, count) in enumerate(EXAMPLES.items())
        }

    def _generate_examples(self, images, labels, count, stream):
        scenes = objects.compose(images, labels, count, seed=0, stream=stream)
        for i, scene in enumerate(scenes):
            yield i, example(i, *scene)
