"""Times one iteration of FeedbackCNN's loop against a forward pass and input gradient.

    python -m tools.feedback_speed --network=vgg16 --batch_size=8
    python -m tools.feedback_speed --network=vgg11 --batch_size=1 --csv=speed.csv

An iteration is the difference between loops of --iterations and of one, divided by
their difference in iterations. The two take turns, and the medians of --repeats are
printed: wall time and, for a machine that others use too, processor time.
"""

import time

import keras
import numpy as np
from absl import flags

from applications import _app
from kfeedback.backend import compile_function, value_and_gradient
from kfeedback.explain import Feedback
from kfeedback.explain.network import Network, take

flags.DEFINE_enum("network", "vgg16", ["vgg11", "vgg16"], "Of random weights, 224 px.")
flags.DEFINE_integer("batch_size", 8, "Images.", lower_bound=1)
flags.DEFINE_integer("iterations", 3, "Of the longer loop.", lower_bound=2)
flags.DEFINE_integer("repeats", 3, "Measurements of each.", lower_bound=1)
flags.DEFINE_string("csv", None, "File that gets a row.")
FLAGS = flags.FLAGS

_VGG11 = ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2))


def main():
    """Measures and prints."""
    model = _network()
    network = Network(model)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (FLAGS.batch_size, 224, 224, 3)).astype("float32")
    targets = rng.integers(0, 1000, FLAGS.batch_size).astype("int32")

    def plain(images, targets):
        return value_and_gradient(lambda x: take(network.scores(x), targets), images)

    def loop(iterations):
        feedback = Feedback(iterations)

        def run(images, targets):
            _, features = network.first_pass(images)
            return feedback.gates(network, images, targets, features)

        return run

    functions = [plain, loop(1), loop(FLAGS.iterations)]
    functions = [compile_function(network.model, function) for function in functions]
    for function in functions:
        _seconds(function, images, targets)
    times = np.array(
        [
            [_seconds(function, images, targets) for function in functions]
            for _ in range(FLAGS.repeats)
        ]
    )
    plainly, one, several = np.median(times, axis=0)
    iteration = (several - one) / (FLAGS.iterations - 1)
    print(f"{FLAGS.network}, batches of {FLAGS.batch_size}, {_app.hardware()}")
    row = {"network": FLAGS.network, "batch_size": FLAGS.batch_size}
    row |= {"iterations": FLAGS.iterations, "repeats": FLAGS.repeats}
    for n, clock in enumerate(("wall", "processor")):
        row[f"{clock}_plain_s"] = f"{plainly[n]:.3f}"
        row[f"{clock}_iteration_s"] = f"{iteration[n]:.3f}"
        row[f"{clock}_ratio"] = f"{iteration[n] / plainly[n]:.3f}"
        print(
            f"{clock}: forward and input gradient {plainly[n]:.2f} s, one iteration "
            f"{iteration[n]:.2f} s, ratio {iteration[n] / plainly[n]:.2f}"
        )
    if FLAGS.csv:
        _app.append_row(FLAGS.csv, row | {"hardware": _app.hardware()})


def _network():
    if FLAGS.network == "vgg16":
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
    _app.launch(main)
