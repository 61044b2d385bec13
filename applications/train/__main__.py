r"""Trains a model and writes what came of it.

    python -m applications.train --model=lenet --epochs=16 --output_dir=runs/lenet
    python -m applications.train --model=lrnet --backbone=lenet --epochs=4 \
        --init_from=runs/lenet/weights.h5 --output_dir=runs/lr_lenet

A --model such as lrnet or crcn gives feedback to a --backbone; --init_from holds its
trained weights.

Into --output_dir go `model.keras`, `weights.h5` (for `kfeedback.weights.load`),
`run.json` (every flag), `epochs.csv` and, with --tensorboard, its logs; one row with
the error at every timestep is added to --results.

A run can be broken off at any moment: the same command goes on from the last checkpoint
in --output_dir, as if nothing had happened. After SIGTERM or SIGINT it saves one first,
and exits with 143 or 130.

With --distribution several devices or hosts share every batch: see
docs/reference/many_devices.md.
"""

import contextlib
import functools
import json

import keras

from applications.common import data, machine, optimization, rows
from applications.common.command_line import launch
from applications.train import distribution
from applications.train.board import Board
from applications.train.checkpoints import Checkpoints
from applications.train.loop import Loop, averaged
from applications.train.network import build, frozen_batch_norms, with_timesteps
from applications.train.progress import Progress
from applications.train.run import Run
from applications.train.settings import ERRORS, Settings
from kfeedback import weights


def main(settings):
    """Trains what is left to train, evaluates, saves."""
    with distribution.create(settings) as devices:
        _main(settings, devices)


def _main(settings, devices):
    say = print if devices.is_chief else _silent
    run = Run(settings)
    if run.finished is not None:
        say(f"The run in {run.folder} is finished already; nothing is done.")
        _say(run.finished, say)
        return
    with run.claimed() if devices.is_chief else contextlib.nullcontext():
        _train(settings, devices, run, say)


def _train(settings, devices, run, say):
    keras.utils.set_random_seed(settings.seed)
    policy = optimization.precision_policy(settings.mixed_precision)
    is_auto = settings.mixed_precision == "auto"
    if is_auto and devices.agree(int(policy == "float32")):  # there for one of them
        policy = "float32"
    keras.config.set_dtype_policy(policy)
    run.require_policy(policy)
    run.require_backend(keras.backend.backend())

    with devices.chief_first():  # what is prepared or fitted the others find
        if devices.is_chief and not run.began:
            data.fit_preprocess(settings, run.folder)
        preprocess = data.get_preprocess(settings.preprocessing, run.folder)
        train, info = data.load_epochs(settings, preprocess)
        test, test_info = data.load(settings, settings.eval_split, preprocess)
    results = settings.results if devices.is_chief else None
    rows.check_columns(results, _row(settings, [], 0.0, test_info))
    steps = -(-info.num_examples // settings.batch_size)
    with contextlib.ExitStack() as prepared:
        with devices.scope():
            network = build(settings, info)
            model = with_timesteps(network)
            if settings.freeze_batch_norm:
                prepared.enter_context(frozen_batch_norms(network))
            total = settings.epochs * steps
            optimization.compile_model(model, settings, total, info.multi_label)
            trained = model.trainable_variables  # those that thaw later are not
            model.optimizer.build(trained)
        prepared.enter_context(devices.prepared(model))
        if devices.is_chief:
            run.write(class_names=info.class_names)
        if settings.distribution != "none":
            say(devices.describe(settings.batch_size, settings.lr))
        board = None
        if settings.tensorboard and devices.is_chief:
            images, _ = data.first_images(test, 6)
            board = Board(model, network, images, run.folder / "tensorboard")
        loop = _loop(settings, run, model, train, test, steps, devices, board)
        run.require_checkpoint(loop.restore(say))
        if loop.history and devices.is_chief:
            run.write_history(loop.history)
        loop.run()
        with averaged(model, trained):
            errors = timestep_errors(model, test, devices)

    if devices.is_chief:
        with averaged(model, trained):
            about = fitting(_about(settings, network, errors, info, test_info), say)
            # Without the optimizer, so that it reloads anywhere.
            network = keras.Model(
                network.inputs[0], network.outputs[0], name=settings.model
            )
            network.save(run.folder / "model.keras")
            weights.save(network, run.folder / "weights.h5", **about)
    rows.append_rows(results, [_row(settings, errors, loop.seconds, test_info)])
    if devices.is_chief:  # finished only when all is written, the row too
        run.write(errors=errors)
    _say(errors, say)
    devices.wait()


def _loop(settings, run, model, train, test, steps, devices, board):
    """The `Loop` of a compiled model, which writes into the folder of the run."""
    verbose = settings.verbose if devices.is_chief else 0
    progress = Progress(steps, settings.epochs, settings.batch_size, verbose)

    def on_epoch(history):
        speed = progress.epoch(history)
        if devices.is_chief:
            run.write_history(history)
        if board is not None:
            board.write(history[-1] | speed)

    return Loop(
        model,
        lambda epoch, batch: progress.watched(train(epoch, batch)),
        epochs=settings.epochs,
        checkpoints=Checkpoints(
            run.folder / "checkpoints",
            [*model.variables, *model.optimizer.variables],
            settings.keep,
            writes=devices.is_chief,
        ),
        validate=functools.partial(devices.evaluate, model, test),
        validate_every=settings.validation_freq,
        save_seconds=60 * settings.save_minutes,
        save_batches=settings.save_batches,
        on_epoch=on_epoch,
        progress=progress,
        distribution=devices,
    )


def timestep_errors(model, batches, devices):
    """Errors in percent, one a timestep: top 1, or not exactly all the labels."""
    results = devices.evaluate(model, batches)
    steps = model.output_shape[1]
    return [100 * (1 - results[f"accuracy_t{step + 1}"]) for step in range(steps)]


def _silent(_):
    """What the others print."""


def _say(errors, say):
    for step, error in enumerate(errors, start=1):
        say(f"error at timestep {step}: {error:.2f} %")


def fitting(about, say):
    """What a weights file can say, without class names that are too long for it."""
    if len(json.dumps(about.get("class_names"))) <= weights.LONGEST:
        return about
    say("The class names are too long for weights.h5; run.json alone has them.")
    return {k: v for k, v in about.items() if k != "class_names"}


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
