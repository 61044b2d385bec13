"""The way of an image through FeedbackCNN.saliency: few modules, one way in."""

import sys

import numpy as np

import kfeedback
from tests.explain import common


class Walk:
    """Records which module of kfeedback calls which, while it is on.

    A package is one module, but for kfeedback itself, explain and models. A call into a
    module that is on the way already, as a function given to it, enters nothing.

    Attributes:
        entries: set of pairs of a module and the one that it enters.
    """

    def __init__(self):
        self.entries, self._way = set(), []

    def __enter__(self):
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _note(self, frame, event, _):
        if event == "call":
            name = _module(frame)
            if name and name not in self._way and self._way:
                self.entries.add((self._way[-1], name))
            if name:
                self._way.append(name)
        elif event == "return" and _module(frame):
            self._way.pop()


def _module(frame):
    parts = frame.f_globals.get("__name__", "").split(".")
    if parts[0] != "kfeedback" or parts[1:] == ["checks"]:
        return None
    split = len(parts) > 1 and parts[1] in ("explain", "models")
    return ".".join(parts[: 3 if split else 2])


def test_an_image_enters_five_modules_and_none_from_two_others():
    model, _ = common.three_layers()
    network, images = kfeedback.FeedbackCNN(model, iterations=2), common.images()
    with Walk() as walk:  # the function is traced
        maps = network.saliency(images)
    with Walk() as again:  # it runs
        np.testing.assert_array_equal(network.saliency(images), maps)
    names = (
        "explain.explainer",
        "backend",
        "explain.methods",
        "explain.network",
        "graph",
    )
    entered = [name for _, name in walk.entries]
    assert sorted(entered) == sorted(f"kfeedback.{name}" for name in names)
    assert len(entered) <= 5 and len(set(entered)) == len(entered)
    assert again.entries and again.entries <= walk.entries
