"""Data sets: one loader for `tf.data`, one for plain arrays, one for boxes.

`load` needs TensorFlow and imports it when called; so does what TFDS holds. The rest
does not.
"""

from kfeedback.datasets.arrays import ArrayDataset, load_arrays
from kfeedback.datasets.boxes import BoxedImages, load_boxes, stream_boxes
from kfeedback.datasets.info import DatasetInfo

__all__ = [
    "ArrayDataset",
    "BoxedImages",
    "DatasetInfo",
    "load",
    "load_arrays",
    "load_boxes",
    "stream_boxes",
]


def __getattr__(name):
    if name == "load":
        from kfeedback.datasets.loader import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
