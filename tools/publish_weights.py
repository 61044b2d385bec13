r"""Makes the file of an entry of `kfeedback.list_weights` out of trained weights.

    python -m tools.publish_weights --weights=runs/lenet/weights.h5 \
        --model=kfeedback.models.backbones.LeNet --dtype=float16 --about=lenet.json \
        --output=kfeedback/weights/published/lenet_mnist_bg_sample.h5

The attributes are those of --weights, and over them those of the JSON file --about (see
`kfeedback.weights.ABOUT`). Printed is what `kfeedback/weights/registry.py` has to say
of the file: SHA-256, size and attributes. The same weights give the same bytes.
"""

import dataclasses
import hashlib
import json
import pathlib
import pprint

from applications.common.command_line import launch
from applications.common.settings import Settings as Base
from applications.common.settings import field
from kfeedback import weights
from tools.factories import find_factory


@dataclasses.dataclass(frozen=True)
class Settings(Base):
    """The flags of tools.publish_weights."""

    weights: str | None = field(None, "The trained weights.", required=True)
    model: str | None = field(
        None, "Their family, or the dotted name of their factory.", required=True
    )
    output: str | None = field(None, "The file to write.", required=True)
    about: str | None = field(None, "JSON file of attributes.")
    dtype: str | None = field(None, "What to round to.", choices=("float16",))


def publish(source, output, factory, dtype=None, about=None):
    """Writes the file of an entry.

    Args:
        source: path of a file of `kfeedback.weights.save`, which names its arguments.
        output: path to write.
        factory: dotted name of the factory of the model.
        dtype: `None` or `"float16"`.
        about: dict of more attributes.

    Returns:
        dict of `sha256`, `size` and `about` of the file.

    Raises:
        ValueError: if the source is none of ours or does not fit the factory.
    """
    attributes = weights.describe(source)["about"]
    model = find_factory(factory)[0](**attributes.get("arguments", {}))
    weights.load(model, source)
    weights.save(
        model, output, compress=True, dtype=dtype, **(attributes | (about or {}))
    )
    content = pathlib.Path(output).read_bytes()
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "about": weights.describe(output)["about"],
    }


def main(settings):
    """Publishes and prints the entry."""
    about = {}
    if settings.about is not None:
        try:
            about = json.loads(pathlib.Path(settings.about).read_text())
        except (OSError, ValueError):
            about = None
        if not isinstance(about, dict):
            raise ValueError(
                f"--about must be a file with a JSON object, got {settings.about!r}."
            )
    entry = publish(
        settings.weights, settings.output, settings.model, settings.dtype, about
    )
    pprint.pp(entry, width=88)


if __name__ == "__main__":
    launch(main, Settings)
