"""The folder that a server watches: complete versions only, none ever changed."""

import contextlib
import hashlib
import json
import os
import pathlib
import random
import signal
import stat
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import kfeedback
from applications.common.bare_process import ask
from tests import harness
from tests.serving.common import tiny

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's affair"
)
ROOT = pathlib.Path(__file__).parents[2]
FILES = {
    *("saved_model.pb", "variables/variables.index", "assets.extra/README.md"),
    "variables/variables.data-00000-of-00001",
}

# Loads a version as soon as it sees it, as TF Serving does, until it sees `stop`.
POLLER = """
import json, os, sys, time
sys.modules["keras"] = sys.modules["kfeedback"] = None
import tensorflow as tf
base, seen, failed = sys.argv[1], [], []
print("ready", flush=True)
while True:
    stop = os.path.exists(os.path.join(base, "stop"))
    for name in os.listdir(base):
        if name.isdigit() and name not in seen:
            seen.append(name)
            try:
                serve = tf.saved_model.load(os.path.join(base, name)).signatures
                serve["serving_default"](images=tf.zeros([1, 4, 4, 1]))
                with open(os.path.join(base, name, "assets.extra", "README.md")) as f:
                    assert f.read().strip().endswith("|")
            except Exception as error:
                failed.append([name, repr(error)])
    if stop:
        break
    time.sleep(0.001)
print(json.dumps([seen, failed]))
"""

# For every line that it reads it exports in a child, whose number it prints.
EXPORTER = """
import os, sys
import keras
import kfeedback
from kfeedback.serving import _export  # so that no child must import it
from tests.serving.common import tiny
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        model = tiny()
        print("start", os.getpid(), flush=True)
        kfeedback.serving.export(model, sys.argv[1], warmup_batches=())
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("end", code, flush=True)
"""


def export(base, version=None, **kwargs):
    return kfeedback.serving.export(
        tiny(), base, version, signatures=[], warmup_batches=(), **kwargs
    )


def digest(folder):
    """What is in a folder, as one hash."""
    known = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        known.update(str(path.relative_to(folder)).encode())
        known.update(path.read_bytes() if path.is_file() else b"")
    return known.hexdigest()


def names(base):
    return sorted(path.name for path in base.iterdir())


def test_numbers_versions_refuses_known_ones_and_prunes(tmp_path):
    base = tmp_path / "deep" / "m"
    assert export(base).name == "1"
    first = digest(base / "1")
    with pytest.raises(ValueError) as error:
        export(base, 1)
    harness.assert_one_sentence(error.value, "version must be a new one")
    assert digest(base / "1") == first
    assert export(base, 9).name == "9"
    (base / "10").mkdir()  # also one of which nothing is known
    (base / "model.config").write_text("mine")
    assert export(base).name == "11"
    with pytest.raises(ValueError, match="has 1, 9, 10, 11 already, got 10"):
        export(base, 10)
    assert export(base, 5, keep=2).name == "5"
    assert names(base) == ["10", "11", "5", "model.config"]
    assert (base / "model.config").read_text() == "mine"


def test_prunes_links_files_and_numbers_with_zeros(tmp_path):
    base, elsewhere = tmp_path / "m", tmp_path / "elsewhere"
    base.mkdir()
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("")
    (base / "2").symlink_to(elsewhere)
    (base / "3").symlink_to(tmp_path / "nothing")
    (base / "4").write_text("")
    (base / "007").mkdir()
    (base / ".retired-1").symlink_to(elsewhere)
    with pytest.raises(ValueError, match="has 2, 3, 4, 7 already, got 7"):
        export(base, 7)
    assert export(base, keep=1).name == "8"
    assert names(base) == ["8", "model.config"]
    assert names(elsewhere) == ["mine"]


def test_the_name_is_that_of_the_folder(tmp_path):
    (tmp_path / "lrnet" / "old").mkdir(parents=True)
    (tmp_path / "link").symlink_to("lrnet")
    path = export(tmp_path / "lrnet" / "old" / "..")
    assert path == tmp_path / "lrnet" / "1"
    assert 'name: "lrnet"' in (path.parent / "model.config").read_text()
    assert export(tmp_path / "link") == tmp_path / "link" / "2"


def test_a_version_can_be_read_by_a_server_of_another_user(tmp_path):
    before = os.umask(0o022)
    try:
        path = export(tmp_path / "m")
    finally:
        os.umask(before)
    found = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    assert found >= FILES
    for item in (path, *path.rglob("*")):
        wanted = 0o755 if item.is_dir() else 0o644
        assert stat.S_IMODE(item.stat().st_mode) == wanted, item


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    synced, renamed = set(), []
    fsync, rename = os.fsync, os.rename

    def note_fsync(handle):
        synced.add(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def note_rename(source, target):
        if pathlib.Path(target).name == "1":
            wanted = {str(path) for path in (source, *pathlib.Path(source).rglob("*"))}
            renamed.append(wanted - synced)
            synced.clear()
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    path = export(tmp_path / "m")
    assert renamed == [set()], "what was not on the disk"
    assert str(path.parent) in synced, "the name itself"


def test_removes_what_a_killed_export_left(tmp_path):
    base = tmp_path / "m"
    (base / ".export-1" / "variables").mkdir(parents=True)
    (base / ".export-1" / "saved_model.pb").write_bytes(b"half of it")
    (base / ".retired-3").mkdir()
    (base / ".mine").mkdir()
    assert export(base).name == "1"
    assert names(base) == [".mine", "1", "model.config"]


def test_nothing_is_left_of_an_export_that_fails(tmp_path, monkeypatch):
    base = tmp_path / "m"
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        export(base)
    assert names(base) == []


def test_refuses_a_base_that_is_a_file(tmp_path):
    path = tmp_path / "m"
    path.write_text("")
    with pytest.raises(ValueError) as error:
        export(path)
    assert str(error.value).startswith("base_dir must be a folder")


def poll(base, work):
    """What a poller sees of `base` while `work()` runs: `(seen, failed)`."""
    base.mkdir()
    with subprocess.Popen(
        [sys.executable, "-I", "-c", POLLER, str(base)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as poller:
        try:
            assert poller.stdout.readline() == "ready\n"
            work()
        finally:
            (base / "stop").write_text("")
        return json.loads(poller.stdout.read())


@pytest.mark.slow
def test_a_poller_sees_50_complete_versions(tmp_path):
    base, digests = tmp_path / "m", {}

    def work():
        for _ in range(50):
            path = export(base)
            digests[path.name] = digest(path)

    seen, failed = poll(base, work)
    assert failed == []
    assert sorted(seen, key=int) == [str(n) for n in range(1, 51)]
    changed = [name for name, known in digests.items() if digest(base / name) != known]
    assert changed == [], "overwritten"


def exporter(base):
    return subprocess.Popen(
        [sys.executable, "-c", EXPORTER, str(base)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_exporters_at_once_make_versions_of_their_own(tmp_path):
    with exporter(tmp_path / "m") as one, exporter(tmp_path / "m") as two:
        for process in (one, two):
            process.stdin.write("\n" * 5)
            process.stdin.close()
        outputs = [process.stdout.read() for process in (one, two)]
    assert [text.count("end 0") for text in outputs] == [5, 5], outputs
    assert names(tmp_path / "m") == sorted([*map(str, range(1, 11)), "model.config"])


@pytest.mark.slow
def test_ten_kills_leave_no_version_that_does_not_load(tmp_path):
    base = tmp_path / "m"
    chance = random.Random(0)
    codes, unfinished = [], 0
    with exporter(base) as process:

        def start():
            process.stdin.write("\n")
            process.stdin.flush()
            return int(process.stdout.readline().removeprefix("start "))

        def end():
            codes.append(int(process.stdout.readline().removeprefix("end ")))

        start()
        began = time.monotonic()
        end()
        longest = time.monotonic() - began
        while codes.count(-signal.SIGKILL) < 10 and len(codes) < 40:
            number = start()
            time.sleep(chance.uniform(0, 1) * longest)
            with contextlib.suppress(ProcessLookupError):  # was done before
                os.kill(number, signal.SIGKILL)
            end()
            unfinished += any(x.name.startswith(".export") for x in base.iterdir())
        process.stdin.close()
    assert set(codes) <= {0, -signal.SIGKILL}, codes
    assert codes.count(-signal.SIGKILL) == 10 and unfinished >= 3, (codes, unfinished)
    versions = [path for path in base.iterdir() if path.name.isdigit()]
    assert len(versions) >= codes.count(0)
    images = np.zeros((1, 4, 4, 1), "float32")
    answers = ask([(path, "serving_default", {"images": images}) for path in versions])
    assert [answer.error for answer in answers] == [None] * len(versions)
    export(base)
    assert not [name for name in names(base) if name.startswith(".")]
