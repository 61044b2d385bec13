"""The page of applications.demo."""

import html

from applications.common import page


def section(title, text, rows=(), pictures=()):
    """A section of the page, in what JSON knows.

    Args:
        title, text: what it says.
        rows: dicts of equal keys, a table.
        pictures: names of PNG files in the folder of the page.
    """
    return {
        "title": title,
        "text": text,
        "rows": list(rows),
        "pictures": list(pictures),
    }


def write(folder, sections):
    """Writes `index.html` of sections into a folder, and returns its path."""
    path = folder / "index.html"
    body = "".join(_html(folder, one) for one in sections)
    page.write(path, "Networks that look more than once", body)
    return path


def _html(folder, one):
    pictures = "".join(
        f"<p>{page.picture(folder / name)}</p>\n" for name in one["pictures"]
    )
    title, text = (html.escape(one[name]) for name in ("title", "text"))
    return f"<h2>{title}</h2>\n<p>{text}</p>\n{_table(one['rows'])}{pictures}"


def _table(rows):
    if not rows:
        return ""
    lines = [_line(rows[0], "th"), *(_line(row.values(), "td") for row in rows)]
    return f"<table>{''.join(lines)}</table>\n"


def _line(cells, tag):
    own = "".join(f"<{tag}>{html.escape(str(one))}</{tag}>" for one in cells)
    return f"<tr>{own}</tr>"
