"""Settings of applications.robustness."""

import dataclasses
import functools

from applications.common.data import Data
from applications.common.settings import Output, field
from applications.robustness import sources
from kfeedback.corruptions import OCCLUDERS
from kfeedback.models import registry

ATTACKS = ("fgsm", "pgd")
CORRUPTIONS = ("noise", "occlusion", "blur", "contrast", "jpeg", *ATTACKS)

_models = functools.partial(field, group="models")
_severity = functools.partial(field, group="corruptions")
_tsne = functools.partial(field, group="t-SNE")


_REBUILT = " or ".join(
    name for name, one in registry.families().items() if sources.can_rebuild(one)
)


@dataclasses.dataclass(frozen=True)
class Settings(Output, Data):
    """The flags of applications.robustness."""

    RUN = "runs"
    FROM_RUN = ("dataset", "data_dir", "manual_dir", "train_split", "eval_split")
    FROM_RUN += ("classes", "image_size", "center_crop", "batch_size")

    runs: tuple[str, ...] = _models((), "Folders that applications.train wrote.")
    models: tuple[str, ...] = _models((), "Models that Keras can load: .keras files.")
    weights: tuple[str, ...] = _models(
        (), "Tags of kfeedback.list_weights, or files of their kind."
    )
    names: tuple[str, ...] = _models(
        (),
        "What rows and figures call the models, those of --runs first, then --models, "
        "then --weights; those of one name are one curve. By default the folder, the "
        "file or the tag.",
    )
    timesteps: tuple[int, ...] = _models(
        (),
        f"Predictions at test time, several for several curves: rebuilds a run of "
        f"{_REBUILT}, and --weights with timesteps.",
        least=1,
    )
    from_logits: bool = _models(False, "The models end in logits.")
    noise: tuple[float, ...] = _severity(
        (), "Standard deviations of Gaussian noise.", least=0, most=1e6
    )
    occlusion: tuple[float, ...] = _severity(
        (), "Hidden shares of the image, kept within 0.01.", above=0, below=1
    )
    blur: tuple[float, ...] = _severity(
        (), "Standard deviations of a Gaussian, in pixels.", least=0, most=100
    )
    contrast: tuple[float, ...] = _severity(
        (), "Factors on the distance to the mean.", least=0, most=1e6
    )
    jpeg: tuple[int, ...] = _severity((), "Qualities of JPEG files.", least=1, most=100)
    fgsm: tuple[float, ...] = _severity((), "Steps ε of FGSM.", least=0, most=255)
    pgd: tuple[float, ...] = _severity((), "Bounds ε of PGD.", least=0, most=255)
    occluder: str = _severity(
        "rectangles", "What hides a part.", choices=tuple(OCCLUDERS)
    )
    pgd_steps: int = _severity(10, "Steps of PGD.", least=1)
    pgd_step_share: float = _severity(0.25, "A step of PGD, as a share of ε.", above=0)
    seeds: tuple[int, ...] = _severity(
        (0,), "Seeds of what is random in a corruption.", least=0
    )
    tsne_layers: tuple[str, ...] = _tsne((), "Names of layers to draw by t-SNE.")
    tsne_noise: float = _tsne(30.0, "Noise of the second t-SNE figure.", above=0)
    tsne_examples: int = _tsne(1000, "Images of t-SNE.", least=10)

    @property
    def severities(self):
        """Dict from each corruption to its severities."""
        return {name: getattr(self, name) for name in CORRUPTIONS}

    @property
    def attacks(self):
        """The attacks that are asked for."""
        return [name for name in ATTACKS if getattr(self, name)]

    @functools.cached_property
    def sources(self):
        """List of a `Source` for each model."""
        return sources.find(self)

    def check(self):
        """Refuses flags that contradict others or would have no effect."""
        count = len(self.sources)
        if not count:
            raise ValueError("--runs, --models or --weights must be given, got none.")
        if self.names and len(self.names) != count:
            raise ValueError(
                f"--names must name each of the {count} models, got {len(self.names)} "
                "names."
            )
        if self.models:
            self.require_unfitted("--models")
        else:
            self.refuse(("preprocessing",), "no --models")
        if not self.seeds:
            raise ValueError("--seeds must hold one at least, got none.")
        for flag, needs in (
            ("occluder", "occlusion"),
            ("pgd_steps", "pgd"),
            ("pgd_step_share", "pgd"),
        ):
            if not getattr(self, needs):
                self.refuse((flag,), f"no --{needs}")
        if not self.tsne_layers:
            self.refuse(("tsne_noise", "tsne_examples"), "no --tsne_layers")
        if self.timesteps and not any(source.rebuild for source in self.sources):
            raise ValueError(
                f"--timesteps must be left out without a run of {_REBUILT} and "
                "without --weights with timesteps, got "
                f"{','.join(map(str, self.timesteps))}."
            )
