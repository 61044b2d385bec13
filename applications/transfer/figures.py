"""Figures 2 to 4 of Transfer learning with feedback networks."""

import pathlib

import numpy as np

from applications.common import figures

_STYLES = {
    "finetune": ("fine-tuned", figures.COLORS[2], "s", "-"),
    "head": ("new head, frozen", figures.COLORS[0], "o", "-"),
    "scratch": ("from scratch", figures.COLORS[1], "^", "--"),
}
_LEAST_SPAN = 10  # percent points of an axis, so that noise looks as small as it is
_MARKERS = "vDPX*<>"


def draw_all(results, folder, title):
    """Draws the figures that the results allow and returns their paths.

    Args:
        results: dict from `(method, fitted on)` to a dict from a metric's name to its
            values in percent, one a timestep.
        folder: where the PNG files go.
        title: what stands above them.
    """
    folder = pathlib.Path(folder)
    networks = [key for key in results if key[0] in _STYLES]
    forests = [key for key in results if key[0] == "forest"]
    logistic = [key for key in results if key[0] == "logistic"]
    paths = []
    if networks:
        paths.append(folder / "accuracy.png")
        draw_lines(results, networks, paths[-1], title)
    if forests:
        paths.append(folder / "forest.png")
        others = [key for key in networks if key[0] != "finetune"]
        draw_lines(results, others + forests, paths[-1], title)
    if logistic:
        paths.append(folder / "logistic.png")
        draw_fitted_on(results, logistic, paths[-1], title)
    return paths


def draw_lines(results, keys, path, title):
    """Figures 2 and 3: a line over the timesteps for each of the results."""
    metrics = list(results[keys[0]])
    figure, axes = figures.grid(1, len(metrics), 5.2 * len(metrics) + 1.6, 4)
    for axis, metric in zip(axes[0], metrics, strict=True):
        _lines(axis, results, keys, metric)
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    figures.save(figure, path, title)


def draw_fitted_on(results, keys, path, title):
    """Figure 4: fitted on one timestep or all, tested on all; as lines and as table."""
    metrics = list(results[keys[0]])
    figure, axes = figures.grid(len(metrics), 2, 12.5, 4 * len(metrics))
    for (left, right), metric in zip(axes, metrics, strict=True):
        _lines(left, results, keys, metric)
        left.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        values = np.array([results[key][metric] for key in keys])
        low, high = span(values)
        limits = {"vmin": low, "vmax": high}
        image = right.imshow(values, cmap="cividis", aspect="auto", **limits)
        right.set_xticks(range(values.shape[1]), range(1, values.shape[1] + 1))
        right.set_yticks(range(len(keys)), [fitted for _, fitted in keys])
        right.set_xlabel("tested on iteration")
        right.set_ylabel("fitted on iteration")
        middle = (low + high) / 2
        for (row, column), value in np.ndenumerate(values):
            color = "white" if value < middle else "black"
            text = f"{value:.1f}"
            right.text(column, row, text, ha="center", va="center", color=color)
        figure.colorbar(image, ax=right, label=f"{metric} in %")
    figures.save(figure, path, title)


def _lines(axis, results, keys, metric):
    fits = [fitted for method, fitted in keys if method not in _STYLES]
    for method, fitted in keys:
        values = results[method, fitted][metric]
        if method in _STYLES:
            label, color, marker, dash = _STYLES[method]
        else:
            label = f"{method} fitted on {fitted}"
            dash = "-" if fitted == "all" else ":"
            place = fits.index(fitted)
            marker = "o" if fitted == "all" else _MARKERS[place % len(_MARKERS)]
            share = place / max(1, len(fits) - 2)  # 1 for the last iteration
            color = "black" if fitted == "all" else _shade(share)
        axis.plot(
            range(1, len(values) + 1),
            values,
            color=color,
            marker=marker,
            linestyle=dash,
            label=label,
        )
    axis.set_xticks(range(1, len(values) + 1))
    axis.set_xlabel("tested on iteration")
    axis.set_ylabel(f"{metric} in %")
    low, high = span([results[key][metric] for key in keys])
    margin = 0.05 * (high - low)
    axis.set_ylim(low - margin, high + margin)
    axis.grid(axis="y", alpha=0.3)


def span(values):
    """The range of values in percent, widened within 0 to 100 if it is small."""
    low, high = np.min(values), np.max(values)
    wider = max(0, _LEAST_SPAN - (high - low)) / 2
    low, high = low - wider, high + wider
    shift = max(0, -low) - max(0, high - 100)
    return low + shift, high + shift


def _shade(share):
    """A color of viridis, light ones left out."""
    import matplotlib

    return matplotlib.colormaps["viridis"](0.85 * min(1, share))
