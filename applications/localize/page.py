"""The page of applications.localize, one HTML file that needs no server."""

import html

from applications.common import page
from applications.localize.gallery import CAPTIONS
from applications.localize.measures import SIZES

_LEFT_OUT = ("method", "hardware", "flags")


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
    body = f"""<p>{about}</p>
{"".join(map(_picture, pictures))}
<h2>All images</h2>
<p>Errors are in percent; "top" is an error of all of the best classes; size 1 to
{len(SIZES) - 1} are objects up to {_sizes()} of the image.</p>
<table><tr><th></th>{methods}</tr>{numbers}</table>"""
    page.write(path, "Where does it look?", body)


def _picture(path):
    return f"<p>{CAPTIONS[path.stem]}</p>{page.picture(path)}\n"


def _sizes():
    return ", ".join(f"{100 * size:g} %" for size in SIZES[1:])
