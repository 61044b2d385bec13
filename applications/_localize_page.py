"""The gallery and the page of applications.localize."""

import base64
import html
import io

import keras
import numpy as np
from absl import flags

from kfeedback.explain._explainer import _resize

FLAGS = flags.FLAGS

_SIDE = 192  # height of a picture on the page
_TRUE, _FOUND = (0, 200, 0), (255, 40, 40)

_STYLE = """
body { font: 14px sans-serif; margin: 2em; max-width: 100%; }
table { border-collapse: collapse; } td, th { padding: 4px 8px; text-align: center; }
td.number { text-align: right; } img { display: block; } caption { text-align: left; }
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
        )
        shown[method] = maps, boxes, looks
    gallery = []
    for n, number in enumerate(chosen):
        name = _name(test, test.labels[number])
        truth = test.boxes[number]
        cells = [_picture(pictures[n], truth, None)]
        titles = [f"class {name}"]
        for method, (maps, boxes, looks) in shown.items():
            cells.append(_heat(maps[n], truth, boxes[n]))
            top, left, bottom, right = looks["boxes"][n, 0]
            crop = originals[n][top:bottom, left:right]
            second = _picture(_resize(crop, pictures[n].shape[:2]), None, None)
            answers = [
                _name(test, looks[key][n, 0]) for key in ("first_classes", "classes")
            ]
            cells.append(second)
            titles += [f"{method}", f"{answers[0]} → {answers[1]}"]
        gallery += [cells[0], *cells[1::2]]
        lines.append((titles, cells))
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
    return test.class_names[label] if test.class_names else str(label)


def _picture(image, truth, found):
    """An image enlarged, RGB, with boxes drawn on it."""
    factor = max(1, round(_SIDE / len(image)))
    large = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    large = np.clip(large, 0, 255).astype(np.uint8)
    if large.shape[-1] == 1:
        large = np.repeat(large, 3, axis=-1)
    for box, colour in ((truth, _TRUE), (found, _FOUND)):
        if box is not None and (box[2:] > box[:2]).all():
            top, left, bottom, right = np.asarray(box) * factor
            inside = large[top + 2 : bottom - 2, left + 2 : right - 2].copy()
            large[top:bottom, left:right] = colour
            large[top + 2 : bottom - 2, left + 2 : right - 2] = inside
    return large


def _heat(one, truth, found):
    """A map as grey, brighter the more a pixel matters, with the boxes."""
    bright = one / max(float(one.max()), 1e-12)
    return _picture(255 * np.sqrt(bright)[..., None], truth, found)


def _image_tag(picture):
    buffer = io.BytesIO()
    keras.utils.array_to_img(picture, scale=False).save(buffer, format="PNG")
    text = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{text}" height="{_SIDE}" alt="">'


def _page(rows, lines):
    left_out = ("hardware", "flags", "dataset", "eval_split", "tuning_split")
    names = [name for name in rows[0] if name not in left_out]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="number">{html.escape(str(row[n]))}</td>' for n in names)
        + "</tr>"
        for row in rows
    )
    examples = "".join(
        "<tr>"
        + "".join(
            f"<td>{html.escape(title)}{_image_tag(cell)}</td>"
            for title, cell in zip(titles, cells, strict=True)
        )
        + "</tr>"
        for titles, cells in lines
    )
    about = f"{rows[0]['dataset']}, {rows[0]['eval_split']}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Where does it look?</title>
<style>{_STYLE}</style></head><body>
<h1>Where does it look? {html.escape(about)}</h1>
<p>Errors in percent. The true box is green, the found one red. Beside each map what the
second look sees: the crop of the first look's best class, and the answers of both.</p>
<table border="1"><tr>{head}</tr>{body}</table>
<h2>Examples</h2><table>{examples}</table>
</body></html>
"""
