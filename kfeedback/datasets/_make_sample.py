"""Write the sample of MNIST-background-image that ships with the package.

    python -m kfeedback.datasets._make_sample [path]

takes MNIST from TFDS, composes the set as the TFDS builder does and keeps the first
600 training and 120 test images of each class. The members of the file are compressed
with LZMA, which finds the patches that overlap and is lossless; `np.load` reads it.
"""

import sys
import zipfile

import numpy as np

from kfeedback.datasets import backgrounds
from kfeedback.datasets.arrays import SAMPLE_PATH

EXAMPLES_PER_CLASS = {"train": 600, "test": 120}


def write_sample(path, composed):
    """Writes the sample.

    Args:
        path: the `.npz` file to write.
        composed: what `backgrounds.compose_splits` returns.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for split, count in EXAMPLES_PER_CLASS.items():
            images, labels = composed[split]
            chosen = [np.flatnonzero(labels == k)[:count] for k in range(10)]
            chosen = np.sort(np.concatenate(chosen))
            members = {
                f"x_{split}": images[chosen],
                f"y_{split}": labels[chosen].astype(np.uint8),
            }
            for name, array in members.items():
                entry = zipfile.ZipInfo(f"{name}.npy")
                entry.compress_type = zipfile.ZIP_LZMA
                with archive.open(entry, "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)


if __name__ == "__main__":
    from kfeedback.datasets.builders.mnist_background_images import read_mnist

    write_sample(
        sys.argv[1] if len(sys.argv) > 1 else SAMPLE_PATH,
        backgrounds.compose_splits(*read_mnist(None), seed=0),
    )
