"""A page for every public module, written when the build begins."""

import pathlib

import docstrings


def _write_pages(app):
    folder = pathlib.Path(app.confdir) / "api"
    modules = docstrings.public_modules()
    wanted = {
        f"{name}.rst": docstrings.page(module) for name, module in modules.items()
    }
    for old in folder.glob("*.rst"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:  # Sphinx reads what is new
            path.write_text(text)
    app.config.public_names = {
        f"{name}.{member}"
        for name, module in modules.items()
        for member in docstrings.members(module)
    }


def _format(app, what, name, value, options, lines):
    lines[:] = docstrings.to_rst("\n".join(lines), app.config.public_names)


def _skip(app, what, name, value, skip, options):
    return True if name in docstrings.OF_KERAS else None


def _check(app, error):
    """Every public name has its place in the pages."""
    if error is None and app.builder.format == "html":
        missing = app.config.public_names - set(app.env.domains["py"].objects)
        if missing:
            raise ValueError(f"names without a page: {', '.join(sorted(missing))}.")


def setup(app):
    """What Sphinx calls."""
    app.add_config_value("public_names", frozenset(), "")
    app.connect("builder-inited", _write_pages)
    app.connect("autodoc-process-docstring", _format)
    app.connect("autodoc-skip-member", _skip)
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "version": "1"}
