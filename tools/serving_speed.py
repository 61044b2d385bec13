r"""Measures a SavedModel of `kfeedback.serving.export` against `model.predict`.

    python -m tools.serving_speed --model=kfeedback.LRNet \
        --kwargs='{"backbone": "lnin"}' --batch_size=32 --csv=speed.csv

All three, `model.predict` over several batches, the SavedModel batch by batch and the
same compiled with XLA, take turns in one run. A ratio is the time of a SavedModel over
that of `model.predict`, medians of --repeats; below 1 is faster.
"""

import dataclasses
import statistics
import tempfile
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

import kfeedback
from applications.common.command_line import launch
from applications.common.machine import hardware
from applications.common.rows import append_rows, check_columns, format_table
from applications.common.settings import Settings as Base
from applications.common.settings import as_text, field
from tools.factories import find_factory
from tools.timing import machine_conv_gflops, time_interleaved

COLUMNS = ("model", "kwargs", "batch_size", "input_shape", "repeats")
COLUMNS += ("predict_images_per_s", "saved_model_images_per_s", "xla_images_per_s")
COLUMNS += ("saved_model_ratio", "xla_ratio", "machine_conv_gflops", "hardware")


@dataclasses.dataclass(frozen=True)
class Settings(Base):
    """The flags of tools.serving_speed."""

    model: str | None = field(
        None, "A family of kfeedback, or the dotted name of a factory.", required=True
    )
    kwargs: Mapping = field(dict, "Its arguments.")
    batch_size: int = field(32, "Images a call.", least=1)
    batches: int = field(8, "Batches for model.predict.", least=1)
    repeats: int = field(5, "How often each is timed.", least=1)
    seconds: float = field(0.5, "The least duration of a repeat.", above=0)
    csv: str | None = field(None, "File that gets a row.")


def main(settings):
    """Measures, prints, adds a row."""
    check_columns(settings.csv, COLUMNS, "csv")
    factory, _ = find_factory(settings.model)
    model = factory(**settings.kwargs)
    shape = (settings.batches * settings.batch_size, *model.input_shape[1:])
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    batches = [tf.constant(part) for part in np.split(images, settings.batches)]
    with tempfile.TemporaryDirectory() as folder:
        calls = {
            ("model.predict",): lambda: model.predict(
                images, batch_size=settings.batch_size, verbose=0
            ),
            ("SavedModel",): _served(model, f"{folder}/plain", batches),
            ("SavedModel, XLA",): _served(model, f"{folder}/xla", batches, True),
        }
        times = time_interleaved(calls, settings.repeats, settings.seconds)
    medians = {name: statistics.median(found) for (name,), found in times.items()}
    row = {
        "model": settings.model,
        "kwargs": as_text(settings.kwargs),
        "batch_size": settings.batch_size,
        "input_shape": as_text(shape[1:]),
        "repeats": settings.repeats,
    }
    for name, key in zip(medians, ("predict", "saved_model", "xla"), strict=True):
        row[f"{key}_images_per_s"] = f"{len(images) / medians[name]:.1f}"
    for name, key in zip(list(medians)[1:], ("saved_model", "xla"), strict=True):
        row[f"{key}_ratio"] = f"{medians[name] / medians['model.predict']:.3f}"
    row["machine_conv_gflops"] = f"{machine_conv_gflops():.0f}"
    row["hardware"] = hardware()
    print(format_table([row]))
    append_rows(settings.csv, [row], "csv")


def _served(model, folder, batches, jit_compile=False):
    """A call that asks the SavedModel for all images, batch by batch."""
    path = kfeedback.serving.export(
        model, folder, signatures=[], warmup_batches=(), jit_compile=jit_compile
    )
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]

    def run():
        for batch in batches:
            serve(images=batch)["probabilities"].numpy()

    return run


if __name__ == "__main__":
    launch(main, Settings)
