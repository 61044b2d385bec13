"""What the docstrings of this project say, for the pages and for their tests.

A docstring is plain text: paragraphs, indented equations and code, lists, and sections
such as `Args:`, whose entries are `name: text`.
"""

import ast
import dataclasses
import importlib
import inspect
import pprint
import re
import sys
import textwrap
import types

TITLES = {
    "Args": "Arguments",
    "Call arguments": "Call arguments",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Raises",
    "Reference": "Reference",
    "Sources": "Sources",
    "Example": "Example",
}
LISTS = ("Args", "Call arguments", "Attributes", "Raises")
# What Keras calls and users do not; a class of ours says nothing new about them.
OF_KERAS = {
    "build",
    "compute_output_shape",
    "compute_output_spec",
    "from_config",
    "get_config",
}


@dataclasses.dataclass
class Section:
    """A part of a docstring; the first one has no title."""

    title: str
    lines: list

    def entries(self):
        """`[(names, lines)]` of a section of `name: text`."""
        found = []
        for line in self.lines:
            head = re.match(r"([*\w][\w*, .]*?): *(.*)", line)
            if head and not line.startswith(" "):
                found.append((head[1], [head[2]]))
            elif found:
                found[-1][1].append(line)
        return [
            (names, [first, *textwrap.dedent("\n".join(rest)).split("\n")])
            for names, (first, *rest) in found
        ]


def sections(text):
    """A docstring cut into its sections."""
    found = [Section("", [])]
    for line in inspect.cleandoc(text or "").split("\n"):
        if line.endswith(":") and line[:-1] in TITLES:
            found.append(Section(line[:-1], []))
        elif found[-1].title and line and not line.startswith(" "):
            found.append(Section("", [line]))  # prose goes on after a section
        else:
            found[-1].lines.append(line)
    for section in found:
        section.lines = inspect.cleandoc("\n".join(["", *section.lines])).split("\n")
    return found


def described(text):
    """The names of the arguments that a docstring describes."""
    return {
        name.strip().lstrip("*")
        for section in sections(text)
        if section.title in ("Args", "Call arguments", "Attributes")
        for names, _ in section.entries()
        for name in names.split(",")
    }


def undescribed(value, module, owner=None):
    """The arguments of a function, class or method that no docstring describes.

    One describes them if it is the own one, that of the class, for a method that of the
    same method of a base class, or one that the own one names in backticks.

    Args:
        value: the function or class.
        module: where it stands; names in backticks are looked up there.
        owner: the class of a method.
    """
    wanted = {
        name
        for name in inspect.signature(value).parameters
        if name not in ("self", "cls")
    }
    texts = [value.__doc__]
    for base in owner.__mro__ if owner else ():
        texts.append(getattr(vars(base).get(value.__name__), "__doc__", None))
        if value.__name__ == "call":
            texts.append(vars(base).get("__doc__"))
    named = re.findall(r"`([^`]+)`", value.__doc__ or "")
    for name in named:
        named_value = resolve(re.sub(r"\([^()]*\)", "", name), module, owner)
        texts.append(getattr(named_value, "__doc__", None))
    for text in texts:
        wanted -= described(text)
    return wanted


def resolve(name, module, owner=None):
    """What a dotted name stands for in a module, or `None`."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        return None
    first, *rest = name.split(".")
    for place in (owner, module, sys.modules[module.__name__.split(".")[0]]):
        if hasattr(place, first):
            found = getattr(place, first)
            break
    else:
        found = sys.modules.get(first)
    for part in rest:
        found = getattr(found, part, None)
    return found


def names(module):
    """The public names of a module: `__all__`, or what it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    )


def public_modules(package="kfeedback"):
    """A dict of the public modules: the package, and what `__all__` names of it."""
    module = importlib.import_module(package)
    found = {package: module}
    for name in names(module):
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            found |= public_modules(value.__name__)
    return found


def members(module):
    """`{name: value}` of what the page of a module describes, without modules."""
    found = {name: getattr(module, name) for name in names(module)}
    return {
        name: value
        for name, value in found.items()
        if not isinstance(value, types.ModuleType) and not name.startswith("__")
    }


def methods(cls):
    """`{name: function}` of the public methods that a class of ours defines."""
    found = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("kfeedback"):
            found |= vars(base)
    return {
        name: value.__func__ if isinstance(value, classmethod | staticmethod) else value
        for name, value in found.items()
        if not name.startswith("_")
        and name not in OF_KERAS
        and isinstance(value, types.FunctionType | classmethod | staticmethod)
    }


def to_rst(text, public=()):
    """A docstring as reStructuredText.

    Args:
        text: the docstring.
        public: names that have a place in the pages: they become links.
    """
    out = []
    for section in sections(text):
        if section.title:
            out += ["", f".. rubric:: {TITLES[section.title]}", ""]
        if section.title in LISTS:
            for names, lines in section.entries():
                out.append(
                    ", ".join(f"``{name.strip()}``" for name in names.split(","))
                )
                out += [f"    {line}".rstrip() for line in _prose(lines, public)] + [""]
        elif section.title == "Example":
            out += _block(section.lines)
        else:
            out += _prose(section.lines, public)
    return out


def _prose(lines, public):
    """Paragraphs and lists; what is indented stands as it is."""
    out, paragraph, block = [], [], []
    for line in [*lines, ""]:
        is_item = line.lstrip().startswith("- ")
        indented = line.startswith("    ") and not paragraph and not is_item
        if block and (indented or not line):
            block.append(line)
            continue
        if block:
            out += _block(inspect.cleandoc("\n".join(["", *block])).split("\n"))
            block = []
        if indented:
            block = [line]
        elif line:
            paragraph.append(line)
        elif paragraph and paragraph[0].startswith("|"):
            out += _table(paragraph, public)
            paragraph = []
        else:
            out += [*_inline("\n".join(paragraph), public).split("\n"), ""]
            paragraph = []
    if block:
        out += _block(inspect.cleandoc("\n".join(["", *block])).split("\n"))
    return out


def _table(lines, public):
    """A Markdown table; a row may go on in the next line."""
    rows = "\n".join(lines).replace("\n|", "\n\n|").split("\n\n")
    head, _, *body = [
        [" ".join(cell.split()) for cell in row.strip("|").split("|")] for row in rows
    ]
    out = [".. list-table::", "   :header-rows: 1", ""]
    for row in [head, *body]:
        for place, cell in enumerate(row):
            out.append(f"   {' ' if place else '*'} - {_inline(cell, public)}")
    return [*out, ""]


def _block(lines):
    """Code, or equations."""
    try:
        ast.parse("\n".join(lines))
        language = "python"
    except SyntaxError:
        language = "text"
    return ["", f".. code-block:: {language}", "", *(f"    {x}" for x in lines), ""]


def _inline(text, public):
    """A paragraph: names in backticks, and signs that mean nothing to reST."""
    out = ""
    pieces = re.split(r"`([^`]+)`", text)
    for place, piece in enumerate(pieces):
        if place % 2 == 0:
            out += re.sub(r"([\\*|`]|_(?!\w))", r"\\\1", piece)
            continue
        piece = " ".join(piece.split())
        out += "" if not out or out[-1] in " \n(" else "\\ "
        out += f":py:obj:`{piece}`" if piece in public else f"``{piece}``"
        follows = pieces[place + 1][:1]
        out += "" if not follows or follows in " \n,.:;)" else "\\ "
    return out


def page(module):
    """The page of a module, as reStructuredText."""
    name = module.__name__
    out = [name, "=" * len(name), "", *to_rst(module.__doc__), ""]
    found = members(module)
    called = [member for member, value in found.items() if callable(value)]
    if called:
        out += [".. autosummary::", "   :nosignatures:", ""]
        out += [f"   ~{name}.{member}" for member in called] + [""]
    for member, value in found.items():
        if callable(value):
            kind = "class" if inspect.isclass(value) else "function"
            out += [f".. auto{kind}:: {name}.{member}", ""]
        else:  # autodoc would describe its type
            shown = pprint.pformat(value, sort_dicts=False).split("\n")
            out += [f".. py:data:: {name}.{member}", ""]
            out += [f"    {line}" for line in _block(shown)]
    return "\n".join(out)
