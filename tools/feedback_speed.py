"""Times one iteration of FeedbackCNN's loop against a forward pass and input gradient.

    python -m tools.feedback_speed --network=vgg16 --batch_size=8
    python -m tools.feedback_speed --network=vgg11 --batch_size=1 --csv=speed.csv

An iteration is the difference between loops of --iterations and of one, divided by
their difference in iterations. The two take turns, and the medians of --repeats are
printed: wall time and, for a machine that others use too, processor time.
"""

import dataclasses
import time

import keras
import numpy as np

from applications.common.command_line import launch
from applications.common.machine import hardware
from applications.common.rows import append_rows, check_columns
from applications.common.settings import Settings as Base
from applications.common.settings import field
from kfeedback.backend import compile_function, value_and_gradient
from kfeedback.explain import Feedback
from kfeedback.explain.network import Network, target_scores

COLUMNS = ("network", "batch_size", "iterations", "repeats")
COLUMNS += ("wall_plain_s", "wall_iteration_s", "wall_ratio")
COLUMNS += ("processor_plain_s", "processor_iteration_s", "processor_ratio", "hardware")

_VGG11 = ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2))


@dataclasses.dataclass(frozen=True)
class Settings(Base):
    """The flags of tools.feedback_speed."""

    network: str = field(
        "vgg16", "Of random weights, 224 px.", choices=("vgg11", "vgg16")
    )
    batch_size: int = field(8, "Images.", least=1)
    iterations: int = field(3, "Of the longer loop.", least=2)
    repeats: int = field(3, "Measurements of each.", least=1)
    csv: str | None = field(None, "File that gets a row.")


def main(settings):
    """Measures and prints."""
    check_columns(settings.csv, COLUMNS, "csv")
    model = _network(settings.network)
    network = Network(model)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (settings.batch_size, 224, 224, 3)).astype("float32")
    targets = rng.integers(0, 1000, settings.batch_size).astype("int32")

    def plain(images, targets):
        return value_and_gradient(
            lambda x: target_scores(network.scores(x), targets), images
        )

    def loop(iterations):
        feedback = Feedback(iterations)

        def run(images, targets):
            _, features = network.first_pass(images)
            return feedback.gates(network, images, targets, features)

        return run

    functions = [plain, loop(1), loop(settings.iterations)]
    functions = [compile_function(network.model, function) for function in functions]
    for function in functions:
        _seconds(function, images, targets)
    times = np.array(
        [
            [_seconds(function, images, targets) for function in functions]
            for _ in range(settings.repeats)
        ]
    )
    plainly, one, several = np.median(times, axis=0)
    iteration = (several - one) / (settings.iterations - 1)
    print(f"{settings.network}, batches of {settings.batch_size}, {hardware()}")
    row = {"network": settings.network, "batch_size": settings.batch_size}
    row |= {"iterations": settings.iterations, "repeats": settings.repeats}
    for n, clock in enumerate(("wall", "processor")):
        row[f"{clock}_plain_s"] = f"{plainly[n]:.3f}"
        row[f"{clock}_iteration_s"] = f"{iteration[n]:.3f}"
        row[f"{clock}_ratio"] = f"{iteration[n] / plainly[n]:.3f}"
        print(
            f"{clock}: forward and input gradient {plainly[n]:.2f} s, one iteration "
            f"{iteration[n]:.2f} s, ratio {iteration[n] / plainly[n]:.2f}"
        )
    append_rows(settings.csv, [row | {"hardware": hardware()}], "csv")


def _network(name):
    if name == "vgg16":
        return keras.applications.VGG16(weights=None, classifier_activation=None)
    x = inputs = keras.Input((224, 224, 3))
    for filters, count in _VGG11:
        for _ in range(count):
            x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    for _ in range(2):
        x = keras.layers.Dense(4096, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(1000)(x))


def _seconds(function, images, targets):
    start = time.perf_counter(), time.process_time()
    keras.tree.map_structure(keras.ops.convert_to_numpy, function(images, targets))
    return time.perf_counter() - start[0], time.process_time() - start[1]


if __name__ == "__main__":
    launch(main, Settings)
