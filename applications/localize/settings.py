"""Settings of applications.localize."""

import dataclasses
import functools
import inspect
import pathlib
from collections.abc import Mapping

from applications.common import runs
from applications.common.data import Dataset
from applications.common.models import only_numbers
from applications.common.settings import Experiment, field
from kfeedback import explain
from kfeedback.datasets.arguments import split_bounds
from kfeedback.explain import second_look

_model = functools.partial(field, group="model")
_method = functools.partial(field, group="methods")
_METHODS = tuple(explain.list_methods())
_COMPARED = ("deconvnet", "feedback", "grad_cam", "gradient", "guided_backpropagation")
_LOOP = ("iterations", "step_size", "sparsity", "update_rule", "start", "normalize")
_LOOP += ("gate_layers", "objective", "readout", "smoothing")
_LOOK = ("look_energy", "margin", "square", "combine")


def _of(function, group):
    """Makes fields out of arguments of a function, with their defaults."""
    arguments = inspect.signature(function).parameters

    def make(name, text, **limits):
        return field(arguments[name].default, text, group=group, **limits)

    return make


def _share(one, other):
    """Whether two splits share images, as far as their names tell."""
    counts = {part.split("[")[0]: 10**9 for part in f"{one}+{other}".split("+")}
    try:
        parts, others = (
            [split_bounds(part, counts) for part in split.split("+")]
            for split in (one, other)
        )
    except ValueError:  # of a form that other data sets know
        return one == other
    return any(
        name == named and start < end and first < stop
        for name, start, stop in parts
        for named, first, end in others
    )


_loop = _of(explain.Feedback, "loop of the feedback")
_look = _of(second_look.look_twice, "second look")


@dataclasses.dataclass(frozen=True)
class Settings(Experiment, Dataset):
    """The flags of applications.localize."""

    FROM_RUN = ("dataset", "preprocessing", "data_dir", "image_size", "center_crop")

    run: str | None = _model(
        None, "Folder that applications.train wrote; this or --model is given."
    )
    model: str | None = _model(
        None, "A classifier that Keras can load, a .keras file; this or --run is given."
    )
    class_names: tuple[str, ...] = _model(
        (),
        "A name per class of the model, for a folder, by default those of --run; or a "
        "file, a name a line.",
    )
    methods: tuple[str, ...] = _method(
        _COMPARED, "The saliency methods to compare.", choices=_METHODS
    )
    method_args: Mapping = _method(
        dict, "Arguments of methods: a JSON object from each name to its own."
    )
    examples: int = _method(1000, "Images of --eval_split.", least=1)
    tuning_split: str = _method("train", "The examples to choose thresholds on.")
    tuning_examples: int = _method(500, "Images to tune on.", least=1)
    collages: int = _method(
        0, "Scenes of four images of --eval_split, each asked for in turn.", least=0
    )
    iterations: int = _loop("iterations", "How many updates of the gates.", least=1)
    step_size: float = _loop(
        "step_size", "α, the size of a step of the gates.", above=0
    )
    sparsity: float | None = _loop(
        "sparsity",
        "λ, what an open gate costs; by default it follows the pixels.",
        least=0,
    )
    update_rule: str = _loop(
        "update_rule", "How the gates are updated.", choices=explain.UPDATE_RULES
    )
    start: str = _loop("start", "Where the gates start.", choices=explain.STARTS)
    normalize: bool = _loop("normalize", "Gradients as a share of a layer's largest.")
    objective: str = _loop(
        "objective", "What the gates maximize.", choices=explain.OBJECTIVES
    )
    readout: str = _loop(
        "readout", "What becomes of the gates a map.", choices=explain.READOUTS
    )
    smoothing: float = _loop(
        "smoothing", "Deviation of a Gaussian, as a share of the side.", least=0, most=1
    )
    gate_layers: tuple[str, ...] = field(
        (), "Layers with gates; every ReLU by default.", group="loop of the feedback"
    )
    look_energy: float = _look(
        "energy", "Share of a map's energy that is cut out.", above=0, most=1
    )
    margin: float = _look("margin", "Added to a box for the second look.", least=0)
    square: bool = _look("square", "Cut out squares instead of boxes.")
    combine: str = _look(
        "combine",
        "Of all looks or of the crops alone (the paper's) the best pairs of class and "
        "confidence, or the mean of all looks.",
        choices=second_look.COMBINATIONS,
    )
    top: int = _look("top", "Classes and boxes of a second look; 0 for none.", least=0)
    gallery: int = field(
        6,
        "Images on the page, half of them missed, as far as there are; 0 for no page.",
        least=0,
        group="output",
    )

    def check(self):
        """Refuses flags that contradict one another or would have no effect."""
        super().check()
        if "feedback" not in self.methods:
            self.refuse(_LOOP, "no feedback among --methods")
        if not self.top:
            self.refuse(_LOOK, "--top=0")
        if _share(self.tuning_split, self.eval_split):
            raise ValueError(
                "--tuning_split must share no images with --eval_split, so that "
                "thresholds are not chosen on what is measured, got "
                f"{self.tuning_split} and {self.eval_split}."
            )
        stray = sorted(set(self.method_args) - set(self.methods))
        if stray:
            raise ValueError(
                f"--method_args must be of methods among --methods, got {stray[0]!r}."
            )
        self.require_one(("run", "model"))
        if self.model is not None:
            self.require_unfitted("--model")

    def names(self):
        """The names of --class_names, else those of --run, or `None`."""
        if len(self.class_names) == 1 and pathlib.Path(self.class_names[0]).is_file():
            text = pathlib.Path(self.class_names[0]).read_text("utf-8")
            return [line.strip() for line in text.splitlines() if line.strip()]
        if self.class_names or self.run is None:
            return list(self.class_names) or None
        known = runs.read("run", self.run)["class_names"] or ()
        return None if only_numbers(known) else list(known)

    @property
    def first(self):
        """The method that says which images go well, which badly: feedback, if any."""
        return "feedback" if "feedback" in self.methods else self.methods[0]

    def method(self, name):
        """A saliency method of `kfeedback.explain`, with what the flags say of it."""
        found = {}
        if name == "feedback":
            found = {flag: getattr(self, flag) for flag in _LOOP}
            found["gate_layers"] = list(self.gate_layers) or None
        try:
            return explain.get_method(name, **found | self.method_args.get(name, {}))
        except (TypeError, ValueError) as error:
            raise ValueError(f"--method_args must suit {name}: {error}") from error

    def look_twice(self, explainer, originals, size):
        """`Explainer.look_twice` as the flags say."""
        return explainer.look_twice(
            originals,
            top=self.top,
            energy=self.look_energy,
            margin=self.margin,
            square=self.square,
            combine=self.combine,
            size=size,
        )
