"""Shows the whole way on a laptop: train, look twice, compare, draw, save, serve.

    python -m applications.demo

Trains LeNet on the sample of MNIST-background-image that ships with the package,
gives it feedback, trains that and, for comparison, LeNet itself for as long; prints
the errors, draws the figures and exports a SavedModel that is then loaded by a
process that has neither Keras nor this package.
"""

import csv
import os
import pathlib
import subprocess
import sys
import time

import keras
import numpy as np
from absl import flags

from applications import _app, evaluate
from kfeedback import datasets

flags.DEFINE_string("demo_dir", "demo_output", "Folder for everything it writes.")
flags.DEFINE_integer("baseline_epochs", 16, "Of LeNet.", lower_bound=1)
flags.DEFINE_integer("further_epochs", 6, "Of LR-LeNet and of LeNet.", lower_bound=1)
FLAGS = flags.FLAGS

_CHECK = """
import sys
sys.modules["keras"] = sys.modules["kfeedback"] = None
import numpy as np
import tensorflow as tf
folder, exchange = sys.argv[1:]
with np.load(exchange) as file:
    images, expected = file["images"], file["predictions"]
serve = tf.saved_model.load(folder).signatures["serving_default"]
name, = serve.structured_input_signature[1]
difference = 0.0
for batch in (1, 7, len(images)):
    output, = serve(**{name: tf.constant(images[:batch])}).values()
    difference = max(difference, float(np.abs(output - expected[:batch]).max()))
print(f"largest difference of a probability at batches 1, 7, {len(images)}: "
      f"{difference:.1e}")
sys.exit(difference > 1e-5)
"""


def main():
    """Runs the demo."""
    start = time.time()
    folder = pathlib.Path(FLAGS.demo_dir)
    folder.mkdir(parents=True, exist_ok=True)
    runs = {
        "LeNet": _train(folder / "lenet", "lenet", FLAGS.baseline_epochs),
        "LeNet, trained on": _train(
            folder / "lenet_on", "lenet", FLAGS.further_epochs, folder / "lenet"
        ),
        "LR-LeNet": _train(
            folder / "lr_lenet", "lrnet", FLAGS.further_epochs, folder / "lenet"
        ),
    }
    for name, run in runs.items():
        extra = ["--figures"] if name == "LR-LeNet" else []
        _run("applications.evaluate", f"--run={run}", *extra)
    print(f"\nTest errors in percent\n{evaluate.format_table(_table(runs))}\n")
    _serve(folder)
    print(f"\nEverything is in {folder}/; {time.time() - start:.0f} s in all.")


def _train(run, model, epochs, init=None):
    arguments = [f"--model={model}", f"--epochs={epochs}", f"--output_dir={run}"]
    if init:
        arguments.append(f"--init_from={init / 'weights.h5'}")
    if model == "lrnet":
        arguments.append("--feedback_init=0.5")
    _run("applications.train", *arguments, "--verbose=2")
    return run


def _run(module, *arguments):
    command = [sys.executable, "-m", module, *arguments]
    print("\n$ python", *command[1:], flush=True)
    subprocess.run(command, check=True, env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ})


def _table(runs):
    table = []
    for name, run in runs.items():
        with (run / "evaluation.csv").open() as file:
            errors = [row["top1_error"] for row in csv.DictReader(file)]
        errors += ["-"] * (2 - len(errors))
        row = {"model": name}
        row.update({f"timestep {n}": error for n, error in enumerate(errors, start=1)})
        table.append(row)
    return table


def _serve(folder):
    """Exports the last prediction and compares it in a process of its own."""
    model = keras.models.load_model(folder / "lr_lenet" / "model.keras")
    last = keras.Model(model.inputs[0], model.outputs[0][:, -1], name="lr_lenet")
    target, exchange = folder / "saved_model", folder / "predictions.npz"
    last.export(str(target), verbose=False)
    images = datasets.load_arrays("mnist_background_images_sample", "test[:64]")[0]
    images = images.astype("float32") / 255
    np.savez(exchange, images=images, predictions=last.predict(images, verbose=0))
    print(f"Exported {target}; loading it where keras and kfeedback are blocked:")
    command = [sys.executable, "-I", "-c", _CHECK, str(target), str(exchange)]
    subprocess.run(command, check=True, env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ})


if __name__ == "__main__":
    _app.launch(main)
