"""The page of applications.localize, one HTML file that needs no server."""

import base64
import html
import io

import keras

from applications.localize.gallery import CAPTION, SIDE
from applications.localize.measures import SIZES

_LEFT_OUT = ("method", "hardware", "flags")

_STYLE = """
body { font: 14px sans-serif; margin: 2em; } p { max-width: 50em; }
table { border-collapse: collapse; } td, th { padding: 4px; vertical-align: top; }
img { display: block; margin-bottom: 4px; } td p { margin: 0 0 1em; }
.numbers td, .numbers th { border: 1px solid #bbb; padding: 2px 8px; }
.numbers td { text-align: right; } .numbers th { text-align: left; }
"""


def write(examples, about, rows, path):
    """Writes the page.

    Args:
        examples: list of `gallery.Example`.
        about: dict of what all rows share.
        rows: the rows of the results, one a method.
        path: of the file.
    """
    names = [name for name in rows[0] if name not in (*about, *_LEFT_OUT)]
    methods = "".join(f"<th>{row['method'].replace('_', ' ')}</th>" for row in rows)
    numbers = "".join(
        f"<tr><th>{name.replace('_', ' ')}</th>"
        + "".join(f"<td>{html.escape(str(row[name]))}</td>" for row in rows)
        + "</tr>"
        for name in names
    )
    examples = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in _cells(example)) + "</tr>"
        for example in examples
    )
    about = ", ".join(
        f"{name.replace('_', ' ')} {html.escape(str(value))}"
        for name, value in about.items()
    )
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Where does it look?</title>
<style>{_STYLE}</style></head><body>
<h1>Where does it look?</h1>
<p>{about}</p>
<h2>Examples</h2>
<p>{CAPTION} Under it stands what the second look sees, a crop around the box of the
first look's best class, and the answer of both looks with its score.</p>
<table><tr><th>image</th>{methods}</tr>{examples}</table>
<h2>All images</h2>
<p>Errors are in percent; size 1 to {len(SIZES) - 1} are objects up to {_sizes()} of the
image.</p>
<table class="numbers"><tr><th></th>{methods}</tr>{numbers}</table>
</body></html>
"""
    path.write_text(text, encoding="utf-8")


def _cells(example):
    """The cells of an image's line: itself, then one a method."""
    name = html.escape(example.name)
    image = _tag(example.image, f"image with {name}")
    cells = [f"{image}<p>true class {name}</p>"]
    for method, picture in example.maps.items():
        cell = _tag(picture, f"map by {method}")
        if method in example.crops:
            answers = "<br>".join(map(html.escape, example.answers[method]))
            crop = _tag(example.crops[method], f"crop by {method}")
            cell += f"{crop}<p>{answers}</p>"
        cells.append(cell)
    return cells


def _tag(picture, text):
    buffer = io.BytesIO()
    keras.utils.array_to_img(picture, scale=False).save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" height="{SIDE}" alt="{text}">'


def _sizes():
    return ", ".join(f"{100 * size:g} %" for size in SIZES[1:])
