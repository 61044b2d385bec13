"""TFDS builder of MNIST digits in clutter, with exact boxes."""

import numpy as np
import tensorflow_datasets as tfds

from kfeedback.datasets import clutter
from kfeedback.datasets.builders._prepared import (
    example,
    objects_feature,
    read_prepared,
)
from kfeedback.datasets.objects import CANVAS_SIZE

EXAMPLES = {"train": 20_000, "test": 4_000, "test_two": 2_000}

_DESCRIPTION = f"""
MNIST digits of many sizes in clutter, {CANVAS_SIZE} by {CANVAS_SIZE} gray pixels, for
classification and localization: {EXAMPLES["train"]:,} training and
{EXAMPLES["test"]:,} test examples of one digit and {EXAMPLES["test_two"]:,} test
examples ("test_two") of two different ones.

On weak noise lie {clutter.FRAGMENTS} fragments of other digits,
{clutter.FRAGMENT_SIZE} by {clutter.FRAGMENT_SIZE} pixels, and the digit, its image
resized to {clutter.SIDES[0]} to {clutter.SIDES[1]} pixels squared (of two
{clutter.SIDES_OF_TWO[0]} to {clutter.SIDES_OF_TWO[1]}). The box (top, left, bottom,
right, as parts of the canvas) is the least that holds its ink. `label` is the class of
the first digit. Digits of the training scenes are from the training set of MNIST,
those of the test scenes from its test set. Made with seed 0; `image/id` is the number
of the scene in its split.
"""

_CITATION = """
@article{lecun1998gradient,
  title={Gradient-based learning applied to document recognition},
  author={LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal={Proceedings of the IEEE},
  volume={86},
  number={11},
  pages={2278--2324},
  year={1998}
}
"""


class ClutteredMnist(tfds.core.GeneratorBasedBuilder):
    """MNIST digits in clutter with exact boxes, composed when prepared.

    `kfeedback.datasets.load("cluttered_mnist", ...)` uses it; after this module was
    imported, so does `tfds.load("cluttered_mnist")`, which gives the boxes too. MNIST
    is taken from `data_dir`, from `TFDS_DATA_DIR` or from TFDS' own folder if it is
    prepared in one of them, and downloaded by TFDS otherwise.

    How the scenes are made: `kfeedback.datasets.clutter.compose`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    def _info(self):
        digit = tfds.features.ClassLabel(num_classes=10)
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(CANVAS_SIZE, CANVAS_SIZE, 1)),
                    "image/id": tfds.features.Scalar(np.int64),
                    "label": digit,
                    "objects": objects_feature(digit),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        sources = read_prepared("mnist", self.data_dir_root)
        return {
            split: self._generate_examples(*sources[split.split("_")[0]], split)
            for split in EXAMPLES
        }

    def _generate_examples(self, images, labels, split):
        scenes = clutter.compose(
            images,
            labels,
            EXAMPLES[split],
            figures=2 if split == "test_two" else 1,
            seed=0,
            stream=list(EXAMPLES).index(split),
        )
        for i, (scene, placed) in enumerate(scenes):
            yield i, example(i, scene, placed) | {"label": placed[0][0]}
