"""The house: which room may import which, read from the sources."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# From the ground up. A room imports itself and what stands in a line above its own.
FLOORS = (
    ("version", "checks", "renamed", "registry"),
    ("images", "backend"),
    ("graph", "corruptions", "losses", "preprocessing"),
    ("layers", "metrics", "datasets"),
    ("classifier",),
    ("weights",),
    ("explain",),
    ("models",),
    ("attacks", "early_exit"),
    ("serving",),
    ("kfeedback",),  # its __init__.py
    ("applications",),
    ("tools",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Layers are for everybody: of ours they know the checks and the old names of configs.
LAYERS_KNOW = {"layers", "checks", "renamed"}

PROTECTED = re.compile(
    r"\b(_keras_history|_inbound_nodes|_nodes_by_depth|_run_through_graph|_nodes"
    r"|_flatten_layers|_call_has_training_arg|_layers|_losses|_metrics"
    r"|_trainable_variables|_model_variables_moving_average)\b"
)


def sources():
    """`(module, path)` of every source file, the module as a list of names."""
    for folder in ("kfeedback", "applications", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            yield parts[:-1] if parts[-1] == "__init__" else parts, path


MODULES = {".".join(module): path for module, path in sources()}


def imports(module, path):
    """`(line, imported module, imported name or "")` of every import of ours."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            found = [(base, alias.name) for alias in node.names]
        else:
            continue
        for name, what in found:
            if name.partition(".")[0] in ("kfeedback", "applications", "tools"):
                if f"{name}.{what}" in MODULES:  # a module, not a name in one
                    name, what = f"{name}.{what}", ""
                yield node.lineno, name, what


def room(module):
    """The room of a dotted module."""
    parts = module.split(".")
    if parts[0] != "kfeedback":
        return parts[0]
    name = parts[1] if len(parts) > 1 else "kfeedback"
    return {"_version": "version"}.get(name, name)


def package(module):
    """What shares underscored names: a room, a program, or all the tools."""
    parts = module.split(".")
    return ".".join(parts[: 1 if parts[0] == "tools" else 2])


def test_every_room_is_known():
    assert {room(module) for module in MODULES} <= set(FLOOR)


def test_imports_run_downwards():
    wrong = []
    for module, path in MODULES.items():
        for line, name, _ in imports(module, path):
            mine, theirs = room(module), room(name)
            fine = mine == theirs or FLOOR[theirs] < FLOOR[mine]
            if mine == "layers":
                fine = theirs in LAYERS_KNOW
            if not fine:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {mine} → {theirs}")
    assert not wrong, "\n".join(wrong)


def test_no_underscored_name_of_another_package():
    wrong = []
    for module, path in MODULES.items():
        for line, name, what in imports(module, path):
            parts = [*name.split("."), *filter(None, [what])]
            hidden = [p for p in parts if p.startswith("_") and not p.startswith("__")]
            if hidden and package(name) != package(module) and hidden != ["_version"]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {'.'.join(parts)}")
    assert not wrong, "\n".join(wrong)


def test_no_circle():
    """Of modules, by the imports that run when one is imported."""
    arrows = {
        module: {
            name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for line, name, _ in imports(module, path)
            if line == node.lineno and name in MODULES and name != module
        }
        for module, path in MODULES.items()
    }
    done, path = set(), []

    def visit(module):
        if module in path:
            circle = [*path[path.index(module) :], module]
            pytest.fail("a circle: " + " → ".join(circle))
        if module not in done:
            path.append(module)
            for other in sorted(arrows[module]):
                visit(other)
            done.add(path.pop())

    for module in sorted(arrows):
        visit(module)


def test_a_program_imports_no_other():
    wrong = []
    for module, path in MODULES.items():
        if module.startswith("applications.") and module != "applications.common":
            for line, name, _ in imports(module, path):
                others = package(name) not in (package(module), "applications.common")
                if name.startswith("applications.") and others:
                    wrong.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    assert not wrong, "\n".join(wrong)


def test_protected_names_of_keras_stand_in_one_file():
    home = ROOT / "kfeedback" / "graph" / "keras_internals.py"
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in MODULES.values()
        if path != home
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for match in PROTECTED.finditer(line)
        if not re.search(rf"\b(self|cls)\.{match[1]}\b", line)
    ]
    assert not found, "\n".join(found)


def test_files_are_rooms_not_halls():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in [*MODULES.values(), *(ROOT / "tests").rglob("*.py")]
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long
