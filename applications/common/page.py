"""Pages of pictures: one HTML file that needs no server."""

import base64

_STYLE = """
body { font: 14px sans-serif; margin: 2em; } p, pre { max-width: 60em; }
img { max-width: 100%; } table { border-collapse: collapse; }
td, th { border: 1px solid #bbb; padding: 2px 8px; }
td { text-align: right; } th { text-align: left; }
"""


def write(path, title, body):
    """Writes a page.

    Args:
        path: `pathlib.Path` of the file.
        title: text.
        body: HTML that comes below the title.
    """
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>{_STYLE}</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""
    path.write_text(text, encoding="utf-8")


def picture(path):
    """HTML of a PNG file, which is copied into it."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{path.stem}">'
