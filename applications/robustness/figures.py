"""Figures of applications.robustness: curves of accuracy, and t-SNE of layers."""

import statistics

import keras
import numpy as np

from applications.common.data import first_images
from applications.common.figures import COLORS, MARKERS, grid, save
from applications.robustness.sweep import CLEAN
from kfeedback import corruptions, graph
from kfeedback.backend import compile_forward

_AXES = {
    "noise": "σ of Gaussian noise (0–255)",
    "occlusion": "hidden share of the image",
    "blur": "σ of the blur (pixels)",
    "contrast": "contrast",
    "jpeg": "JPEG quality",
    "fgsm": "ε of FGSM (0–255)",
    "pgd": "ε of PGD (0–255)",
}
# What the severity of a clean image is.
_UNCHANGED = dict.fromkeys(_AXES, 0.0) | {"contrast": 1.0, "jpeg": None}
_MILD_IS_LARGE = ("contrast", "jpeg")


def draw_curves(rows, path):
    """A panel a corruption, a line a model; bars are deviations over the seeds."""
    found = dict.fromkeys(row["corruption"] for row in rows)
    panels = [name for name in _AXES if name in found]
    names = list(dict.fromkeys(row["model"] for row in rows))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = grid(lines, columns, 4.4 * columns + 0.6, 3.6 * lines)
    for axis, corruption in zip(axes.flat, panels, strict=False):
        for n, name in enumerate(names):
            points = {}
            for row in rows:
                if row["model"] != name:
                    continue
                severity = float(row["severity"])
                if row["corruption"] == CLEAN:
                    severity = _UNCHANGED[corruption]
                elif row["corruption"] != corruption:
                    continue
                if severity is not None:
                    points.setdefault(severity, []).append(float(row["accuracy"]))
            places = sorted(points)
            axis.errorbar(
                places,
                [statistics.mean(points[x]) for x in places],
                [
                    statistics.stdev(points[x]) if len(points[x]) > 1 else 0
                    for x in places
                ],
                color=COLORS[n % len(COLORS)],
                marker=MARKERS[n % len(MARKERS)],
                linestyle=("-", "--", ":")[n // len(COLORS) % 3],
                markersize=4,
                capsize=3,
                label=name,
            )
        if corruption in _MILD_IS_LARGE:
            axis.invert_xaxis()
        axis.set_xlabel(_AXES[corruption])
        axis.set_ylim(0, 100)
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy (%)")
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    axes[0, 0].legend(fontsize=8)
    save(figure, path)


def check_layers(entries, layers):
    """Refuses names of layers that a model does not have."""
    for entry in entries if layers else ():
        graph.require_graph(entry.model, f"--tsne_layers: model '{entry.name}'")
        for name in layers:
            layer = graph.get_layer(entry.model, name, "--tsne_layers")
            if not graph.layer_outputs(entry.model, layer):
                raise ValueError(
                    "--tsne_layers must name layers that compute something, got the "
                    f"input {name!r} of model '{entry.name}'."
                )


def draw_tsne(settings, entries, batches, folder):
    """A figure a model: a row a layer, without noise and with it; yields the paths."""
    layers, sigma, seed = settings.tsne_layers, settings.tsne_noise, settings.seeds[0]
    images, labels = first_images(batches, settings.tsne_examples)
    labels = labels.reshape(-1)
    noisy = corruptions.gaussian_noise(images, sigma, seed)
    for entry in entries:
        figure, axes = grid(len(layers), 2, 8.4, 4 * len(layers))
        for line, layer in zip(axes, layers, strict=True):
            for axis, shown, title in (
                (line[0], images, "without noise"),
                (line[1], noisy, f"with noise of σ = {sigma:g}"),
            ):
                points = embed(_features(entry, layer, shown), seed)
                for label in np.unique(labels):
                    chosen = points[labels == label]
                    axis.scatter(
                        *chosen.T,
                        s=9,
                        color=COLORS[label % len(COLORS)],
                        marker=MARKERS[label // len(COLORS) % len(MARKERS)],
                        label=str(label),
                    )
                axis.set_title(f"{layer}, {title}", fontsize=9)
                axis.set_xticks([])
                axis.set_yticks([])
        axes[0, 1].legend(fontsize=7, title="class", loc="center left")
        axes[0, 1].get_legend().set_bbox_to_anchor((1.0, 0.5))
        name = "".join(c if c.isalnum() or c in "-=." else "_" for c in entry.name)
        # Runs of several folders may have one name.
        twins = [x for x in entries if (x.name, x.run) == (entry.name, entry.run)]
        weights = f"_{entry.weights}" if len(twins) > 1 else ""
        path = folder / f"tsne_{name}_{entry.run}{weights}.png"
        save(figure, path, entry.name)
        yield path


def embed(features, seed):
    """t-SNE of rows in two dimensions, from their 50 principal components."""
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError(
            "--tsne_layers needs scikit-learn: pip install kfeedback[data]."
        ) from error
    if min(features.shape) > 50:
        features = PCA(50, random_state=seed).fit_transform(features)
    return TSNE(
        2,
        perplexity=min(30, (len(features) - 1) / 3),
        init="pca" if features.shape[1] > 1 else "random",
        random_state=seed,
    ).fit_transform(features)


def _features(entry, layer, images):
    """What a layer gives at its last call, a row an image."""
    output = graph.layer_outputs(
        entry.model, graph.get_layer(entry.model, layer, "--tsne_layers")
    )[-1]
    run = compile_forward(keras.Model(entry.model.inputs[0], output))
    batches = (images[start : start + 128] for start in range(0, len(images), 128))
    rows = [keras.ops.convert_to_numpy(run([entry.preprocess(x)])) for x in batches]
    rows = np.concatenate(rows).astype("float32")
    return rows.reshape(len(rows), -1)
