"""The flags that the programs which convert weights share."""

import dataclasses
from collections.abc import Mapping

from applications.common.settings import Settings, field


@dataclasses.dataclass(frozen=True)
class Conversion(Settings):
    """Of programs that convert a published file."""

    source: str | None = field(None, "The published file.", required=True)
    format: str | None = field(None, "What it is.", required=True)
    output: str | None = field(None, "The file to write.", required=True)
    kwargs: Mapping = field(dict, "The model's arguments.")

    def check(self):
        """Refuses weights, which the source has."""
        if "weights" in self.kwargs:
            raise ValueError(
                "--kwargs must be a JSON object without weights, got "
                f"{dict(self.kwargs)}."
            )
