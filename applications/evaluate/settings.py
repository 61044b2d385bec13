"""Settings of applications.evaluate."""

import dataclasses
import functools

from applications.common.data import Data
from applications.common.settings import field

_network = functools.partial(field, group="network")
_exit = functools.partial(field, group="early exit")


@dataclasses.dataclass(frozen=True)
class Settings(Data):
    """The flags of applications.evaluate."""

    FROM_RUN = tuple(Data.flags().keys() - {"config", "traceback"})
    SOURCES = ("run", "weights")

    run: str | None = _network(
        None,
        "Folder that applications.train wrote; one of --run and --weights is given.",
    )
    weights: str | None = _network(
        None, "A tag of kfeedback.list_weights, or a file of its kind."
    )
    output_dir: str | None = _network(
        None, "Folder of what is written; by default that of --run."
    )
    figures: bool = _network(False, "Draw the figures of the model's paper.")
    flip_average: bool = _network(False, "Mean posterior of image and mirror image.")
    early_exit: bool = _exit(
        False,
        "Measure early exit: an image stops at the timestep where the model is sure.",
    )
    exit_loss: float = _exit(
        0.2, "Points of accuracy that early exit may cost.", least=0
    )
    exit_batch_size: int = _exit(256, "Images that start together.", least=1)
    exit_results: str | None = _exit(None, "CSV file that gets a row of --early_exit.")

    @property
    def source(self):
        """Which of the flags that name a network is given."""
        return self.require_one(self.SOURCES)

    def check(self):
        """Refuses flags that contradict others or would have no effect."""
        if self.source == "weights":
            self.refuse(("preprocessing",), "--weights")
            if not self.output_dir:
                raise ValueError("--output_dir must be given with --weights, got none.")
        if self.figures:  # of posteriors that the network itself never feeds back
            self.refuse(("flip_average",), "--figures")
        if self.early_exit:
            self.refuse(("flip_average",), "--early_exit")
        else:
            exits = ("exit_loss", "exit_batch_size", "exit_results")
            self.refuse(exits, "no --early_exit")
