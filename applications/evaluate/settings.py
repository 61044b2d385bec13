"""Settings of applications.evaluate."""

import dataclasses
import functools

from applications.common.data import Data
from applications.common.settings import field

_run = functools.partial(field, group="run")
_exit = functools.partial(field, group="early exit")


@dataclasses.dataclass(frozen=True)
class Settings(Data):
    """The flags of applications.evaluate."""

    FROM_RUN = tuple(Data.flags().keys() - {"config", "traceback"})

    run: str | None = _run(None, "Folder that applications.train wrote.", required=True)
    figures: bool = _run(False, "Draw the figures of the model's paper.")
    flip_average: bool = _run(False, "Mean posterior of image and mirror image.")
    early_exit: bool = _exit(False, "Measure stopping as soon as it is sure.")
    exit_loss: float = _exit(
        0.2, "Points of accuracy that early exit may cost.", least=0
    )
    exit_batch_size: int = _exit(256, "Images that start together.", least=1)
    exit_results: str | None = _exit(None, "CSV file that gets a row of --early_exit.")

    def check(self):
        """Refuses flags that would have no effect."""
        if self.early_exit:
            self.refuse(("flip_average",), "--early_exit")
        else:
            exits = ("exit_loss", "exit_batch_size", "exit_results")
            self.refuse(exits, "no --early_exit")
