"""Settings of applications.demo."""

import dataclasses
import functools

from applications.common.settings import Settings as Base
from applications.common.settings import field

_run = functools.partial(field, group="run")


@dataclasses.dataclass(frozen=True)
class Settings(Base):
    """The flags of applications.demo."""

    demo_dir: str = _run("demo_output", "Folder for everything it writes.")
    baseline_epochs: int = _run(12, "Of LeNet.", least=1)
    further_epochs: int = _run(5, "Of LR-LeNet and of LeNet.", least=1)
