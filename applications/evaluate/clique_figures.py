"""Figures 5 and 6 of CliqueNet, for any network with clique blocks."""

import pathlib

import keras
import numpy as np

from applications.common import data, figures
from kfeedback import graph
from kfeedback.layers import CliqueBlock


def draw_all(model, folder, batches, samples=4):
    """Draws both figures and returns their paths.

    Args:
        model: a network with at least one `CliqueBlock`.
        folder: where the PNG files go.
        batches: `(images, labels)` of the evaluated split.
        samples: images of figure 6, or as many as there are.
    """
    blocks = clique_blocks(model)
    folder = pathlib.Path(folder)
    paths = [folder / "clique_weights.png", folder / "clique_stages.png"]
    draw_weights(blocks, paths[0])
    images, _ = data.first_images(batches, samples)
    draw_stages(model, blocks, images, paths[1])
    return paths


def clique_blocks(model):
    """The clique blocks of a model, in order."""
    return [layer for layer in model.layers if isinstance(layer, CliqueBlock)]


def mean_weights(block):
    """Mean `|W_ij|`, `(n + 1, n + 1)`: row i the source, column j the target.

    NaN where there is no kernel: on the diagonal, into the input, and, in a block
    without loops, from a later layer to an earlier one.
    """
    size = block.num_layers + 1
    values = np.full((size, size), np.nan)
    for source in range(size):
        for target in range(1, size):
            try:
                kernel = block.kernel(source, target)
            except ValueError:
                continue
            values[source, target] = np.abs(keras.ops.convert_to_numpy(kernel)).mean()
    return values


def draw_weights(blocks, path):
    """Figure 5: the mean absolute weight between any two layers of each block."""
    figure, axes = figures.grid(1, len(blocks), 3.6 * len(blocks), 3.6)
    for axis, block in zip(axes[0], blocks, strict=True):
        values = mean_weights(block)[:, 1:]
        image = axis.imshow(values, cmap="viridis")
        axis.set_xticks(range(block.num_layers), range(1, block.num_layers + 1))
        axis.set_xlabel("to layer")
        axis.set_ylabel("from layer (0: input)")
        axis.set_title(block.name)
        figure.colorbar(image, ax=axis, shrink=0.75)
    figures.save(
        figure, path, "Mean |W| between the layers of a block (white: no connection)"
    )


def draw_stages(model, blocks, images, path):
    """Figure 6: images, and their strongest map of the first and the last stage."""
    calls = graph.nodes(model.inputs, model.outputs)
    rows, outputs = [], []
    for block in blocks:
        stages = next(node.outputs for node in calls if node.operation is block)
        for number in sorted({1, len(stages)}):
            rows.append(f"{block.name}\nstage {number}")
            outputs.append(stages[number - 1])
    found = keras.Model(model.inputs[0], outputs).predict(images, verbose=0)
    found = found if isinstance(found, list) else [found]
    rows = [
        ("image", figures.picture(images)),
        *zip(rows, map(figures.strongest_maps, found), strict=True),
    ]
    title = "The strongest map of each stage, in magnitude"
    figures.save(figures.table(rows), path, title)
