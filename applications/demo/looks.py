"""What feedback does, by the weights that come with the package.

    python -m applications.demo.looks --demo_dir=demo_output

Writes pictures, and `looks.json`, the sections of the demo's page. It runs in a process
of its own, so that its memory is free again for what the demo trains.
"""

import json
import logging
import pathlib

import numpy as np

import kfeedback
from applications.common import early_exit
from applications.common.command_line import launch
from applications.common.rows import format_table
from applications.demo.page import section
from applications.demo.settings import Settings
from kfeedback import explain
from kfeedback import images as images_lib
from kfeedback.datasets import load_arrays
from kfeedback.explain import metrics

SAMPLE = "mnist_background_images_sample"
NETWORKS = {
    "LR-LeNet": "lr_lenet_mnist_bg_sample",
    "CRCN of LeNet": "crcn_lenet_mnist_bg_sample",
    "feedback ConvLSTM": "feedback_convlstm_mnist_bg_sample",
}
_BATCH = 200
_LOSS = 0.5  # points of accuracy that early exit may cost
_SHOWN = 6  # images of each network
_SCENES = 24
_WIDE = 60  # images for a second look
_PAD = 28  # pixels around them
_GATES = explain.Feedback(gate_layers=("relu7", "relu8"))


def main(settings):
    """Draws everything and notes what it shows."""
    # Each method is a graph of its own, of which TensorFlow warns.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    folder = pathlib.Path(settings.demo_dir)
    folder.mkdir(parents=True, exist_ok=True)
    images, labels, _ = load_arrays(SAMPLE, "test")
    looks = {name: Looks(tag, images) for name, tag in NETWORKS.items()}
    small = kfeedback.load_pretrained("nin_mnist_bg_sample")
    wide = kfeedback.load_pretrained("nin_mnist_bg_sample", input_shape=(56, 56, 1))
    sections = []
    for one in (
        corrected(looks, images, labels, folder),
        exits(looks, labels, folder),
        two_classes(wide, images, labels, folder),
        second_look(small, images, labels, folder),
    ):
        print(f"\n{one['title']}\n\n{one['text']}")
        if one["rows"]:
            print(f"\n{format_table(one['rows'])}")
        sections.append(one)
    (folder / "looks.json").write_text(json.dumps(sections, indent=1))


class Looks:
    """A shipped network with all its predictions for images of the sample.

    Attributes:
        model: `keras.Model`.
        images: preprocessed for it, `(N, H, W, 1)`.
        posteriors: `(N, T, 10)`.
        tag: of its weights.
    """

    def __init__(self, tag, images):
        self.tag = tag
        self.model = kfeedback.load_pretrained(tag, return_sequences=True)
        size = self.model.input_shape[1:3]
        resized = np.stack([images_lib.resize(one, size) for one in images])
        self.images = resized.astype("float32") / 255
        self.posteriors = self.model.predict(self.images, batch_size=_BATCH, verbose=0)


def corrected(looks, images, labels, folder):
    """Images whose first look is wrong and whose last one is right."""
    rows, pictures = [], []
    for name, one in looks.items():
        right = one.posteriors.argmax(-1) == labels[:, None]
        better = np.flatnonzero(~right[:, 0] & right[:, -1])
        worse = np.flatnonzero(right[:, 0] & ~right[:, -1])
        errors = [f"{100 * error:.2f}" for error in 1 - right.mean(0)]
        rows.append(
            {
                "network": name,
                "weights": one.tag,
                "errors of the looks": ", ".join(errors),
                "corrected": len(better),
                "spoiled": len(worse),
            }
        )
        if not len(better):
            continue
        # The surest corrections first.
        sure = one.posteriors[better, -1].max(-1)
        shown = better[np.argsort(-sure, kind="stable")][:_SHOWN]
        captions = [
            f"{name}: a {labels[n]}\n{_answers(one.posteriors[n], labels[n])}"
            for n in shown
        ]
        figure = explain.plot(images[shown], captions=captions)
        pictures.append(_save(figure, folder / f"corrected_{one.tag}.png"))
    text = (
        f"Errors are percent of the {len(labels):,} test images; an image is corrected "
        "where the first look is wrong and the last one right, spoiled the other way "
        "round. Below each of some corrected images stand the answers of the looks and "
        "how sure they are."
    )
    return section("What the later looks correct", text, rows, pictures)


def _answers(posteriors, label):
    """A line for each look: the answer, whether it is right, and how sure it is."""
    return "\n".join(
        f"look {n}: {one.argmax()} {'✓' if one.argmax() == label else '✗'} "
        f"{one.max():.2f}"
        for n, one in enumerate(posteriors, start=1)
    )


def exits(looks, labels, folder):
    """Early exit: the threshold is chosen on half of the images, the rest measured."""
    half, rows = len(labels) // 2, []
    for name, one in looks.items():
        cost = early_exit.costs(one.model)
        chosen = early_exit.choose(one.posteriors[:half], labels[:half], cost, _LOSS)
        rest = one.images[half:], labels[half:]
        found = early_exit.measure(one.model, *rest, chosen, _BATCH)
        rows.append({"network": name, **found})
    path = folder / "early_exit.png"  # of the network of most looks
    curve = early_exit.curve(one.posteriors[half:], labels[half:], cost)
    early_exit.draw(curve, one.posteriors[half:], labels[half:], cost, path)
    text = (
        "An image stops at the look that is sure enough. The threshold is the cheapest "
        f"one that loses at most {_LOSS} points, one standard error included, on "
        f"{half} test images; accuracy in percent and images/s, of all looks and of "
        f"early exit, are of the other {len(labels) - half}, in batches of {_BATCH}. "
        f"Numbers at the curve, that of {name}, are thresholds."
    )
    return section("Stop when it is sure", text, rows, [path.name])


def two_classes(model, images, labels, folder):
    """What speaks for each of the digits of one scene."""
    size = model.input_shape[1:3]
    large = np.stack([images_lib.resize(one, size) for one in images[: 8 * _SCENES]])
    scenes, classes, boxes = metrics.collages(large, labels[: len(large)])
    scenes, classes, boxes = (x[:_SCENES] for x in (scenes, classes, boxes))
    explainer = explain.Explainer(model, _GATES, preprocess="scale")
    maps = explainer.saliency(scenes, classes, verbose=False)
    flat = maps.reshape(-1, *size), boxes.reshape(-1, 4)
    hits = 100 * np.mean(metrics.pointing_game(*flat))
    energy = 100 * np.mean(metrics.energy_in_box(*flat))
    shown = slice(0, 3)
    figure = explain.plot(
        scenes[shown],
        maps[shown],
        captions=[[f"what speaks for {c}" for c in own] for own in classes[shown]],
    )
    text = (
        "FeedbackCNN asks one network of plain ReLUs (nin_mnist_bg_sample), trained on "
        f"single digits, for each class of a scene of four. In {len(scenes)} scenes "
        f"the brightest pixel of a map lies in its own digit's quarter in {hits:.0f} % "
        f"and {energy:.0f} % of a map's energy does; by chance it were 25 %. Gates "
        "stand on the last two ReLUs of its convolutions, chosen on such scenes. "
        "Shown are the first ones."
    )
    picture = _save(figure, folder / "two_classes.png")
    return section("Where it looks, class by class", text, [], [picture])


def second_look(model, images, labels, folder):
    """Look and think twice, on images whose digit is small."""
    draw = np.random.default_rng(0)
    scenes = np.stack([_padded(one, draw) for one in images[:_WIDE]])
    explainer = explain.Explainer(model, _GATES, preprocess="scale", batch_size=50)
    found = explainer.look_twice(scenes, margin=0.2, verbose=False)
    answers = [found[name][:, 0] for name in ("first_classes", "classes")]
    first, second = (answer == labels[:_WIDE] for answer in answers)
    better, worse = np.flatnonzero(~first & second), np.sum(first & ~second)
    text = (
        "The digit stands somewhere in an image of twice the size, filled up from its "
        "edges. The first look sees all of it in 28 pixels and is wrong on "
        f"{100 * (1 - first.mean()):.0f} % of {_WIDE} images. The second one sees, in "
        "28 pixels each, the boxes that feedback finds for the five best classes, so "
        f"more of the digit, and is wrong on {100 * (1 - second.mean()):.0f} %: it "
        f"corrects {len(better)} and spoils {worse}. The margin around the boxes was "
        "chosen on such images. Blue is the box that gave the answer; shown are the "
        "first images that are corrected."
    )
    if not len(better):
        return section("A second look", text, [], [])
    shown = better[:_SHOWN]
    captions = [
        f"a {labels[n]}; first look: {answers[0][n]}, "
        f"{found['first_scores'][n, 0]:.2f}\nsecond look: {answers[1][n]}, "
        f"{found['scores'][n, 0]:.2f}"
        for n in shown
    ]
    boxes = [
        _which(explainer, scenes[n], found["boxes"][n], answers[1][n]) for n in shown
    ]
    figure = explain.plot(scenes[shown], boxes=np.stack(boxes), captions=captions)
    picture = _save(figure, folder / "second_look.png")
    return section("A second look", text, [], [picture])


def _which(explainer, scene, boxes, answer):
    """The box in which the answer is surest."""
    size = explainer.network.model.input_shape[1:3]
    crops = [images_lib.resize(scene[t:b, left:r], size) for t, left, b, r in boxes]
    return boxes[explainer.predict(np.stack(crops), verbose=False)[:, answer].argmax()]


def _padded(image, draw):
    top, left = draw.integers(0, _PAD + 1, 2)
    return np.pad(image, ((top, _PAD - top), (left, _PAD - left), (0, 0)), "edge")


def _save(figure, path):
    figure.savefig(path, dpi=100, bbox_inches="tight")
    return path.name


if __name__ == "__main__":
    launch(main, Settings)
