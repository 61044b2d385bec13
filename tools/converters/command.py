"""The flags that the programs which convert weights share."""

import dataclasses
import functools
from collections.abc import Mapping

from applications.common.settings import Settings, field

_convert = functools.partial(field, group="conversion")


@dataclasses.dataclass(frozen=True)
class Conversion(Settings):
    """Of programs that convert a published file."""

    source: str | None = _convert(None, "The published file.", required=True)
    format: str | None = _convert(None, "What it is.", required=True)
    output: str | None = _convert(None, "The file to write.", required=True)
    kwargs: Mapping = _convert(dict, "The model's arguments.")

    def check(self):
        """Refuses weights, which the source has."""
        if "weights" in self.kwargs:
            raise ValueError(
                "--kwargs must be a JSON object without weights, got "
                f"{dict(self.kwargs)}."
            )
