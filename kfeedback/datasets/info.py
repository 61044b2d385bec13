"""What a loaded data set is."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a loaded data set is.

    Attributes:
        name: the name it was loaded by.
        split: the split it was loaded from, slice included.
        num_examples: examples in that split.
        num_classes: classes in the data set.
        image_shape: `(height, width, channels)`.
        class_names: one name per class, in the order of the labels.
        multi_label: whether an image may be of several classes, or of none: its label
            is then a vector of zeros and ones, one per class.
    """

    name: str
    split: str
    num_examples: int
    num_classes: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    multi_label: bool = False
