"""Weights that a flag names: a tag of `kfeedback.list_weights`, or a file."""

import contextlib
import dataclasses
import pathlib

from kfeedback import weights
from kfeedback.models import registry
from kfeedback.preprocessing import PREPROCESSING_MODES
from kfeedback.weights.registry import locate


@dataclasses.dataclass(frozen=True)
class Published:
    """What is known of weights before their network is built.

    Attributes:
        flag: that names them.
        place: the tag or the path that it gives.
        path: of the file.
        about: its attributes, see `kfeedback.weights.ABOUT`.
    """

    flag: str
    place: str
    path: pathlib.Path
    about: dict

    @property
    def name(self):
        """The tag, the name of the file, or of the run whose `weights.h5` it is."""
        path = pathlib.Path(self.place)
        if path.name == "weights.h5":
            return path.resolve().parent.name
        return path.stem

    @property
    def arguments(self):
        """Dict of the arguments of the factory."""
        return self.about.get("arguments") or {}

    @property
    def has_timesteps(self):
        """Whether the network can look several times."""
        return "timesteps" in self.arguments

    @property
    def preprocessing(self):
        """Mode of `preprocess_input` that the network was trained with.

        Raises:
            ValueError: if the file names none.
        """
        mode = self.about.get("preprocessing")
        if mode not in PREPROCESSING_MODES:
            raise ValueError(
                f"--{self.flag} must be weights that say one of the modes of "
                f"preprocessing {', '.join(PREPROCESSING_MODES)}, got '{self.place}', "
                f"which say {mode!r}."
            )
        return mode

    def load(self, *, all_looks=False, **arguments):
        """The network with its weights, a `keras.Model`.

        Args:
            all_looks: bool, whether to give the predictions of all timesteps, where
                there are several.
            **arguments: of the factory, instead of those of the file.
        """
        given = {**self.arguments, **arguments}
        if all_looks and self.has_timesteps:
            given["return_sequences"] = True
        with named(self.flag, self.place):
            network = registry.build({**self.about, "arguments": given})
            registry.load_weights(network, self.path)
        return network


def find(flag, place):
    """The `Published` of a tag or a path that a flag gives."""
    with named(flag, place):
        path = locate(place)
        return Published(flag, place, path, weights.describe(path)["about"])


@contextlib.contextmanager
def named(flag, place):
    """Says of an error which flag it comes from."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"--{flag}={place}: {error}") from error
