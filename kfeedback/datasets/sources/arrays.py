"""Sets in arrays: what ships with the package, and `.npz` files."""

import dataclasses

import numpy as np

from kfeedback import images as pixels
from kfeedback.datasets.arrays import ARRAY_NAMES, load_arrays
from kfeedback.datasets.sources import SOURCES, Examples, Source

_AT_ONCE = 256


class Arrays(Source):
    """What `load_arrays` takes."""

    kinds = f"{', '.join(map(repr, ARRAY_NAMES))}, a path that ends in .npz"

    def names(self):
        """As `Source.names`."""
        return list(ARRAY_NAMES)

    def takes(self, name, data_dir):
        """As `Source.takes`."""
        return name in ARRAY_NAMES or str(name).endswith(".npz")

    def open(self, name, split, *, data_dir, manual_dir, image_size):
        """As `Source.open`."""
        images, labels, info = load_arrays(name, split, data_dir=data_dir)
        if image_size is not None:
            parts = range(0, len(images), _AT_ONCE)
            images = np.concatenate(
                [pixels.resize(images[k : k + _AT_ONCE], image_size) for k in parts]
            )
            info = dataclasses.replace(info, image_shape=images.shape[1:])
        return Examples(info, (images, labels))


SOURCES.add("arrays", Arrays())
