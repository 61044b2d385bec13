"""Trains a model and writes what came of it.

    python -m applications.train --model=lenet --epochs=16 --output_dir=runs/lenet
    python -m applications.train --model=lrnet --backbone=lenet --epochs=4 \
        --init_from=runs/lenet/weights.h5 --output_dir=runs/lr_lenet

lrnet and crcn give feedback to a --backbone; --init_from holds its trained weights.

Into --output_dir go `model.keras`, `weights.h5` (for `kfeedback.weights.load`),
`run.json` (every flag), `epochs.csv` and, with --tensorboard, its logs; one row with
the error at every timestep is added to --results.
"""

import contextlib
import importlib.util
import inspect
import json
import pathlib
import sys
import time

import keras
from absl import flags

from applications import _app, _data, _optimization
from kfeedback import weights as weights_lib
from kfeedback.layers import StackTimesteps
from kfeedback.models import registry

FACTORIES = {
    name: one.factory for name, one in registry.families().items() if one.trains
}
_GIVES_FEEDBACK = ("lrnet", "crcn")
_TIME = ("timesteps", "return_sequences")
_LRNET_FLAGS = ("feedback_init", "feedback_lr_mult")
_ERRORS = 4  # columns of a row

flags.DEFINE_enum("model", "lrnet", list(FACTORIES), "What to train.")
flags.DEFINE_string("backbone", "lenet", "What lrnet or crcn gives feedback to.")
flags.DEFINE_integer(
    "timesteps",
    None,
    "Passes of a --model that has some; its own number by default.",
    lower_bound=1,
)
flags.DEFINE_string("model_args", "{}", "More arguments of --model, as JSON.")
flags.DEFINE_string("backbone_args", "{}", "More arguments of --backbone, as JSON.")
_app.define_number(
    "feedback_init", 0.0, "Standard deviation of the feedback weights W.", least=0
)
flags.DEFINE_string(
    "init_from", None, "weights.h5 or model.keras of a trained --backbone or --model."
)
flags.DEFINE_integer("epochs", 16, "Passes over the training split.", lower_bound=1)
flags.DEFINE_integer(
    "validation_freq",
    1,
    "Errors on --eval_split every so many epochs; 0: only after the last one.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Of weights, order, augmentation and dropout.",
    lower_bound=0,
    upper_bound=2**32 - 1,
)
flags.DEFINE_enum(
    "distribution", "none", ["none", "mirrored"], "tf.distribute strategy."
)
flags.DEFINE_integer(
    "logical_cpus", 0, "Split the CPU, to try --distribution=mirrored.", lower_bound=0
)
flags.DEFINE_bool("mixed_precision", False, "The policy mixed_bfloat16.")
flags.DEFINE_string("output_dir", None, "Folder of this run (required).")
flags.DEFINE_string("results", None, "CSV file that gets one row of this run.")
flags.DEFINE_string(
    "experiment", "", "What the row is called; the run's folder if not given."
)
flags.DEFINE_bool("tensorboard", False, "Write TensorBoard logs.")
flags.DEFINE_enum("verbose", "1", ["0", "1", "2"], "Progress as in keras.Model.fit.")
FLAGS = flags.FLAGS


def main():
    """Trains, evaluates, saves."""
    output = pathlib.Path(_app.required("output_dir"))
    _check_flags()
    _optimization.drops()
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.mixed_precision:
        keras.config.set_dtype_policy("mixed_bfloat16")
    scope = _distribution_scope()
    output.mkdir(parents=True, exist_ok=True)

    preprocess = _data.get_preprocess(output, fit=True)
    train, info = _data.get_data(
        FLAGS.train_split, preprocess, training=True, seed=FLAGS.seed
    )
    test, test_info = _data.get_data(FLAGS.eval_split, preprocess, training=False)
    if FLAGS.results:
        _app.open_rows(FLAGS.results, _row([], 0.0, test_info))[0].close()
    with contextlib.ExitStack() as frozen:
        with scope:
            network = build(info)
            model = with_timesteps(network)
            frozen.enter_context(_optimization.frozen_batch_norms(network))
            _optimization.compile_model(model, len(train), info.multi_label)
        _write_run(output, info)
        seconds = _fit(model, train, test, output)

    errors = timestep_errors(model, test)
    # Without the optimizer, so that it reloads anywhere.
    about = _about(network, errors, info, test_info)
    network = keras.Model(network.inputs[0], network.outputs[0], name=FLAGS.model)
    network.save(output / "model.keras")
    weights_lib.save(network, output / "weights.h5", **about)
    for step, error in enumerate(errors, start=1):
        print(f"error at timestep {step}: {error:.2f} %")
    if FLAGS.results:
        _app.append_row(FLAGS.results, _row(errors, seconds, test_info))


def _fit(model, train, test, output):
    """The seconds that training took."""
    start = time.time()
    try:
        model.fit(
            train,
            epochs=FLAGS.epochs,
            verbose=int(FLAGS.verbose),
            shuffle=False,  # the data shuffle themselves, by (seed, epoch)
            validation_data=test if FLAGS.validation_freq else None,
            validation_freq=FLAGS.validation_freq or 1,
            callbacks=_callbacks(output),
        )
    except RuntimeError as error:  # of TerminateOnNaN
        raise ValueError(
            f"--lr must be one at which training stays finite, got {FLAGS.lr}: {error}"
        ) from error
    return time.time() - start


def build(info):
    """The model that the flags name, one with feedback with all its predictions."""
    init = FLAGS.init_from
    if init is not None and not pathlib.Path(init).is_file():
        raise ValueError(f"--init_from must be a file, got {init!r}.")
    is_feedback = FLAGS.model in _GIVES_FEEDBACK
    if init is not None and init.endswith(".keras"):
        network = _app.load_model("init_from", init)
        init = None  # nothing is left to load
    else:
        network = _network(info, is_feedback)
    _app.check_images("init_from" if FLAGS.init_from else "model", network, info)
    if init is not None and not (is_feedback and weights_lib.holds_feedback(init)):
        weights_lib.load(network, init)
        init = None
    if not is_feedback:
        return network
    own = {}
    if FLAGS.model == "lrnet" and FLAGS.feedback_init:
        own["feedback_initializer"] = keras.initializers.RandomNormal(
            stddev=FLAGS.feedback_init, seed=FLAGS.seed
        )
    factory = FACTORIES[FLAGS.model]
    fixed = ("backbone", "include_top", "weights", "pooling", "timesteps", "classes")
    fixed += ("feedback_initializer", "return_sequences", "input_shape")
    return factory(
        network,
        weights=init,
        timesteps=_timesteps(),
        return_sequences=True,
        **own,
        **_app.arguments("model_args", factory, fixed),
    )


def _network(info, is_feedback):
    """The network that --backbone or --model names, for the data."""
    name = FLAGS.backbone if is_feedback else FLAGS.model
    factory = registry.get(name, "backbone").factory
    arguments = _app.arguments(
        "backbone_args" if is_feedback else "model_args",
        factory,
        ("include_top", "pooling", "input_shape", "input_tensor", "classes", *_TIME),
    )
    if info.multi_label:
        arguments = {"classifier_activation": "sigmoid", **arguments}
    if not is_feedback and _timesteps():
        arguments |= {"timesteps": _timesteps(), "return_sequences": True}
    return factory(input_shape=info.image_shape, classes=info.num_classes, **arguments)


def _timesteps():
    """--timesteps or the default of the model; `None` for one that has none."""
    parameter = inspect.signature(FACTORIES[FLAGS.model]).parameters.get("timesteps")
    return parameter and (FLAGS.timesteps or parameter.default)


def with_timesteps(network):
    """The network with an axis of timesteps behind the batch, if it has none."""
    (output,) = network.outputs
    if len(output.shape) == 2:
        output = StackTimesteps(name="timesteps", dtype=output.dtype)([output])
    return keras.Model(network.inputs[0], output)


def timestep_errors(model, data):
    """Errors in percent, one a timestep: top 1, or not exactly all the labels."""
    results = model.evaluate(data, return_dict=True, verbose=0)
    steps = model.output_shape[1]
    return [100 * (1 - results[f"accuracy_t{step + 1}"]) for step in range(steps)]


def _check_flags():
    """Refuses flags that would have no effect."""
    timesteps = _timesteps()
    if timesteps is None:
        _app.refuse(("timesteps", "discount"), f"--model={FLAGS.model}")
    if FLAGS.model != "lrnet":
        _app.refuse(_LRNET_FLAGS, f"--model={FLAGS.model}")
    if FLAGS.model not in _GIVES_FEEDBACK:
        _app.refuse(("backbone", "backbone_args"), f"--model={FLAGS.model}")
        if (FLAGS.init_from or "").endswith(".keras"):
            raise ValueError(
                "--init_from must be a weights.h5 for --model other than "
                f"{' or '.join(_GIVES_FEEDBACK)}, got {FLAGS.init_from!r}; "
                "--model=lrnet --timesteps=1 trains a .keras on."
            )
    elif (FLAGS.init_from or "").endswith(".keras"):
        _app.refuse(("backbone", "backbone_args"), f"--init_from={FLAGS.init_from}")
    if FLAGS.init_from is None:
        _app.refuse(("freeze_batch_norm",), "no --init_from")
    if timesteps == 1:
        _app.refuse(("discount", *_LRNET_FLAGS), "--timesteps=1")
    if FLAGS.results is None:
        _app.refuse(("experiment",), "no --results")
    elif (timesteps or 1) > _ERRORS:
        raise ValueError(
            f"--timesteps must be at most {_ERRORS} with --results, which has so many "
            f"columns, got {timesteps}."
        )
    if FLAGS.distribution == "none":
        _app.refuse(("logical_cpus",), "--distribution=none")


def _distribution_scope():
    if FLAGS.distribution == "none":
        return contextlib.nullcontext()
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "--distribution=mirrored must run on the tensorflow backend, got "
            f"{keras.backend.backend()}."
        )
    import tensorflow as tf

    devices = None
    if FLAGS.logical_cpus:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * FLAGS.logical_cpus,
        )
        devices = [f"CPU:{n}" for n in range(FLAGS.logical_cpus)]
    return tf.distribute.MirroredStrategy(devices).scope()


def _callbacks(output):
    callbacks = [
        keras.callbacks.TerminateOnNaN(raise_error=True),
        keras.callbacks.CSVLogger(str(output / "epochs.csv")),
    ]
    if FLAGS.tensorboard:
        if importlib.util.find_spec("tensorboard") is None:
            raise ImportError("--tensorboard needs pip install kfeedback[plots].")
        callbacks.append(keras.callbacks.TensorBoard(str(output / "tensorboard")))
    return callbacks


def _write_run(output, info):
    values = {
        flag.name: flag.value
        for module in (sys.modules[__name__], _data, _optimization)
        for flag in FLAGS.get_key_flags_for_module(module)
    }
    run = {"flags": values, "commit": _app.commit(), "class_names": info.class_names}
    (output / "run.json").write_text(json.dumps(run, indent=1, default=str) + "\n")


def _about(network, errors, info, test_info):
    """What the weights file says of this run."""
    measured = ", ".join(
        f"{error:.2f} % at timestep {step}" for step, error in enumerate(errors, 1)
    )
    examples = f"{test_info.num_examples} examples of {FLAGS.eval_split}"
    flags_given = _app.command_line(also=("config", "seed"))
    about = {
        **weights_lib.origin(network),
        "preprocessing": FLAGS.preprocessing,
        "classes": info.num_classes,
        "class_names": list(info.class_names or []),
        "dataset": f"{FLAGS.dataset}, {FLAGS.train_split}",
        "command": f"python -m applications.train {flags_given}",
        "commit": _app.commit(),
        "score": f"error {measured}, on {examples}",
    }
    return {name: value for name, value in about.items() if value}


def _row(errors, seconds, info):
    padded = [f"{error:.2f}" for error in errors] + [""] * (_ERRORS - len(errors))
    return {
        "experiment": FLAGS.experiment or pathlib.Path(FLAGS.output_dir).name,
        "config": FLAGS.config or "",
        "seed": FLAGS.seed,
        "epochs": FLAGS.epochs,
        "dataset": FLAGS.dataset,
        "train_split": FLAGS.train_split,
        "eval_split": FLAGS.eval_split,
        "eval_examples": info.num_examples,
        **{f"error_t{n}": error for n, error in enumerate(padded, start=1)},
        "seconds": f"{seconds:.0f}",
        "dtype": keras.config.dtype_policy().name,
        "backend": keras.backend.backend(),
        "hardware": _app.hardware(),
        "flags": _app.command_line(),
    }


if __name__ == "__main__":
    _app.launch(main)
