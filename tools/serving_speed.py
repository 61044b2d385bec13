"""Measures a SavedModel of `kfeedback.serving.export` against `model.predict`.

    python -m tools.serving_speed --model=kfeedback.LRNet \
        --kwargs='{"backbone": "lnin"}' --batch_size=32 --csv=speed.csv

All three, `model.predict` over several batches, the SavedModel batch by batch and the
same compiled with XLA, take turns in one run. A ratio is the time of a SavedModel over
that of `model.predict`, medians of --repeats; below 1 is faster.
"""

import json
import statistics
import tempfile

import numpy as np
import tensorflow as tf
from absl import flags

import kfeedback
from applications import _app
from tools._costs import find_factory
from tools._timing import machine_conv_gflops, time_interleaved

flags.DEFINE_string("model", None, "Dotted name of a factory (required).")
flags.DEFINE_string("kwargs", "{}", "Its arguments, as JSON.")
flags.DEFINE_integer("batch_size", 32, "Images a call.", lower_bound=1)
flags.DEFINE_integer("batches", 8, "Batches for model.predict.", lower_bound=1)
flags.DEFINE_integer("repeats", 5, "How often each is timed.", lower_bound=1)
_app.define_number("seconds", 0.5, "The least duration of a repeat.", above=0)
flags.DEFINE_string("csv", None, "File that gets a row.")
FLAGS = flags.FLAGS


def main():
    """Measures, prints, adds a row."""
    factory, _ = find_factory(_app.required("model"))
    model = factory(**_app.json_flag("kwargs"))
    shape = (FLAGS.batches * FLAGS.batch_size, *model.input_shape[1:])
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        calls = {
            ("model.predict",): lambda: model.predict(
                images, batch_size=FLAGS.batch_size, verbose=0
            ),
            ("SavedModel",): _served(model, f"{folder}/plain", images, False),
            ("SavedModel, XLA",): _served(model, f"{folder}/xla", images, True),
        }
        times = time_interleaved(calls, FLAGS.repeats, FLAGS.seconds)
    medians = {name: statistics.median(found) for (name,), found in times.items()}
    row = {
        "model": FLAGS.model,
        "kwargs": json.dumps(_app.json_flag("kwargs")),
        "batch_size": FLAGS.batch_size,
        "input_shape": ",".join(map(str, shape[1:])),
        "repeats": FLAGS.repeats,
    }
    for name, key in zip(medians, ("predict", "saved_model", "xla"), strict=True):
        row[f"{key}_images_per_s"] = f"{len(images) / medians[name]:.1f}"
    for name, key in zip(list(medians)[1:], ("saved_model", "xla"), strict=True):
        row[f"{key}_ratio"] = f"{medians[name] / medians['model.predict']:.3f}"
    row["machine_conv_gflops"] = f"{machine_conv_gflops():.0f}"
    row["hardware"] = _app.hardware()
    print(_app.format_table([row]))
    if FLAGS.csv:
        _app.append_row(FLAGS.csv, row)


def _served(model, folder, images, jit_compile):
    """A call that asks the SavedModel for all images, batch by batch."""
    path = kfeedback.serving.export(
        model, folder, signatures=[], warmup_batches=(), jit_compile=jit_compile
    )
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    starts = range(0, len(images), FLAGS.batch_size)

    def run():
        for start in starts:
            batch = tf.constant(images[start : start + FLAGS.batch_size])
            serve(images=batch)["probabilities"].numpy()

    return run


if __name__ == "__main__":
    _app.launch(main)
