"""Some images with what every method finds on them."""

import dataclasses

import numpy as np

from applications.common.figures import grid, save, show
from applications.localize.measures import boxes_at
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


def choose(settings, explainers, energies, shown, names):
    """Some images, with what every method finds.

    Args:
        settings: `Settings`.
        explainers: dict from method to `Explainer`.
        energies: dict from method to the share of energy of its boxes.
        shown: list of `BoxedImage`; the class of the first object is asked for.
        names: of the classes, or an empty list.

    Returns:
        list of `Example`.
    """
    pictures = np.stack([one.image for one in shown]).astype(np.float32)
    originals = [one.original for one in shown]
    labels = np.array([one.labels[0] for one in shown])
    truth = [one.boxes[one.labels == one.labels[0]] for one in shown]
    size = pictures.shape[1:3]
    examples = [
        Example(_name(names, label), _picture(image, own, ()), {}, {}, {})
        for image, label, own in zip(pictures, labels, truth, strict=True)
    ]
    for method, explainer in explainers.items():
        maps = explainer.saliency(pictures, labels)
        boxes = boxes_at(maps, energies[method])
        for n, example in enumerate(examples):
            example.maps[method] = _heat(maps[n], truth[n], boxes[n : n + 1])
        if not settings.top:
            continue
        looks = settings.look_twice(explainer, originals, size)
        for n, example in enumerate(examples):
            top, left, bottom, right = looks["boxes"][n, 0]
            crop = images.resize(originals[n][top:bottom, left:right], size)
            example.crops[method] = _picture(crop, (), ())
            example.answers[method] = [
                f"{look} look: {_name(names, looks[f'{key}classes'][n, 0])}, "
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


def _name(names, label):
    return names[label] if names else str(label)


def _picture(image, truth, found):
    """An image enlarged, RGB, with the true boxes and the found ones drawn on it."""
    factor = max(1, round(SIDE / len(image)))
    large = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    large = np.clip(large, 0, 255).astype(np.uint8)
    if large.shape[-1] == 1:
        large = np.repeat(large, 3, axis=-1)
    colored = [(box, _TRUE) for box in truth] + [(box, _FOUND) for box in found]
    for box, color in colored:
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
