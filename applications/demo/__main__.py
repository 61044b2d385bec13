"""Shows what feedback does, then the whole way on a laptop, from training to serving.

    python -m applications.demo

First, by the weights that come with the package (`python -m applications.demo.looks`):
images that a later look corrects, what early exit saves, where a network looks for the
classes of one scene, and a second look. Then it trains LeNet on the sample of
MNIST-background-image that ships with the package, gives it feedback, trains that and,
for comparison, LeNet itself for as long; prints the errors, and exports a SavedModel
that is then loaded by a process that has neither Keras nor this package. All of it ends
in one page, `index.html`.
"""

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import webbrowser

import keras
import numpy as np

import kfeedback  # noqa: F401  (registers the layers that a saved model holds)
from applications.common.bare_process import ask
from applications.common.command_line import launch
from applications.common.rows import format_table
from applications.demo import page
from applications.demo.settings import Settings
from kfeedback.datasets import load_arrays


def main(settings):
    """Runs the demo."""
    start = time.time()
    folder = pathlib.Path(settings.demo_dir)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_earlier(folder)
    _run("applications.demo.looks", f"--demo_dir={folder}")
    looks = json.loads((folder / "looks.json").read_text())
    runs = {
        "LeNet": _train(folder / "lenet", "lenet", settings.baseline_epochs),
        "LeNet, trained on": _train(
            folder / "lenet_on", "lenet", settings.further_epochs, folder / "lenet"
        ),
        "LR-LeNet": _train(
            folder / "lr_lenet", "lrnet", settings.further_epochs, folder / "lenet"
        ),
    }
    _run("applications.evaluate", f"--run={runs['LR-LeNet']}", "--figures")
    rows = _table(folder, runs)
    print(f"\nTest errors in percent\n{format_table(rows)}\n")
    trained = page.section(
        "Trained in a minute",
        "Test errors in percent of what the demo trained from scratch: LeNet; "
        "and from there LeNet itself and LR-LeNet for as long. Below, the k best "
        "classes after each look of LR-LeNet.",
        rows,
        ["lr_lenet/top_k.png"],
    )
    served = page.section("Exported", _serve(folder))
    path = page.write(folder, [*looks, trained, served])
    print(f"\nThe page is {path.resolve()}; {time.time() - start:.0f} s in all.")
    if settings.show and _has_display():
        webbrowser.open(path.resolve().as_uri())


def _remove_earlier(folder):
    """Removes the runs of an earlier demo, also of one that was broken off."""
    (folder / "results.csv").unlink(missing_ok=True)
    for name in ("lenet", "lenet_on", "lr_lenet"):
        if (folder / name / "run.json").is_file():
            shutil.rmtree(folder / name)


def _has_display():
    names = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, names))


def _train(run, model, epochs, init=None):
    config = "lr_lenet_mnist_bg" if model == "lrnet" else "lenet_mnist_bg"
    arguments = [
        f"--config={config}",
        "--dataset=mnist_background_images_sample",
        f"--epochs={epochs}",
        f"--output_dir={run}",
        f"--results={run.parent / 'results.csv'}",
        "--verbose=2",
    ]
    if init:
        arguments.append(f"--init_from={init / 'weights.h5'}")
        arguments.append("--lr_drops=0.5,0.75")
    _run("applications.train", *arguments)
    return run


def _run(module, *arguments):
    command = [sys.executable, "-m", module, *arguments]
    print("\n$ python", *command[1:], flush=True)
    subprocess.run(command, check=True, env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ})


def _table(folder, runs):
    with (folder / "results.csv").open(encoding="utf-8") as file:
        errors = {row["experiment"]: row for row in csv.DictReader(file)}
    return [
        {
            "model": name,
            "epochs": errors[run.name]["epochs"],
            "timestep 1": errors[run.name]["error_t1"],
            "timestep 2": errors[run.name]["error_t2"] or "-",
        }
        for name, run in runs.items()
    ]


def _serve(folder):
    """Exports a version, compares it in a process of its own, and says what came."""
    served = folder / "served"
    run = folder / "lr_lenet"
    arguments = ("--warmup_batches=", f"--output_dir={served}")
    _run("applications.export", f"--run={run}", *arguments)
    model = keras.models.load_model(run / "model.keras")
    images, *_ = load_arrays("mnist_background_images_sample", "test[:64]")
    images = images.astype("float32")
    version = max(served.glob("[0-9]*"), key=lambda path: int(path.name))
    batches = (1, 7, len(images))
    answers = ask([(version, "timesteps", {"images": images[:n]}) for n in batches])
    wanted = model.predict(images / 255, verbose=0)
    difference = max(
        float(np.abs(answer.outputs["probabilities"] - wanted[:n]).max())
        for n, answer in zip(batches, answers, strict=True)
    )
    if difference > 1e-5:
        raise ValueError("The SavedModel must answer as the model does, got another.")
    text = (
        f"LR-LeNet, a SavedModel in {version.relative_to(folder)}, asked by a process "
        "without keras and kfeedback: largest difference of a probability at batches "
        f"of {', '.join(map(str, batches))} images: {difference:.1e}."
    )
    print(text)
    return text


if __name__ == "__main__":
    launch(main, Settings)
