"""Figures 6 to 8 of Learning with Rethinking, for any trained LRNet."""

import pathlib

import keras
import numpy as np

from applications.common import figures
from kfeedback import graph
from kfeedback.layers import Feedback

CONFIDENT, UNSURE = 0.8, 0.6


def draw_all(model, folder, test, train):
    """Draws every figure that there is and returns their paths.

    Args:
        model: an LRNet built with `return_sequences=True` and `timesteps` > 1.
        folder: where the PNG files go.
        test: `(batches, posteriors (N, T, classes), labels (N,))`.
        train: `(posteriors, labels)` of the training split.
    """
    feedbacks = require_feedback(model)
    folder = pathlib.Path(folder)
    batches, posteriors, labels = test
    paths = [folder / "top_k.png"]
    draw_top_k({"train": train, "test": (posteriors, labels)}, paths[0])
    pair = most_confused(posteriors[:, 0], labels)
    if pair is None:
        print(
            "emphasis.png and channels.png are of the two classes that the first look "
            "confuses most often: it confuses none, and they are not drawn."
        )
        return paths
    site = feedbacks[-1]
    paths = [folder / "emphasis.png", folder / "channels.png", *paths]
    draw_emphasis(site, posteriors, labels, pair, paths[0])
    draw_channels(model, site, batches, posteriors, labels, pair, paths[1])
    return paths


def require_feedback(model):
    """The feedback layers of a model that can be drawn; a ValueError for another."""
    feedbacks = [layer for layer in model.layers if isinstance(layer, Feedback)]
    if not feedbacks or len(model.output_shape) != 3:
        raise ValueError(
            "--figures must be drawn of an lrnet with at least two timesteps, or of a "
            f"network with clique blocks, got '{model.name}'."
        )
    return feedbacks


def most_confused(posteriors, labels):
    """The two classes that are most often taken for one another; `None` if none is."""
    classes = posteriors.shape[1]
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (labels, posteriors.argmax(1)), 1)
    confusion = np.triu(confusion + confusion.T, 1)
    if not confusion.any():
        return None
    return np.unravel_index(confusion.argmax(), confusion.shape)


def draw_emphasis(feedback, posteriors, labels, pair, path, samples=8):
    """Figure 6: emphasis vectors of two classes, for sure and unsure first looks.

    Each row of a panel is the emphasis vector of one sample.
    """
    first = posteriors[:, 0]
    confidence = first.max(1)
    groups = (
        (f"first look sure (> {CONFIDENT})", confidence > CONFIDENT),
        (f"first look unsure (< {UNSURE})", confidence < UNSURE),
    )
    figure, axes = figures.grid(2, 2, 11, 5.5, sharex=True)
    limit = 0.05
    images = []
    for row, (title, group) in enumerate(groups):
        for column, label in enumerate(pair):
            axis = axes[row, column]
            chosen = np.flatnonzero(group & (labels == label))[:samples]
            axis.set_title(f"class {label}, {title}: {len(chosen)} samples", fontsize=9)
            axis.set_yticks([])
            if not len(chosen):
                axis.text(
                    0.5, 0.5, "no such sample", ha="center", transform=axis.transAxes
                )
                continue
            vectors = keras.ops.convert_to_numpy(feedback(first[chosen]))
            limit = max(limit, np.abs(vectors - 1).max())
            images.append(axis.imshow(vectors, aspect="auto", cmap="RdBu_r"))
    for image in images:
        image.set_clim(1 - limit, 1 + limit)
    for axis in axes[1]:
        axis.set_xlabel(f"channel of {feedback.name.removesuffix('_feedback')}")
    if images:
        figure.colorbar(images[0], ax=axes, label="emphasis (1: unchanged)")
    figures.save(
        figure, path, "Emphasis vectors for the two classes confused most often"
    )


def draw_channels(model, feedback, batches, posteriors, labels, pair, path, samples=4):
    """Figure 7: images of two classes, with the channel enhanced and suppressed most.

    The feature maps are those of the first look, before any emphasis.
    """
    chosen = np.concatenate(
        [np.flatnonzero(labels == label)[:samples] for label in pair]
    )
    images = figures.pick(batches, chosen)
    site = feedback.name.removesuffix("_feedback")
    features = graph.layer_outputs(model, site)[0]
    maps = keras.Model(model.inputs[0], features).predict(images, verbose=0)
    vectors = keras.ops.convert_to_numpy(feedback(posteriors[chosen, 0]))
    mean = vectors.mean(0)
    rows = (
        ("image", figures.picture(images)),
        (f"enhanced: channel {mean.argmax()}", maps[..., mean.argmax()]),
        (f"suppressed: channel {mean.argmin()}", maps[..., mean.argmin()]),
    )
    figure, axes = figures.grid(3, len(chosen), 1.3 * len(chosen) + 1, 4.6)
    emphasis = (None, vectors[:, mean.argmax()], vectors[:, mean.argmin()])
    for (title, pictures), factors, line in zip(rows, emphasis, axes, strict=True):
        for n, axis in enumerate(line):
            is_image = factors is None
            cmap = "gray" if is_image else "viridis"
            figures.show(axis, pictures[n], cmap=cmap)
            note = f"class {labels[chosen[n]]}" if is_image else f"× {factors[n]:.2f}"
            axis.set_title(note, fontsize=8)
        line[0].set_ylabel(title, fontsize=8)
    figures.save(
        figure, path, f"Responses of {site} and their emphasis at the second look"
    )


def draw_top_k(splits, path, largest=5):
    """Figure 8: posterior of the top-k classes and top-k accuracy, a bar a timestep."""
    figure, axes = figures.grid(2, 2, 10, 6)
    for column, (split, (posteriors, labels)) in enumerate(splits.items()):
        order = np.argsort(-posteriors, axis=-1, kind="stable")
        ranked = np.take_along_axis(posteriors, order, axis=-1)
        hits = np.cumsum(order == labels[:, None, None], axis=-1)
        ks = np.arange(1, min(largest, posteriors.shape[2]) + 1)
        steps = posteriors.shape[1]
        for row, (title, values) in enumerate(
            (
                ("mean posterior of the top k", np.cumsum(ranked, axis=-1)),
                ("top-k accuracy", hits),
            )
        ):
            axis = axes[row, column]
            means = values.mean(0)[:, : len(ks)]
            for step in range(steps):
                width = 0.8 / steps
                place = ks - 0.4 + width * (step + 0.5)
                axis.bar(place, means[step], width, label=f"timestep {step + 1}")
            span = means.max() - means.min()
            axis.set_ylim(means.min() - 0.3 * span - 1e-4, means.max() + 0.1 * span)
            axis.set_title(f"{split}: {title}", fontsize=9)
            axis.set_xlabel("k")
            axis.set_xticks(ks)
    axes[0, 0].legend(loc="upper left")
    figures.save(figure, path, "Sure and right: the k best classes after each look")
