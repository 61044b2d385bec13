"""Data sets: one loader for `tf.data`, one for plain arrays.

`load` needs TensorFlow and imports it when called; the rest does not.
"""

from kfeedback.datasets.arrays import ArrayDataset, DatasetInfo, load_arrays

__all__ = ["ArrayDataset", "DatasetInfo", "load", "load_arrays"]


def __getattr__(name):
    if name == "load":
        from kfeedback.datasets.loader import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
