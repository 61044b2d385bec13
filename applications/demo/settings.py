"""Settings of applications.demo."""

import dataclasses

from applications.common.settings import Settings as Base
from applications.common.settings import field


@dataclasses.dataclass(frozen=True)
class Settings(Base):
    """The flags of applications.demo."""

    demo_dir: str = field("demo_output", "Folder for everything it writes.")
    baseline_epochs: int = field(12, "Of LeNet.", least=1)
    further_epochs: int = field(5, "Of LR-LeNet and of LeNet.", least=1)
    show: bool = field(True, "Open the page, where there is a display.")
