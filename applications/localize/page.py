"""The page of applications.localize, one HTML file that needs no server."""

import base64
import html

from applications.localize.gallery import CAPTIONS
from applications.localize.measures import SIZES

_LEFT_OUT = ("method", "hardware", "flags")

_STYLE = """
body { font: 14px sans-serif; margin: 2em; } p { max-width: 50em; }
img { max-width: 100%; } table { border-collapse: collapse; }
td, th { border: 1px solid #bbb; padding: 2px 8px; }
td { text-align: right; } th { text-align: left; }
"""


def write(pictures, about, rows, path):
    """Writes the page.

    Args:
        pictures: paths of those of `gallery.draw`.
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
    about = ", ".join(
        f"{name.replace('_', ' ')} {html.escape(str(value))}"
        for name, value in about.items()
    )
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Where does it look?</title>
<style>{_STYLE}</style></head><body>
<h1>Where does it look?</h1>
<p>{about}</p>
{"".join(map(_picture, pictures))}
<h2>All images</h2>
<p>Errors are in percent; "top" is an error of all of the best classes; size 1 to
{len(SIZES) - 1} are objects up to {_sizes()} of the image.</p>
<table><tr><th></th>{methods}</tr>{numbers}</table>
</body></html>
"""
    path.write_text(text, encoding="utf-8")


def _picture(path):
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="{path.stem}">'
    return f"<p>{CAPTIONS[path.stem]}</p>{image}\n"


def _sizes():
    return ", ".join(f"{100 * size:g} %" for size in SIZES[1:])
