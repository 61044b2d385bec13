r"""Trains a model and writes what came of it.

    python -m applications.train --model=lenet --epochs=16 --output_dir=runs/lenet
    python -m applications.train --model=lrnet --backbone=lenet --epochs=4 \
        --init_from=runs/lenet/weights.h5 --output_dir=runs/lr_lenet

A --model such as lrnet or crcn gives feedback to a --backbone; --init_from holds its
trained weights.

Into --output_dir go `model.keras`, `weights.h5` (for `kfeedback.weights.load`),
`run.json` (every flag), `epochs.csv` and, with --tensorboard, its logs; one row with
the error at every timestep is added to --results.
"""

import contextlib
import importlib.util
import json
import pathlib

import keras

from applications.common import data, machine, optimization, rows
from applications.common.command_line import launch
from applications.train.network import build, frozen_batch_norms, with_timesteps
from applications.train.settings import ERRORS, Settings
from kfeedback import weights


def main(settings):
    """Trains, evaluates, saves."""
    output = pathlib.Path(settings.output_dir)
    keras.utils.set_random_seed(settings.seed)
    if settings.mixed_precision:
        keras.config.set_dtype_policy("mixed_bfloat16")
    scope = _distribution_scope(settings)
    output.mkdir(parents=True, exist_ok=True)

    preprocess = data.fit_preprocess(settings, output)
    train, info = data.load_training(settings, preprocess)
    test, test_info = data.load(settings, settings.eval_split, preprocess)
    if settings.results:
        empty = _row(settings, [], 0.0, test_info)
        rows.open_rows(settings.results, empty)[0].close()
    with contextlib.ExitStack() as frozen:
        with scope:
            network = build(settings, info)
            model = with_timesteps(network)
            if settings.freeze_batch_norm:
                frozen.enter_context(frozen_batch_norms(network))
            steps = settings.epochs * len(train)
            optimization.compile_model(model, settings, steps, info.multi_label)
        _write_run(settings, info)
        seconds = optimization.fit(
            model,
            train,
            rate=settings.lr,
            epochs=settings.epochs,
            verbose=settings.verbose,
            shuffle=False,  # the data shuffle themselves, by (seed, epoch)
            validation_data=test if settings.validation_freq else None,
            validation_freq=settings.validation_freq or 1,
            callbacks=_callbacks(settings, output),
        )

    errors = timestep_errors(model, test)
    # Without the optimizer, so that it reloads anywhere.
    about = _about(settings, network, errors, info, test_info)
    network = keras.Model(network.inputs[0], network.outputs[0], name=settings.model)
    network.save(output / "model.keras")
    weights.save(network, output / "weights.h5", **about)
    for step, error in enumerate(errors, start=1):
        print(f"error at timestep {step}: {error:.2f} %")
    if settings.results:
        row = _row(settings, errors, seconds, test_info)
        rows.append_row(settings.results, row)


def timestep_errors(model, batches):
    """Errors in percent, one a timestep: top 1, or not exactly all the labels."""
    results = model.evaluate(batches, return_dict=True, verbose=0)
    steps = model.output_shape[1]
    return [100 * (1 - results[f"accuracy_t{step + 1}"]) for step in range(steps)]


def _distribution_scope(settings):
    if settings.distribution == "none":
        return contextlib.nullcontext()
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "--distribution=mirrored must run on the tensorflow backend, got "
            f"{keras.backend.backend()}."
        )
    import tensorflow as tf

    devices = None
    if settings.logical_cpus:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * settings.logical_cpus,
        )
        devices = [f"CPU:{n}" for n in range(settings.logical_cpus)]
    return tf.distribute.MirroredStrategy(devices).scope()


def _callbacks(settings, output):
    callbacks = [keras.callbacks.CSVLogger(str(output / "epochs.csv"))]
    if settings.tensorboard:
        if importlib.util.find_spec("tensorboard") is None:
            raise ImportError("--tensorboard needs pip install kfeedback[plots].")
        callbacks.append(keras.callbacks.TensorBoard(str(output / "tensorboard")))
    return callbacks


def _write_run(settings, info):
    run = {"flags": settings.as_flags(), "commit": machine.commit()}
    run["class_names"] = info.class_names
    path = pathlib.Path(settings.output_dir, "run.json")
    path.write_text(json.dumps(run, indent=1) + "\n")


def _about(settings, network, errors, info, test_info):
    """What the weights file says of this run."""
    measured = ", ".join(
        f"{error:.2f} % at timestep {step}" for step, error in enumerate(errors, 1)
    )
    examples = f"{test_info.num_examples} examples of {settings.eval_split}"
    flags_given = settings.command_line(also=("config", "seed"))
    about = {
        **weights.origin(network),
        "preprocessing": settings.preprocessing,
        "classes": info.num_classes,
        "class_names": list(info.class_names or []),
        "dataset": f"{settings.dataset}, {settings.train_split}",
        "command": f"python -m applications.train {flags_given}",
        "commit": machine.commit(),
        "score": f"error {measured}, on {examples}",
    }
    return {name: value for name, value in about.items() if value}


def _row(settings, errors, seconds, info):
    return {
        "experiment": settings.experiment_name,
        "config": settings.config or "",
        "seed": settings.seed,
        "epochs": settings.epochs,
        "dataset": settings.dataset,
        "train_split": settings.train_split,
        "eval_split": settings.eval_split,
        "eval_examples": info.num_examples,
        **rows.by_timestep("error", errors, ERRORS),
        "seconds": f"{seconds:.0f}",
        **machine.columns(settings),
    }


if __name__ == "__main__":
    launch(main, Settings)
