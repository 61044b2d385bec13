"""The gallery and the page of applications.localize."""

import base64
import html
import io

import keras
import numpy as np
from absl import flags
from applications._localize import SIZES
from kfeedback.explain._explainer import _resize

FLAGS = flags.FLAGS

_SIDE = 192  # height of a picture on the page
_TRUE, _FOUND = (0, 200, 0), (255, 40, 40)

_ABOUT = ("experiment", "dataset", "eval_split", "images", "objects")
_ABOUT += ("tuning_split", "tuning_objects")
_LEFT_OUT = ("method", "hardware", "flags")

_STYLE = """
body { font: 14px sans-serif; margin: 2em; } p { max-width: 50em; }
table { border-collapse: collapse; } td, th { padding: 4px; vertical-align: top; }
img { display: block; margin-bottom: 4px; } td p { margin: 0 0 1em; }
.numbers td, .numbers th { border: 1px solid #bbb; padding: 2px 8px; }
.numbers td { text-align: right; } .numbers th { text-align: left; }
"""


def write(explainers, rows, test, output):
    """Draws some images with every method; returns the paths.

    Args:
        explainers: dict from method to `Explainer`.
        rows: the rows of the results.
        test: `BoxedImages`.
        output: a folder.
    """
    chosen = np.linspace(0, len(test.labels) - 1, min(FLAGS.gallery, len(test.labels)))
    chosen = np.unique(chosen.astype(int))
    pictures = test.images[test.index[chosen]].astype(np.float32)
    originals = [test.originals[test.index[n]] for n in chosen]
    lines = []
    energies = {row["method"]: row["tuned_energy"] for row in rows}
    shown = {}
    for method, explainer in explainers.items():
        maps = explainer.saliency(pictures, test.labels[chosen])
        boxes = explainer.localize(
            pictures, test.labels[chosen], energy=energies[method]
        )
        looks = explainer.look_twice(
            originals,
            top=FLAGS.top,
            energy=FLAGS.look_energy,
            margin=FLAGS.margin,
            square=FLAGS.square,
            size=test.images.shape[1:3],
        )
        shown[method] = maps, boxes, looks
    gallery = []
    for n, number in enumerate(chosen):
        truth = test.boxes[number]
        image = _picture(pictures[n], truth, None)
        name = _name(test, test.labels[number])
        gallery.append(image)
        cells = [_tag(image, f"image with {name}") + f"<p>true class {name}</p>"]
        for method, (maps, boxes, looks) in shown.items():
            gallery.append(_heat(maps[n], truth, boxes[n]))
            top, left, bottom, right = looks["boxes"][n, 0]
            crop = _resize(originals[n][top:bottom, left:right], pictures[n].shape[:2])
            cells.append(
                _tag(gallery[-1], f"map by {method}")
                + _tag(_picture(crop, None, None), f"crop by {method}")
                + f"<p>{_answer(test, looks, n, 'first_')}<br>"
                + f"{_answer(test, looks, n, '')}</p>"
            )
        lines.append(cells)
    columns = 1 + len(explainers)
    path = output / "gallery.png"
    keras.visualization.plot_image_gallery(
        np.stack(gallery).astype(np.float32),
        value_range=(0, 255),
        rows=len(chosen),
        cols=columns,
        scale=2,
        path=str(path),
    )
    page = output / "localize.html"
    page.write_text(_page(rows, lines), encoding="utf-8")
    return [path, page]


def _name(test, label):
    return html.escape(test.class_names[label] if test.class_names else str(label))


def _picture(image, truth, found):
    """An image enlarged, RGB, with boxes drawn on it."""
    factor = max(1, round(_SIDE / len(image)))
    large = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    large = np.clip(large, 0, 255).astype(np.uint8)
    if large.shape[-1] == 1:
        large = np.repeat(large, 3, axis=-1)
    for box, color in ((truth, _TRUE), (found, _FOUND)):
        if box is not None and (box[2:] > box[:2]).all():
            top, left, bottom, right = np.asarray(box) * factor
            inside = large[top + 2 : bottom - 2, left + 2 : right - 2].copy()
            large[top:bottom, left:right] = color
            large[top + 2 : bottom - 2, left + 2 : right - 2] = inside
    return large


def _heat(one, truth, found):
    """A map as gray, brighter the more a pixel matters, with the boxes."""
    bright = one / max(float(one.max()), 1e-12)
    return _picture(255 * np.sqrt(bright)[..., None], truth, found)


def _answer(test, looks, n, look):
    name = _name(test, looks[f"{look}classes"][n, 0])
    score = looks[f"{look}scores"][n, 0]
    return f"{'first' if look else 'second'} look: {name}, {score:.2f}"


def _tag(picture, text):
    buffer = io.BytesIO()
    keras.utils.array_to_img(picture, scale=False).save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" height="{_SIDE}" alt="{text}">'


def _page(rows, lines):
    names = [name for name in rows[0] if name not in (*_ABOUT, *_LEFT_OUT)]
    methods = "".join(f"<th>{row['method'].replace('_', ' ')}</th>" for row in rows)
    numbers = "".join(
        f"<tr><th>{name.replace('_', ' ')}</th>"
        + "".join(f"<td>{html.escape(str(row[name]))}</td>" for row in rows)
        + "</tr>"
        for name in names
    )
    examples = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        for cells in lines
    )
    about = ", ".join(
        f"{name.replace('_', ' ')} {html.escape(str(rows[0][name]))}" for name in _ABOUT
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Where does it look?</title>
<style>{_STYLE}</style></head><body>
<h1>Where does it look?</h1>
<p>{about}</p>
<h2>Examples</h2>
<p>Green is the true box, red the one that a method finds for the true class on its map;
a map is brighter the more a pixel matters. Under it stands what the second look sees, a
crop around the box of the first look's best class, and the answer of both looks with
its score.</p>
<table><tr><th>image</th>{methods}</tr>{examples}</table>
<h2>All images</h2>
<p>Errors are in percent; size 1 to {len(SIZES) - 1} are objects up to {_sizes()} of the
image.</p>
<table class="numbers"><tr><th></th>{methods}</tr>{numbers}</table>
</body></html>
"""


def _sizes():
    return ", ".join(f"{100 * size:g} %" for size in SIZES[1:])
