"""Makes the file of an entry of `kfeedback.list_weights` out of trained weights.

    python -m tools.publish_weights --weights=runs/lenet/weights.h5 \
        --model=kfeedback.models.backbones.LeNet --dtype=float16 --about=lenet.json \
        --output=kfeedback/weights/published/lenet_mnist_bg_sample.h5

The attributes are those of --weights, and over them those of the JSON file --about (see
`kfeedback.weights.ABOUT`). Printed is what `kfeedback/weights/registry.py` has to say
of the file: SHA-256, size and attributes. The same weights give the same bytes.
"""

import hashlib
import json
import pathlib
import pprint

from absl import flags

from applications import _app
from kfeedback import weights
from tools._costs import find_factory


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


def define_flags(values):
    """Defines the flags in `values`, so that importing this module defines none."""
    define = {"flag_values": values}
    flags.DEFINE_string("weights", None, "The trained weights.", **define)
    flags.DEFINE_string("model", None, "Dotted name of their factory.", **define)
    flags.DEFINE_string("output", None, "The file to write.", **define)
    flags.DEFINE_string("about", None, "JSON file of attributes.", **define)
    flags.DEFINE_enum("dtype", None, ["float16"], "What to round to.", **define)


def main(values):
    """Publishes what the parsed flags say and prints the entry."""
    for name in ("weights", "model", "output"):
        if getattr(values, name) is None:
            raise ValueError(f"--{name} must be given, got None.")
    about = {}
    if values.about is not None:
        try:
            about = json.loads(pathlib.Path(values.about).read_text())
        except (OSError, ValueError):
            about = None
        if not isinstance(about, dict):
            raise ValueError(
                f"--about must be a file with a JSON object, got {values.about!r}."
            )
    entry = publish(values.weights, values.output, values.model, values.dtype, about)
    pprint.pp(entry, width=88)


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    _app.launch(lambda: main(flags.FLAGS))
