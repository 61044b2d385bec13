"""Settings of applications.export."""

import dataclasses
import functools

from applications.common.data import Preprocessing
from applications.common.settings import changed, field

_model = functools.partial(field, group="model")
_version = functools.partial(field, group="saved model")
_output = functools.partial(field, group="output")

_OF_A_SAVED_MODEL = ("version", "keep", "signatures", "top")
_OF_A_SAVED_MODEL += ("crop_fraction", "jit_compile")
_OF_A_SAVED_MODEL += ("warmup_batches", "class_names", "preprocessing")


@dataclasses.dataclass(frozen=True)
class Settings(Preprocessing):
    """The flags of applications.export."""

    SOURCES = ("run", "keras_model", "weights")

    run: str | None = _model(None, "Folder that applications.train wrote, or")
    keras_model: str | None = _model(None, "a .keras file; or")
    weights: str | None = _model(
        None, "a tag of kfeedback.list_weights, or a file of its kind."
    )
    preprocessing: str | None = changed(Preprocessing, "preprocessing", None)
    class_names: tuple[str, ...] = _model((), "A name per class, for --keras_model.")
    output_dir: str | None = _output(
        None, "Folder of all versions of this model.", required=True
    )
    format: str = _output(
        "saved_model",
        "What to write.",
        choices=("saved_model", "litert", "onnx", "openvino"),
    )
    calibration: str | None = _output(
        None,
        "A .npy file of some hundred images, floats that are prepared as the model "
        "takes them: an OpenVINO file then computes in int8.",
    )
    exit_threshold: float | None = _output(
        None,
        "Probability at which early_exit stops, by default that of "
        "kfeedback.serving.export; an OpenVINO file stops early where it is given.",
        above=0,
        most=1,
    )
    from_logits: bool = _output(
        False,
        "The model gives logits of a softmax; an OpenVINO file has to know it where it "
        "stops early.",
    )
    version: int | None = _version(
        None, "By default one more than the highest.", least=1
    )
    keep: int | None = _version(
        None, "Keep so many of the highest versions only.", least=1
    )
    signatures: tuple[str, ...] = _version(
        (), "Besides serving_default; by default all that are possible."
    )
    top: int = _version(5, "How many of the best classes to name.", least=1)
    crop_fraction: float | None = _version(
        None,
        "Share of an image file's largest central box to take; by default that of "
        "--center_crop of the --run, else the whole image is resized.",
        above=0,
        most=1,
    )
    jit_compile: bool = _version(False, "Compile the model with XLA.")
    warmup_batches: tuple[int, ...] = _version(
        (1, 8), "Batch sizes of the requests for warming up; empty for none."
    )

    @property
    def source(self):
        """Which of the flags that name a model is given."""
        return self.require_one(self.SOURCES)

    @property
    def serves_looks(self):
        """Whether what is written can tell the looks of a network apart."""
        return self.format == "saved_model" or self.exit_threshold is not None

    def check(self):
        """Refuses flags that contradict others or would have no effect."""
        source = self.source
        if self.format != "saved_model":
            self.refuse(_OF_A_SAVED_MODEL, f"--format={self.format}")
        if self.format in ("litert", "onnx"):
            self.refuse(("exit_threshold", "from_logits"), f"--format={self.format}")
        elif self.format == "openvino" and self.exit_threshold is None:
            self.refuse(("from_logits",), "--format=openvino and no --exit_threshold")
        if self.format != "openvino":
            self.refuse(("calibration",), f"--format={self.format}")
        if self.exit_threshold is not None:
            self.refuse(("calibration",), "--exit_threshold")
        if source == "keras_model":
            self.require_unfitted("--keras_model")
        else:
            self.refuse(("preprocessing", "class_names"), f"--{source}")
