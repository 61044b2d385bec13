"""Draws the picture of the README: what speaks for each of some classes in an image.

    python docs/make_picture.py squeezenet.keras caffe 812="space shuttle" \
        518="crash helmet"

The picture was made with SqueezeNet 1.1, Iandola et al., 2016, with its published
weights for ImageNet, which is not part of this repository; any functional Keras
classifier of ImageNet does. The photograph is `skimage.data.astronaut()`, of NASA and
in the public domain.
"""

import pathlib
import sys

import keras
import matplotlib.pyplot as plt
import numpy as np
import skimage.data

import kfeedback

PICTURE = pathlib.Path(__file__).parent / "images" / "where.jpg"


def main(model, preprocessing, *classes):
    """Draws it.

    Args:
        model: the path of a `.keras` file.
        preprocessing: a mode of `kfeedback.preprocessing.preprocess_input`.
        *classes: `number=name` of each class.
    """
    trained = keras.models.load_model(model)
    network = kfeedback.FeedbackCNN(trained, preprocess=preprocessing)
    photograph = skimage.data.astronaut().astype("float32")
    image = kfeedback.images.resize(photograph, trained.input_shape[1:3])
    numbers = [int(one.partition("=")[0]) for one in classes]
    names = [one.partition("=")[2] for one in classes]
    maps = network.saliency(image[None], [numbers])[0]
    figure, axes = plt.subplots(
        1, 1 + len(maps), figsize=(7.5, 2.75), gridspec_kw={"wspace": 0.03}
    )
    gray = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    axes[0].imshow(image / 255)
    axes[0].set_title("a photograph")
    for axis, one, name in zip(axes[1:], maps, names, strict=True):
        axis.imshow(gray / 255)
        axis.imshow(one, cmap="inferno", alpha=np.sqrt(one / one.max()))
        axis.set_title(f"“{name}”")
    for axis in axes:
        axis.axis("off")
    figure.savefig(PICTURE, dpi=130, bbox_inches="tight", pad_inches=0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
