"""The folder of a training run."""

import json
import pathlib

from kfeedback import renamed


def read(flag, folder):
    """What applications.train wrote of a run.

    Args:
        flag: the flag that the folder comes from, for the errors.
        folder: of the run.

    Returns:
        dict with `flags`, a dict in today's names, `class_names`, `commit` and
        `policy`, of the types in which it computes, which runs of earlier versions may
        lack.
    """
    path = pathlib.Path(folder, "run.json")
    if not path.is_file():
        raise ValueError(
            f"--{flag} must be a folder that applications.train wrote, got '{folder}'."
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        flags = found["flags"] | {}
        for name in ("model_args", "backbone_args"):
            if isinstance(flags.get(name), str):
                flags[name] = json.loads(flags[name] or "{}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"--{flag} must be a folder that applications.train wrote, got {folder}, "
            f"whose run.json holds no flags ({error})."
        ) from error
    errors = found.get("errors", [])
    are_numbers = isinstance(errors, list) and all(
        isinstance(error, int | float) for error in errors
    )
    if not are_numbers:
        raise ValueError(
            f"--{flag} must be a folder that applications.train wrote, got {folder}, "
            f"whose run.json holds errors that are no numbers: {errors!r}."
        )
    known = {name: found.get(name) for name in ("class_names", "commit", "policy")}
    return {"flags": renamed.current(flags), **known}
