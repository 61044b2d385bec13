"""Asks TF Serving what is on images.

    python -m applications.client --model=lr_lenet --images=one.jpg,two.png
    python -m applications.client --model=lr_lenet --images=one.jpg --protocol=grpc \
        --server=localhost:8500
    python -m applications.client --model=lr_lenet --signature=early_exit \
        --images=batch.npy

JPEG and PNG files go to the endpoint `image_bytes` as they are; a `.npy` file, an array
of images as that endpoint takes them, goes to --signature.
"""

import pathlib

import numpy as np
from absl import flags

from applications import _app, _serving

_SERVERS = {"rest": "http://localhost:8501", "grpc": "localhost:8500"}

flags.DEFINE_enum("protocol", "rest", list(_SERVERS), "How to ask.")
flags.DEFINE_string(
    "server",
    None,
    "Its address: http://localhost:8501 by default, for gRPC localhost:8500.",
)
flags.DEFINE_string("model", None, "The model's name there (required).")
flags.DEFINE_integer("version", None, "By default the latest.", lower_bound=1)
flags.DEFINE_string("signature", None, "The endpoint, of a .npy file.")
flags.DEFINE_list("images", [], "JPEG and PNG files, or one .npy file (required).")
FLAGS = flags.FLAGS

_ASK = {"rest": _serving.ask_rest, "grpc": _serving.ask_grpc}


def main():
    """Asks, prints a line an image."""
    model = _app.required("model")
    signature, inputs, names = _request()
    server = FLAGS.server or _SERVERS[FLAGS.protocol]
    ask = _ASK[FLAGS.protocol]
    outputs = ask(server, model, signature, inputs, FLAGS.version)
    for place, name in enumerate(names):
        print(f"{name}: {describe({k: v[place] for k, v in outputs.items()})}")


def describe(outputs):
    """The outputs of one image as text: the best classes, and what else is small."""
    parts = []
    if "top_scores" in outputs:
        labels = outputs.get("top_labels", outputs["top_classes"])
        looks = zip(
            np.atleast_2d(labels), np.atleast_2d(outputs["top_scores"]), strict=True
        )
        parts += [
            ", ".join(f"{a} {b:.4f}" for a, b in zip(*look, strict=True))
            for look in looks
        ]
    if "timesteps" in outputs:
        parts.append(f"timesteps {outputs['timesteps']}")
    known = ("probabilities", "timesteps", "top_classes", "top_labels", "top_scores")
    parts += [
        f"{name} {tuple(np.shape(value))}"
        for name, value in outputs.items()
        if name not in known
    ]
    return "; ".join(parts)


def _request():
    """`(signature, inputs, a name per image)` of the flags."""
    paths = [pathlib.Path(text) for text in FLAGS.images]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise ValueError(f"--images must be files, got {', '.join(missing) or 'none'}.")
    if paths[0].suffix != ".npy":
        _app.refuse(("signature",), "image files")
        encoded = np.array([path.read_bytes() for path in paths], dtype=object)
        return "image_bytes", {"image_bytes": encoded}, paths
    if len(paths) > 1:
        raise ValueError(f"--images must be one .npy file, got {len(paths)} files.")
    images = np.load(paths[0], allow_pickle=False).astype("float32")
    names = [f"image {n}" for n in range(len(images))] if images.ndim else []
    return FLAGS.signature or "serving_default", {"images": images}, names


if __name__ == "__main__":
    _app.launch(main)
