"""Settings of applications.localize."""

import dataclasses
import functools

from applications.common.data import Dataset
from applications.common.settings import Experiment, field
from kfeedback import explain

_model = functools.partial(field, group="model")
_method = functools.partial(field, group="methods")
_loop = functools.partial(field, group="loop of the feedback")
_look = functools.partial(field, group="second look")
_METHODS = tuple(explain.list_methods())


@dataclasses.dataclass(frozen=True)
class Settings(Experiment, Dataset):
    """The flags of applications.localize."""

    FROM_RUN = ("dataset", "preprocessing", "data_dir", "image_size")

    run: str | None = _model(None, "Folder that applications.train wrote; or")
    model: str | None = _model(None, "a classifier that Keras can load: a .keras file.")
    class_names: tuple[str, ...] = _model(
        (), "A name per class of the model, for a folder."
    )
    methods: tuple[str, ...] = _method(_METHODS, "What to compare.", choices=_METHODS)
    examples: int = _method(1000, "Images of --eval_split.", least=1)
    tuning_split: str = _method("train", "The examples to choose thresholds on.")
    tuning_examples: int = _method(500, "Images to tune on.", least=1)
    iterations: int = _loop(10, "How often the gates are updated.", least=1)
    step_size: float = _loop(0.1, "α.", above=0)
    sparsity: float = _loop(0.02, "λ.", least=0)
    update_rule: str = _loop(
        explain.UPDATE_RULES[0], "How they are.", choices=explain.UPDATE_RULES
    )
    start: str = _loop("half", "Where the gates start.", choices=explain.STARTS)
    normalize: bool = _loop(True, "Gradients as a share of a layer's largest.")
    gate_layers: tuple[str, ...] = _loop(
        (), "Layers with gates; every ReLU by default."
    )
    look_energy: float = _look(0.95, "In the boxes of it.", above=0, most=1)
    margin: float = _look(0.25, "Added to a box for the second look.", least=0)
    square: bool = _look(True, "Squares for the second look.")
    top: int = _look(5, "Classes and boxes of a second look.", least=1)
    gallery: int = field(
        6, "Images on the page; 0 for no page and gallery.", least=0, group="output"
    )

    def check(self):
        """Refuses flags that contradict one another."""
        if (self.run is None) == (self.model is None):
            raise ValueError(
                f"--run or --model must be given, one of them, got {self.run!r} and "
                f"{self.model!r}."
            )
        if self.model is not None:
            self.require_unfitted("--model")

    def method(self, name):
        """A saliency method of `kfeedback.explain`, with what the flags say of it."""
        takes = explain.get_method(name).get_config()
        found = {k: getattr(self, k) for k in takes if k in self.flags()}
        if "gate_layers" in found:
            found["gate_layers"] = list(self.gate_layers) or None
        return explain.get_method(name, **found)

    def look_twice(self, explainer, originals, size):
        """`Explainer.look_twice` as the flags say."""
        return explainer.look_twice(
            originals,
            top=self.top,
            energy=self.look_energy,
            margin=self.margin,
            square=self.square,
            size=size,
        )
