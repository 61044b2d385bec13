"""Settings of applications.transfer."""

import dataclasses
import functools

from applications.common.optimization import Training
from applications.common.settings import changed, field

NETWORKS = ("head", "finetune", "scratch")
CLASSIFIERS = ("forest", "logistic")
METHODS = ("head", "finetune", *CLASSIFIERS, "scratch")

_method = functools.partial(field, group="methods")
_ONLY = {
    ("fit_iterations",): CLASSIFIERS,
    ("finetune_lr",): ("finetune",),
    ("finetune_epochs",): ("finetune", "scratch"),
    ("scratch_epochs",): ("scratch",),
    ("flip", "shift", "random_crop", "augment"): ("finetune", "scratch"),
    (*Training.of("optimization"), "jit"): NETWORKS,
    ("head_units", "head_dropout", "epochs"): NETWORKS,
}


@dataclasses.dataclass(frozen=True)
class Settings(Training):
    """The flags of applications.transfer."""

    FROM_RUN = ("preprocessing", "image_size", "batch_size", "discount")
    FROM_RUN += ("data_dir", "manual_dir", "center_crop")

    dataset: str | None = changed(Training, "dataset", None, required=True)
    optimizer: str = changed(Training, "optimizer", "adam")
    lr: float = changed(Training, "lr", 0.001)
    weight_decay: float = changed(Training, "weight_decay", 0.0)
    run: str | None = _method(
        None, "Folder that applications.train wrote.", required=True
    )
    methods: tuple[str, ...] = _method(METHODS, "What to compare.", choices=METHODS)
    embedding_layer: str = _method(
        "embedding",
        "The layer, called once an iteration, whose outputs are the embeddings.",
    )
    fit_iterations: tuple[str, ...] = _method(
        (),
        "What forest and logistic are fitted on, each in turn: numbers of iterations "
        "from 1, or all; by default each and all.",
    )
    head_units: int = _method(256, "Of the head's first layer.", least=1)
    head_dropout: float = _method(
        0.5, "Dropped before both layers of the head.", least=0, below=1
    )
    epochs: int = _method(5, "Of head.", least=1)
    finetune_epochs: int = _method(5, "Of finetune, after those of head.", least=1)
    finetune_lr: float | None = _method(
        None, "Of finetune; by default a tenth of --lr.", above=0
    )
    scratch_epochs: int | None = _method(
        None,
        "Of scratch; by default as many as head and finetune have together.",
        least=1,
    )
    figures: bool = field(True, "Draw the figures of the paper.", group="output")

    def check(self):
        """Refuses flags that contradict others or would have no effect."""
        super().check()
        for names, users in _ONLY.items():
            if not {*users} & {*self.methods}:
                self.refuse(names, f"--methods={','.join(self.methods)}")
