r"""Asks TF Serving what is on images.

    python -m applications.client --model=lr_lenet --images=one.jpg,two.png
    python -m applications.client --model=lr_lenet --images=one.jpg --protocol=grpc \
        --server=localhost:8500
    python -m applications.client --model=lr_lenet --signature=early_exit \
        --images=batch.npy

JPEG and PNG files go to the endpoint `image_bytes` as they are; a `.npy` file, an array
of images as that endpoint takes them, goes to --signature.
"""

import numpy as np

from applications.client.settings import Settings
from applications.common import tf_serving
from applications.common.command_line import launch

_ASK = {"rest": tf_serving.ask_rest, "grpc": tf_serving.ask_grpc}


def main(settings):
    """Asks, prints a line an image."""
    signature, inputs, names = _request(settings)
    ask = _ASK[settings.protocol]
    outputs = ask(settings.address, settings.model, signature, inputs, settings.version)
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


def _request(settings):
    """`(signature, inputs, a name per image)`."""
    paths = settings.paths
    if paths[0].suffix != ".npy":
        encoded = np.array([path.read_bytes() for path in paths], dtype=object)
        return "image_bytes", {"image_bytes": encoded}, paths
    try:
        with paths[0].open("rb") as file:
            images = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--images must be a .npy file, got '{paths[0]}': {error}"
        ) from error
    images = images.astype("float32")
    names = [f"image {n}" for n in range(len(images))] if images.ndim else []
    return settings.signature or "serving_default", {"images": images}, names


if __name__ == "__main__":
    launch(main, Settings)
