"""Settings of applications.client."""

import dataclasses
import pathlib

from applications.common.settings import Settings as Base
from applications.common.settings import field

_SERVERS = {"rest": "http://localhost:8501", "grpc": "localhost:8500"}


@dataclasses.dataclass(frozen=True)
class Settings(Base):
    """The flags of applications.client."""

    images: tuple[str, ...] = field(
        (), "JPEG and PNG files, or one .npy file.", required=True
    )
    signature: str | None = field(None, "The endpoint, of a .npy file.")
    model: str | None = field(None, "The model's name there.", required=True)
    version: int | None = field(None, "By default the latest.", least=1)
    protocol: str = field("rest", "How to ask.", choices=tuple(_SERVERS))
    server: str | None = field(
        None, "Its address: http://localhost:8501 by default, for gRPC localhost:8500."
    )

    @property
    def paths(self):
        """The files of --images."""
        return [pathlib.Path(text) for text in self.images]

    @property
    def address(self):
        """--server, or where one usually is."""
        return self.server or _SERVERS[self.protocol]

    def check(self):
        """Refuses what is no file, and flags that would have no effect."""
        missing = [str(path) for path in self.paths if not path.is_file()]
        if missing:
            raise ValueError(f"--images must be files, got {', '.join(missing)}.")
        arrays = [path for path in self.paths if path.suffix == ".npy"]
        if not arrays:
            self.refuse(("signature",), "image files")
        elif len(self.images) > 1:
            raise ValueError(
                "--images must be one .npy file or image files, got "
                f"{len(self.images)} files, {arrays[0]} among them."
            )
