"""Some images with what every method finds on them, as pictures."""

import numpy as np

from applications.localize.measures import boxes_at
from kfeedback import explain, images

CAPTIONS = {
    "gallery": "The first images whose box is right, by feedback if it is there, and "
    "the first where it is wrong. Dashed is the true box, blue the one that a method "
    "finds for the true class on its map; a map is brighter the more a pixel matters.",
    "looks": "Blue is what the second look sees for the first look's best class; below "
    "stand the answers of both looks and their scores.",
}
"""What the pictures show, by their names."""


def draw(settings, explainers, energies, shown, names, folder):
    """Writes the pictures into a folder; the second one if there are second looks.

    Args:
        settings: `Settings`.
        explainers: dict from method to `Explainer`.
        energies: dict from method to the share of energy of its boxes.
        shown: list of `BoxedImage`; the class of the first object is asked for.
        names: of the classes, or an empty list.
        folder: `pathlib.Path`.

    Returns:
        list of their paths.
    """
    pictures = np.stack([one.image for one in shown]).astype(np.float32)
    labels = np.array([one.labels[0] for one in shown])
    titles = [method.replace("_", " ") for method in explainers]
    rows = [_name(names, label) for label in labels]
    maps = {
        k: one.saliency(pictures, labels, verbose=False)
        for k, one in explainers.items()
    }
    found = explain.plot(
        pictures,
        np.stack(list(maps.values()), axis=1),
        np.stack([boxes_at(own, energies[k]) for k, own in maps.items()], axis=1),
        truth=[one.boxes[one.labels == one.labels[0]] for one in shown],
        names=rows,
        titles=titles,
    )
    figures = {"gallery": found}
    if settings.top:
        figures["looks"] = _looks(settings, explainers, shown, names, rows, titles)
    paths = [folder / f"{name}.png" for name in figures]
    for figure, path in zip(figures.values(), paths, strict=True):
        figure.savefig(path, dpi=100, bbox_inches="tight")
    return paths


def _looks(settings, explainers, shown, names, rows, titles):
    size = shown[0].image.shape[:2]
    originals = [one.original for one in shown]
    scale = [np.tile(size, 2) / np.tile(x.shape[:2], 2) for x in originals]
    windows, answers = [], []
    for explainer in explainers.values():
        looks = settings.look_twice(explainer, originals, size)
        windows.append(np.round(looks["boxes"][:, 0] * scale).astype(int))
        answers.append(
            [
                "\n".join(
                    f"{_name(names, looks[f'{key}classes'][n, 0])}, "
                    f"{looks[f'{key}scores'][n, 0]:.2f}"
                    for key in ("first_", "")
                )
                for n in range(len(shown))
            ]
        )
    return explain.plot(
        np.stack([images.resize(one, size) for one in originals]),
        boxes=np.stack(windows, axis=1),
        captions=np.transpose(answers),
        names=rows,
        titles=titles,
    )


def _name(names, label):
    return names[label] if names else str(label)
