r"""Publishes the weights of a run: the file and its entry of `kfeedback.list_weights`.

    python -m tools.publish_weights --run=runs/published/lr_lenet \
        --tag=lr_lenet_mnist_bg_sample --about='{"license": "Apache-2.0"}'

Rounds to float16, compresses, measures the rounded network on --eval_split and writes
`<tag>.h5` and its row in `index.json` into --folder, in place of an earlier one of that
tag. The attributes (see `kfeedback.weights.ABOUT`) are what the run knows; over them go
those of --about. The same weights give the same bytes.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Mapping

import numpy as np

from applications.common import data, runs, scores
from applications.common.command_line import launch
from applications.common.data import Data
from applications.common.models import check_class_names, check_images, predict_all
from applications.common.settings import Settings as Base
from applications.common.settings import field
from kfeedback import images as images_lib
from kfeedback import weights
from kfeedback.datasets import load_arrays
from kfeedback.models import registry
from kfeedback.preprocessing import preprocess_input
from kfeedback.weights.registry import INDEX, read_index

FOLDER = pathlib.Path(weights.__file__).parent / "published"
LARGEST, LARGEST_IN_ALL = 8 * 10**6, 30 * 10**6  # bytes
_PROBES = 3


@dataclasses.dataclass(frozen=True)
class Settings(Data):
    """The flags of tools.publish_weights."""

    FROM_RUN = tuple(Data.flags().keys() - Base.flags().keys())

    run: str | None = field(None, "Folder of applications.train.", required=True)
    tag: str | None = field(None, "What weights= takes then.", required=True)
    about: Mapping = field(dict, "More attributes.")
    folder: str = field(str(FOLDER), "Of the files and their index.")

    def check(self):
        """Refuses what a file cannot say in one word."""
        super().check()
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.tag):
            raise ValueError(
                f"--tag must be of a to z, 0 to 9 and _, got {self.tag!r}."
            )
        self.require_unfitted("published weights")


def publish(source, folder, tag, about, measure):
    """Writes the file of an entry, and the entry into the index beside it.

    Args:
        source: path of a file of `kfeedback.weights.save` that says what made its
            network.
        folder: of the files and the index.
        tag: of the entry.
        about: dict of attributes, over those of the source.
        measure: function of the rounded network, which gives all its predictions, that
            gives the text of the score.

    Returns:
        dict, the row of the index.

    Raises:
        ValueError: if the network of the source is not known, or the file or all of
            them are too large.
    """
    about = weights.describe(source)["about"] | about
    given = about["arguments"]
    network = registry.build(about)
    path = pathlib.Path(folder, f"{tag}.h5")
    path.parent.mkdir(parents=True, exist_ok=True)
    weights.load(network, source)
    # An earlier file of the tag stays until all is known to be right.
    with tempfile.TemporaryDirectory(dir=folder) as drafts:
        draft = pathlib.Path(drafts, path.name)
        _save(network, draft, about)
        weights.load(network, draft)
        about["score"] = measure(network)
        if "return_sequences" in given:  # who loads a tag wants the classes of an image
            about["arguments"] = given | {"return_sequences": False}
        _save(network, draft, about)
        content = draft.read_bytes()
        _check_size(len(content), path)
        last = registry.build(about)
        weights.load(last, draft)
        row = {
            "tag": tag,
            "file": path.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "about": weights.describe(draft)["about"],
            "outputs": [
                [round(float(x), 6) for x in one]
                for one in probe(last, about["preprocessing"])
            ],
        }
        index = path.with_name(INDEX)
        rows = read_index(index) if index.exists() else ()
        rows = {one["tag"]: one for one in rows} | {tag: row}
        text = json.dumps([*rows.values()], indent=1, ensure_ascii=False)
        new_index = pathlib.Path(drafts, INDEX)
        new_index.write_text(f"{text}\n", encoding="utf-8")
        os.replace(draft, path)
        os.replace(new_index, index)
    return row


def probe(network, preprocessing):
    """What a network says of the first images that come with the package.

    They are resized and given as many channels as it wants, whatever it was trained on.

    Args:
        network: gives `(B, classes)`.
        preprocessing: mode of `kfeedback.preprocessing.preprocess_input`.

    Returns:
        float32 `(3, classes)`.
    """
    images, *_ = load_arrays("mnist_background_images_sample", f"test[:{_PROBES}]")
    *size, channels = network.input_shape[1:]
    images = np.stack([images_lib.resize(x, tuple(size)) for x in images])
    images = np.repeat(images.astype("float32"), channels, axis=-1)
    return network.predict(preprocess_input(images, preprocessing), verbose=0)


def score(network, batches, info):
    """The error of the last prediction in words, and of the earlier ones.

    Args:
        network: gives `(B, classes)` or `(B, T, classes)`.
        batches: preprocessed images and labels `(B,)`.
        info: `DatasetInfo`.
    """
    outputs, labels = predict_all(network.predict_on_batch, batches)
    if outputs.ndim == 2:
        outputs = outputs[:, None]
    errors = [scores.top_k_error(x, labels, 1) for x in outputs.swapaxes(0, 1)]
    *earlier, last = [f"{error:.2f} %" for error in errors]
    at = f" at timestep {len(errors)}" if earlier else ""
    text = (
        f"{last} error{at} on the {info.num_examples:,} images of the {info.split} "
        "split, as stored in float16"
    )
    if earlier:
        steps = ", ".join(str(n + 1) for n in range(len(earlier)))
        text += f"; {', '.join(earlier)} at timestep {steps}"
    return text


def main(settings):
    """Publishes and prints the entry."""
    settings.require_unfitted("published weights")  # also that of the run
    run = pathlib.Path(settings.run)
    found = runs.read("run", run)
    preprocess = data.get_preprocess(settings.preprocessing, run)
    test, info = data.load(settings, settings.eval_split, preprocess)
    scores.require_one_label(info)
    names = found["class_names"]
    check_class_names("run", names, settings.dataset, info.class_names)
    numbers = map(str, range(info.num_classes))
    about = {
        "preprocessing": settings.preprocessing,
        "classes": info.num_classes,
        # Of the data that it is measured on: a copy to train on may know no names.
        "class_names": list(info.class_names or names or numbers),
        "dataset": f"{settings.dataset}, {settings.train_split}",
        "commit": found["commit"],
    }

    def measure(network):
        check_images("run", network, info)
        return score(network, test, info)

    row = publish(
        run / "weights.h5",
        settings.folder,
        settings.tag,
        {k: v for k, v in about.items() if v is not None} | settings.about,
        measure,
    )
    print(f"{row['file']}: {row['size']:,} bytes, {row['about']['score']}")


def _save(network, path, about):
    weights.save(network, path, compress=True, dtype="float16", **about)


def _check_size(size, path):
    """Raises a ValueError if a file of so many bytes at `path` is too large."""
    others = sum(x.stat().st_size for x in path.parent.glob("*.h5") if x != path)
    if size > LARGEST or size + others > LARGEST_IN_ALL:
        raise ValueError(
            f"weights must have at most {LARGEST:,} bytes, and {LARGEST_IN_ALL:,} with "
            f"the others of their folder, got {size:,} and {size + others:,}."
        )


if __name__ == "__main__":
    launch(main, Settings)
