"""The folder that TF Serving watches: every version complete, none ever overwritten.

TF Serving loads each folder whose name is a whole number, as soon as it sees it. So a
version is written under another name and renamed when all of it is on the disk. One
exporter at a time works in a base folder; it holds a lock that the system releases
when its process ends, however it ends. What is found under the other name is therefore
the remains of an export that was broken off.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil

from kfeedback import checks

_UNFINISHED = ".export-"  # never a version
_RETIRED = ".retired-"
_HIGHEST = 2**63 - 1  # TF Serving overlooks higher ones


@contextlib.contextmanager
def locked(base):
    """Makes a base folder, or waits for the exporter that works in it."""
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"base_dir must be a folder or a place for one, got '{base}' ({error})."
        ) from error
    folder = os.open(base, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        _remove_remains(base)
        yield
    finally:
        os.close(folder)


def versions(base):
    """The numbers of what TF Serving takes for versions, in order."""
    if not base.is_dir():
        return []
    return sorted(int(x.name) for x in base.iterdir() if _is_version(x.name))


def choose(base, version):
    """The number of a new version: the given one, or the one behind the highest."""
    known = versions(base)
    if version is None:
        version = known[-1] + 1 if known else 1
    check_version(version)
    if version in known:
        raise ValueError(
            f"version must be a new one in '{base}', which has "
            f"{', '.join(map(str, known))} already, got {version}."
        )
    return version


def check_version(version):
    """Checks the argument `version`."""
    if checks.integer("version", version) > _HIGHEST:
        raise ValueError(f"version must be at most {_HIGHEST}, got {version}.")


@contextlib.contextmanager
def written(base, version):
    """Gives a folder to write; at the end it is on the disk under the version's name.

    After an error there is neither.
    """
    folder = base / f"{_UNFINISHED}{version}"
    folder.mkdir()
    try:
        yield folder
        for path in (*folder.rglob("*"), folder):
            _to_disk(path)
        # Other programs know no lock; on a folder with files in it a rename fails.
        os.rename(folder, base / str(version))
        _to_disk(base)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def prune(base, keep, new):
    """Removes all versions but the highest `keep` and the new one."""
    known = [path for path in base.iterdir() if _is_version(path.name)]
    for path in sorted(known, key=lambda path: int(path.name))[:-keep]:
        if int(path.name) != new:
            retired = base / f"{_RETIRED}{path.name}"
            os.rename(path, retired)
            _remove(retired)


def write_file(path, text):
    """Writes a file so that readers see all of it or none."""
    path = pathlib.Path(path)
    draft = path.with_name(f"{_UNFINISHED}{path.name}")
    draft.write_text(text, encoding="utf-8")
    _to_disk(draft)
    os.replace(draft, path)


def _is_version(name):
    return name.isascii() and name.isdigit()


def _remove_remains(base):
    for path in base.iterdir():
        if path.name.startswith((_UNFINISHED, _RETIRED)):
            _remove(path)


def _remove(path):
    """Removes a folder with all that is in it, or a file, or a link and no more."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _to_disk(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
