"""Some images with what every method finds on them."""

import dataclasses

import numpy as np

from applications.common.figures import grid, save, show
from kfeedback import images

SIDE = 192  # about the height of a picture
_TRUE, _FOUND = (0, 200, 0), (255, 40, 40)

CAPTION = (
    "Green is the true box, red the one that a method finds for the true class on its "
    "map; a map is brighter the more a pixel matters."
)


@dataclasses.dataclass
class Example:
    """An image and what the methods find.

    Attributes:
        name: of its class.
        image: uint8 `(H, W, 3)`, with the true box.
        maps: dict from method to such a picture of its map, with both boxes.
        crops: dict from method to what its second look sees.
        answers: dict from method to the answers of both looks, as text.
    """

    name: str
    image: np.ndarray
    maps: dict
    crops: dict
    answers: dict


def choose(settings, explainers, energies, test):
    """Some of the images, with what every method finds.

    Args:
        settings: `Settings`.
        explainers: dict from method to `Explainer`.
        energies: dict from method to the share of energy of its boxes.
        test: `BoxedImages`.

    Returns:
        list of `Example`.
    """
    count = len(test.labels)
    chosen = np.linspace(0, count - 1, min(settings.gallery, count)).astype(int)
    chosen = np.unique(chosen)
    pictures = test.images[test.index[chosen]].astype(np.float32)
    originals = [test.originals[test.index[n]] for n in chosen]
    labels, size = test.labels[chosen], test.images.shape[1:3]
    examples = [
        Example(_name(test, label), _picture(image, test.boxes[n]), {}, {}, {})
        for n, image, label in zip(chosen, pictures, labels, strict=True)
    ]
    for method, explainer in explainers.items():
        maps = explainer.saliency(pictures, labels)
        boxes = explainer.localize(pictures, labels, energy=energies[method])
        looks = settings.look_twice(explainer, originals, size)
        for n, example in enumerate(examples):
            example.maps[method] = _heat(maps[n], test.boxes[chosen[n]], boxes[n])
            top, left, bottom, right = looks["boxes"][n, 0]
            crop = images.resize(originals[n][top:bottom, left:right], size)
            example.crops[method] = _picture(crop)
            example.answers[method] = [
                f"{look} look: {_name(test, looks[f'{key}classes'][n, 0])}, "
                f"{looks[f'{key}scores'][n, 0]:.2f}"
                for look, key in (("first", "first_"), ("second", ""))
            ]
    return examples


def draw(examples, path):
    """A row an image, a column a method, with captions."""
    columns = ["image", *examples[0].maps]
    lines, width = len(examples), len(columns)
    figure, axes = grid(lines, width, 1.6 * width + 0.6, 1.65 * lines + 0.8)
    for line, example in zip(axes, examples, strict=True):
        pictures = [example.image, *example.maps.values()]
        for axis, picture in zip(line, pictures, strict=True):
            show(axis, picture)
        line[0].set_ylabel(example.name)
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name.replace("_", " "), fontsize=9)
    figure.supxlabel(CAPTION, fontsize=9, wrap=True)
    save(figure, path)


def _name(test, label):
    return test.class_names[label] if test.class_names else str(label)


def _picture(image, *boxes):
    """An image enlarged, RGB, with the true box and the found one drawn on it."""
    factor = max(1, round(SIDE / len(image)))
    large = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    large = np.clip(large, 0, 255).astype(np.uint8)
    if large.shape[-1] == 1:
        large = np.repeat(large, 3, axis=-1)
    for box, color in zip(boxes, (_TRUE, _FOUND), strict=False):
        if (box[2:] > box[:2]).all():
            top, left, bottom, right = np.asarray(box) * factor
            inside = large[top + 2 : bottom - 2, left + 2 : right - 2].copy()
            large[top:bottom, left:right] = color
            large[top + 2 : bottom - 2, left + 2 : right - 2] = inside
    return large


def _heat(one, truth, found):
    """A map as gray, brighter the more a pixel matters, with the boxes."""
    bright = one / max(float(one.max()), 1e-12)
    return _picture(255 * np.sqrt(bright)[..., None], truth, found)
