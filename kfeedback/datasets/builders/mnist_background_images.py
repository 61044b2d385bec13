"""TFDS builder of MNIST-background-image (Larochelle et al., 2007)."""

import contextlib
import io
import itertools
import pathlib
import zipfile

import numpy as np
import tensorflow_datasets as tfds

from kfeedback.datasets import backgrounds
from kfeedback.datasets.builders._prepared import read_prepared

ARCHIVE = "mnist_background_images.zip"
MEMBERS = {
    "train": "mnist_background_images_train.amat",
    "test": "mnist_background_images_test.amat",
}
EXAMPLES = {"train": backgrounds.TRAIN_EXAMPLES, "test": backgrounds.TEST_EXAMPLES}

_DESCRIPTION = f"""
Handwritten digits on patches of photographs: 28 by 28 gray images, 10 classes,
{EXAMPLES["train"]:,} training and {EXAMPLES["test"]:,} test examples.

Without a manual folder the set is composed anew from MNIST, with seed 0: a pixel is
the digit's where the digit is brighter than the patch, and the patch's elsewhere. It
follows the description of the original and differs from it in the photographs (the
ones in the wheels of scikit-image and scikit-learn instead of 20 images from the
internet), in the variance below which a patch is rejected (unpublished; here
{backgrounds.MIN_PATCH_VARIANCE:g} squared gray levels) and in which digits fall in
which split. Errors on the two sets are therefore not the same number.

With a manual folder that holds the original archive, that is read instead. Its rows
are taken as stored, row by row, pixel = round(255 * value); should the digits come
out mirrored at the diagonal, the archive stores them column by column and they have
to be transposed (this could not be checked without the archive). The entry "source"
of the metadata tells the two apart: "composed" or "archive".
"""

_CITATION = """
@inproceedings{larochelle2007empirical,
  title={An empirical evaluation of deep architectures on problems with many factors
         of variation},
  author={Larochelle, Hugo and Erhan, Dumitru and Courville, Aaron and
          Bergstra, James and Bengio, Yoshua},
  booktitle={Proceedings of the 24th International Conference on Machine Learning},
  pages={473--480},
  year={2007}
}
"""


class MnistBackgroundImages(tfds.core.GeneratorBasedBuilder):
    """MNIST digits on patches of photographs, composed or read from the original.

    `kfeedback.datasets.load("mnist_background_images", ...)` uses it; after this module
    was imported, so does `tfds.load("mnist_background_images")`. On the command line,
    `tfds build kfeedback/datasets/builders/mnist_background_images.py` (that command
    needs apache-beam and mlcroissant, as of TFDS 4.9.10). MNIST is taken from
    `data_dir`, from `TFDS_DATA_DIR` or from TFDS' own folder if it is prepared in one
    of them, and downloaded by TFDS otherwise. To read the original archive instead,
    name its folder: `load(..., manual_dir=...)`, `--manual_dir` on the command line or
    `tfds.download.DownloadConfig(manual_dir=...)`.

    Reference and differences from the original: `builder.info`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Optional: the folder that holds the original {ARCHIVE} or its members "
        f"{MEMBERS['train']} and {MEMBERS['test']}; without it the set is composed."
    )

    _manual_dir = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(),
        )

    def download_and_prepare(self, *, download_config=None, **kwargs):
        """Prepares the set as TFDS does.

        Raises:
            ValueError: if `download_config.manual_dir` does not hold the original
                archive, or the set in `data_dir` was prepared from MNIST already.
        """
        self._manual_dir = getattr(download_config, "manual_dir", None)
        if self._manual_dir is not None:
            for split in MEMBERS:
                with open_member(self._manual_dir, split):
                    pass
            forced = download_config.download_mode.overwrite_dataset
            source = self.info.metadata.get("source")
            if self.is_prepared() and source != "archive" and not forced:
                raise ValueError(
                    "manual_dir asks for the original archive, but "
                    f"{self.data_path} already holds the composed set; give another "
                    "`data_dir` or delete that folder."
                )
        super().download_and_prepare(download_config=download_config, **kwargs)

    def _split_generators(self, dl_manager):
        if self._manual_dir is not None:
            self.info.metadata["source"] = "archive"
            return {s: self._read_archive(self._manual_dir, s) for s in MEMBERS}
        self.info.metadata["source"] = "composed"
        digits, labels = read_mnist(self.data_dir_root)
        composed = backgrounds.compose_splits(digits, labels, seed=0)
        return {s: self._generate_examples(*composed[s]) for s in MEMBERS}

    def _generate_examples(self, images, labels):
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": image, "label": int(label)}

    def _read_archive(self, manual_dir, split):
        with open_member(manual_dir, split) as lines:
            images, labels = read_amat(lines, EXAMPLES[split])
        yield from self._generate_examples(images, labels)


def read_mnist(data_dir):
    """Reads all MNIST digits, training set first, in the order in which TFDS has them.

    Args:
        data_dir: the folder to look in first and to download to.

    Returns:
        `(digits, labels)`: uint8 `(70000, 28, 28, 1)` and int64 `(70000,)`.
    """
    splits = read_prepared("mnist", data_dir)
    return tuple(map(np.concatenate, zip(splits["train"], splits["test"], strict=True)))


@contextlib.contextmanager
def open_member(manual_dir, split):
    """Opens one split of the original archive, zipped or not, as lines of text.

    Args:
        manual_dir: the folder with the archive or with its two members.
        split: `"train"` or `"test"`.

    Yields:
        A text file.

    Raises:
        ValueError: if the folder holds neither.
    """
    folder = pathlib.Path(manual_dir).expanduser()
    plain, zipped = folder / MEMBERS[split], folder / ARCHIVE
    if plain.is_file():
        with plain.open(encoding="ascii") as lines:
            yield lines
    elif zipped.is_file():
        with zipfile.ZipFile(zipped) as archive, contextlib.ExitStack() as stack:
            names = [n for n in archive.namelist() if n.endswith(MEMBERS[split])]
            if len(names) != 1:
                raise ValueError(
                    f"manual_dir holds {zipped}, in which "
                    f"{len(names)} members are named {MEMBERS[split]}, not one."
                )
            member = stack.enter_context(archive.open(names[0]))
            yield io.TextIOWrapper(member, encoding="ascii")
    else:
        raise ValueError(
            f"manual_dir must be a folder that holds {ARCHIVE} or its "
            f"members {MEMBERS['train']} and {MEMBERS['test']}, got {str(folder)!r}, "
            f"which lacks {MEMBERS[split]}."
        )


def read_amat(lines, count, chunk=1_000):
    """Reads one member of the original archive.

    Args:
        lines: iterable of lines, each of 784 numbers in 0..1 and the label.
        count: how many examples there must be.
        chunk: how many lines to parse at a time.

    Returns:
        `(images, labels)`: uint8 `(count, 28, 28, 1)` and int32 `(count,)`.

    Raises:
        ValueError: if a row or the number of rows is not as described.
    """
    pixels = backgrounds.PATCH_SIZE**2
    images, labels = [], []
    lines = (line for line in lines if line.strip())
    while block := list(itertools.islice(lines, chunk)):
        rows = np.loadtxt(block, ndmin=2)
        values, last = rows[:, :-1], rows[:, -1]
        if (
            values.shape[1] != pixels
            or not ((values >= 0) & (values <= 1)).all()
            or not np.isin(last, np.arange(10)).all()
        ):
            raise ValueError(
                f"A row of the archive must be {pixels} numbers in 0..1 and a label in "
                f"0..9, which the {len(block)} rows after row {chunk * len(images)} "
                "are not."
            )
        images.append(np.rint(255 * values).astype(np.uint8).reshape(-1, 28, 28, 1))
        labels.append(last.astype(np.int32))
    found = sum(map(len, labels))
    if found != count:
        raise ValueError(f"The archive must hold {count} rows in this split: {found}.")
    return np.concatenate(images), np.concatenate(labels)
