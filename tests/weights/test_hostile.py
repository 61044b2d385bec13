"""HDF5 files made to do harm, and contents that are not the model's."""

import json
import pathlib
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest

from kfeedback import CRCN, LRNet, weights
from kfeedback.models.backbones import LNIN, NIN, VGGSmall
from tests import harness
from tests.weights.common import dense_net, refused, reseal, rewrite

REPOSITORY = pathlib.Path(__file__).parents[2]


def _bomb(count):
    return lambda file, _: file.create_dataset("a/bias", (count,), "float32")


def _filter(number):
    def make(file, _):
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((3,))
        plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file["a"].id, b"bias", h5py.h5t.IEEE_F32LE, space, plist)

    return make


def _external_storage(file, folder):
    (folder / "raw").write_bytes(b"\0" * 12)
    external = [(str(folder / "raw"), 0, 12)]
    file.create_dataset("a/bias", (3,), "float32", external=external)


def _virtual(file, folder):
    layout = h5py.VirtualLayout((3,), "float32")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "a/bias", (3,))
    file.create_virtual_dataset("a/bias", layout)


def _link(make):
    def set_link(file, folder):
        file["a/bias"] = make(file, folder)

    return set_link


def _chunk_bomb(file, _):
    file.create_dataset(
        "a/bias", (3,), "float32", maxshape=(None,), chunks=(2**28,), compression=9
    )


HOSTILE = {
    "external link": _link(lambda f, d: h5py.ExternalLink(d / "other.h5", "/a/bias")),
    "soft link": _link(lambda f, d: h5py.SoftLink("/b/bias")),
    "cyclic soft link": _link(lambda f, d: h5py.SoftLink("/a/bias")),
    "cyclic hard link": _link(lambda f, d: f["/"]),
    "external storage": _external_storage,
    "virtual data set": _virtual,
    "foreign filter": _filter(32015),
    "lzf filter": _filter(32000),
    "1 MiB": _bomb(2**18),
    "1 GiB": _bomb(2**28),
    "48 TiB": _bomb(12 * 2**40),
    "chunks of 1 GiB": _chunk_bomb,
}

UNITS = 20_000  # of the bias whose shape is right in what follows
MIB = 2**20


def _deflated(mebibytes):
    stream = zlib.compressobj(1)
    parts = [stream.compress(b"\0" * MIB) for _ in range(mebibytes)]
    return b"".join(parts) + stream.flush()


def _chunk(data, filters=1, masked=0):
    """One chunk, of the right shape, whose bytes are `data`."""

    def make(file, _):
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((UNITS,))
        for _ in range(filters):
            plist.set_deflate(9)
        space = h5py.h5s.create_simple((UNITS,))
        kind = h5py.h5t.IEEE_F32LE
        made = h5py.h5d.create(file["a"].id, b"bias", kind, space, plist)
        made.write_direct_chunk((0,), data(), masked)

    return make


def _no_data(**kwargs):
    return lambda file, _: file.create_dataset("a/bias", (UNITS,), "float32", **kwargs)


def _some_data(file, _):
    made = file.create_dataset("a/bias", (UNITS,), "float32", chunks=(UNITS // 2,))
    made[:9] = 1


def _flood(file, _):
    for number in range(3_000):
        file.create_group(f"a/bias/{number}")


FITTING = {
    "deflate of 256 MiB": _chunk(lambda: _deflated(256)),
    "deflate of deflate": _chunk(lambda: zlib.compress(_deflated(256), 9), 2),
    "deflate of too little": _chunk(lambda: zlib.compress(b"\0" * 40)),
    "a short chunk": _chunk(lambda: b"\0" * 40, masked=1),
    "a chunk that is no deflate": _chunk(lambda: b"\0" * 40),
    "no data": _no_data(),
    "no chunk": _no_data(chunks=(UNITS // 2,)),
    "a chunk of two": _some_data,
    "3,000 groups": _flood,
}
"""What fits the model by its name and shape, and is no tensor."""

MEASURE = """
import json, resource, sys, time
from kfeedback import weights
from tests.weights.common import dense_net

model = dense_net(int(sys.argv[2]))
weights.save(model, sys.argv[1] + "/own.h5")
weights.load(model, sys.argv[1] + "/own.h5")
for path in sys.argv[3:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, error = time.perf_counter(), None
    try:
        weights.load(model, path)
    except ValueError as caught:
        error = str(caught)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([path, error, seconds, after - before]))
"""


@pytest.mark.parametrize(
    "kinds, units", [(HOSTILE, 3), pytest.param(FITTING, UNITS, marks=pytest.mark.slow)]
)
def test_hostile_files_cost_nothing(tmp_path, kinds, units):
    """Each as a file of ours, under a seal that is right, and as one of Keras."""
    assert len(HOSTILE) == 12
    model = dense_net(units)
    weights.save(model, tmp_path / "other.h5")
    paths = []
    for number, make in enumerate(kinds.values()):
        path = tmp_path / f"{number}.h5"
        weights.save(model, path)
        with h5py.File(path, "r+") as file:
            del file["a/bias"]
            make(file, tmp_path)
        reseal(path)
        plain = tmp_path / f"{number}_keras.h5"
        plain.write_bytes(path.read_bytes()[512:])
        with h5py.File(plain, "r") as file:
            assert "b" in file
        paths += [path, plain]
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path, str(units), *paths],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    rows = [json.loads(x) for x in result.stdout.splitlines() if x.startswith("[")]
    assert len(rows) == 2 * len(kinds)
    for path, error, seconds, kilobytes in rows:
        kind = list(kinds)[int(pathlib.Path(path).stem.split("_")[0])]
        assert error and error.startswith("weights "), (kind, error)
        assert "a/bias" in error or kind == "3,000 groups", (kind, error)
        assert seconds < 1, (kind, seconds)
        assert kilobytes < 64 * 1024, (kind, kilobytes)


def test_a_flood_of_text_is_not_read(tmp_path):
    """Attributes of strings that all stand for one long text."""
    path = tmp_path / "model.h5"
    weights.save(dense_net(), path)
    with h5py.File(path, "r+") as file:
        file.attrs["paper"] = "x" * 1000  # of variable length
    reseal(path)
    refused(dense_net(), path, "paper")


# --- Contents ------------------------------------------------------------------------


def _replace(name, data):
    def change(path):
        rewrite(path, name, data=data)

    return change


def _edit(function):
    def change(path):
        with h5py.File(path, "r+") as file:
            function(file)
        reseal(path)

    return change


def _transpose(file):
    file["b/kernel"][...] = file["b/kernel"][...].T


def _swap(file):
    for old, new in (("a", "x"), ("b", "a"), ("x", "b")):
        file.move(f"{old}/kernel", f"{new}/kernel")


def _missing(file):
    del file["a/bias"]


def _extra(file):
    file["c/kernel"] = np.zeros(3, "float32")


BAD = {
    "NaN": (_replace("a/bias", np.full(4, np.nan, "float32")), "finite"),
    "Inf": (_replace("a/bias", np.full(4, np.inf, "float32")), "finite"),
    "integers": (_replace("a/bias", np.arange(4)), "int64"),
    "strings": (_replace("a/bias", np.array([b"one"] * 4)), "a/bias"),
    "complex": (_replace("a/bias", np.ones(4, "complex64")), "complex64"),
    "transposed": (_edit(_transpose), "checksum"),
    "swapped": (_edit(_swap), "checksum"),
    "missing": (_edit(_missing), "missing from the file are ['a/bias']"),
    "extra": (_edit(_extra), "unknown to the model are ['c/kernel']"),
    "scalar": (_replace("a/bias", np.float32(1)), "shape ()"),
    "shape": (_replace("a/bias", np.ones((2, 2), "float32")), "shape (2, 2)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_contents_are_refused(tmp_path, name):
    def square():
        return harness.randomize(dense_net(4, classes=4))

    model, path = square(), tmp_path / "model.h5"
    weights.save(model, path)
    change, word = BAD[name]
    change(path)
    refused(model, path, word)


def test_other_arguments_are_refused(tmp_path):
    """Also where the backbones are equal: no tensor shows how it is read."""

    def make(module, timesteps=2, **kwargs):
        harness.fresh_names()
        backbone = VGGSmall(width=0.05, **kwargs)
        return CRCN(backbone, loops=[1], timesteps=timesteps, contextual_module=module)

    path = tmp_path / "crcn.h5"
    weights.save(make(1), path)
    refused(make(3), path, "another contextual_module")
    refused(make(1, dropout=0.5, batch_norm=False), path, "another backbone")
    weights.load(make(1, timesteps=3), path)
    # Names tell which layers are emphasized, however they were given.
    harness.fresh_names()
    weights.save(LRNet("lenet"), tmp_path / "lrnet.h5")
    weights.load(
        LRNet("lenet", emphasis_layers=["conv1", "conv2"]), tmp_path / "lrnet.h5"
    )
    # The backbone has no use for the module.
    harness.fresh_names()
    weights.load(VGGSmall(width=0.05), path, without_feedback=True)
    weights.load(make(3, timesteps=1), path, without_feedback=True)


def test_another_factory_is_refused(tmp_path):
    """Their tensors have the same names and shapes; only the slope differs."""
    path = tmp_path / "nin.h5"
    small = {"input_shape": (8, 8, 3)}
    weights.save(NIN(**small), path)
    harness.fresh_names()
    refused(LNIN(**small), path, "another factory", "LNIN", "NIN(")
    harness.fresh_names()
    refused(NIN(**small, negative_slope=0.2), path, "another negative_slope")
    harness.fresh_names()
    for model in (NIN(input_shape=(12, 12, 3), dropout=0.1),):
        weights.load(model, path)
