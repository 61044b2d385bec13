"""Two threads in HDF5 at once crash it, so h5py's lock is held at every call."""

import sys
import threading

import h5py
import numpy as np
from h5py._objects import phil

from kfeedback import weights
from kfeedback.weights import _hdf5
from tests.weights.common import lrnet


def test_one_thread_of_a_loading_calls_hdf5(tmp_path):
    model, path = lrnet(), tmp_path / "model.h5"
    weights.save(model, path)
    callers, others = set(), set()

    def look(frame, event, function):
        if event == "call":
            of_h5py = frame.f_globals.get("__name__", "").startswith("h5py")
        else:
            of_h5py = (getattr(function, "__module__", "") or "").startswith("h5py")
        thread = threading.current_thread().name
        (callers if of_h5py else others).add(thread)

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        weights.load(model, path)
    finally:
        threading.setprofile(None)
        sys.setprofile(None)
    assert callers == {threading.current_thread().name}
    assert others > callers  # checksums are computed in threads of their own


def test_chunks_are_read_with_the_lock(tmp_path, monkeypatch):
    held = []

    def look():
        free = phil.acquire(False)
        held.append(not free)
        if free:
            phil.release()

    class Id:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def read_direct_chunk(self, *arguments):
            # The lock is this thread's own: only another one can tell.
            other = threading.Thread(target=look)
            other.start()
            other.join()
            return self.real.read_direct_chunk(*arguments)

    with h5py.File(tmp_path / "file.h5", "w") as file:
        item = file.create_dataset("a", data=np.arange(9.0), chunks=(3,))
        monkeypatch.setattr(item, "_id", Id(item.id))
        _hdf5._check_chunks(item)
    assert held == [True] * 3
