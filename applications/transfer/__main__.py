r"""Transfers a trained feedback network to other data, and tests every iteration.

    python -m applications.transfer --run=runs/source --dataset=cifar10 \
        --classes=dog,frog,horse,ship,truck --train_split='train[:4%]' \
        --output_dir=runs/transfer

--methods are (`head`) a new head on the frozen feedback layers; (`finetune`) that
network with all of it trained on; (`forest`, `logistic`) a random forest and a logistic
regression on the embeddings of one iteration or of all; (`scratch`) the same network
from random weights. --dataset, --classes and the splits are those of the target;
preprocessing, image size, batch size, discount and data folders those of the run
unless flags say otherwise.

Into --output_dir go figures 2 to 4 of Transfer learning with feedback networks,
`accuracy.png`, `forest.png` and `logistic.png`, and, without --results, `transfer.csv`:
a row for every method and iteration that it was fitted on.
"""

import logging
import pathlib
import time

import keras
import numpy as np

from applications.common import data, machine, optimization, rows, scores
from applications.common.command_line import launch
from applications.common.figures import pyplot
from applications.common.models import load_model, predict_all
from applications.common.settings import as_text
from applications.transfer import classifiers, figures, heads
from applications.transfer.settings import CLASSIFIERS, NETWORKS, Settings
from applications.transfer.target import Target
from kfeedback import graph

_COLUMNS = 4  # iterations of a row


def main(settings):
    """Transfers by every method, prints, writes."""
    output = pathlib.Path(settings.output_dir)
    if {*CLASSIFIERS} & {*settings.methods}:
        scores.require_sklearn()
    if settings.figures:
        pyplot()
    keras.config.set_dtype_policy(optimization.run_policy("run", settings.run))
    source = _source(settings)
    fits = _fits(settings, source.output_shape[1])
    preprocess = data.get_preprocess(settings.preprocessing, settings.run)
    target = Target(settings, source, preprocess)
    embedder = heads.embedding_model(source, settings.embedding_layer)
    # Models of several sizes of batch are several graphs, which it would warn of.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    results_file = settings.results or output / "transfer.csv"
    output.mkdir(parents=True, exist_ok=True)
    steps = source.output_shape[1]
    columns = _row(settings, "", "", {"accuracy": []}, 0.0, target, steps)
    rows.check_columns(results_file, columns)

    target.embed(embedder)
    results, lines = {}, []
    for method, fitted_on, found, seconds in _transfers(settings, fits, source, target):
        found = _measured(found, target)
        results[method, fitted_on] = found
        line = _row(settings, method, fitted_on, found, seconds, target, steps)
        lines.append(line)
        for metric, values in found.items():
            shown = " ".join(f"{value:.2f}" for value in values)
            print(f"{method}, fitted on {fitted_on}: {metric} {shown} %")
    rows.append_rows(results_file, lines)
    _report(results, target)
    if settings.figures:
        title = (
            f"From {pathlib.Path(settings.run).resolve().name} to "
            f"{pathlib.Path(target.info.name).name}: {target.count} training images, "
            f"{target.test_info.num_examples} test images"
        )
        for path in figures.draw_all(results, output, title):
            print(f"wrote {path}")


def _measured(found, target):
    """Dict from a metric's name to its values, of scores `(N, T, classes)`."""
    accuracy = scores.accuracy(found, target.test_labels)
    if not target.info.multi_label:
        return {"accuracy": accuracy}
    precision = scores.mean_average_precision(found, target.test_labels)
    return {"exact match": accuracy, "mean average precision": precision}


def _transfers(settings, fits, source, target):
    """Yields `(method, fitted on, scores (N, T, classes), seconds)`."""
    if {*NETWORKS} & {*settings.methods}:
        yield from _train_networks(settings, source, target)
    for method in CLASSIFIERS:
        if method not in settings.methods:
            continue
        for fitted_on in fits:
            print(f"{method} fitted on iteration {fitted_on}")
            start = time.time()
            fitted = classifiers.classifier(
                method, target.info.multi_label, settings.seed
            )
            fitted.fit(
                *classifiers.examples(
                    target.train_embeddings, target.train_labels, fitted_on
                )
            )
            seconds = time.time() - start
            found = classifiers.scores_of(fitted, target.test_embeddings)
            yield method, fitted_on, found, seconds


def _train_networks(settings, source, target):
    keras.utils.set_random_seed(settings.seed)
    info, methods = target.info, settings.methods
    new = heads.NewHead(
        info.num_classes, info.multi_label, settings.head_units, settings.head_dropout
    )
    network = new.on(source, settings.embedding_layer)
    if {"head", "finetune"} & {*methods}:
        head = new.alone(target.train_embeddings.shape[1:])
        batches = target.embedded_batches()
        seconds = _fit(settings, "head", head, batches, info, settings.epochs)
    if "head" in methods:
        size = settings.batch_size
        found = head.predict(target.test_embeddings, batch_size=size, verbose=0)
        yield "head", "all", found, seconds
    if "finetune" in methods:
        keras.utils.set_random_seed(settings.seed)
        batches, epochs = target.batches(), settings.finetune_epochs
        seconds += _fit(settings, "finetune", network, batches, info, epochs)
        found, _ = predict_all(network.predict_on_batch, target.test)
        yield "finetune", "all", found, seconds
    if "scratch" in methods:
        keras.utils.set_random_seed(settings.seed)
        fresh = keras.models.clone_model(network)
        epochs = settings.scratch_epochs or settings.epochs + settings.finetune_epochs
        seconds = _fit(settings, "scratch", fresh, target.batches(), info, epochs)
        found, _ = predict_all(fresh.predict_on_batch, target.test)
        yield "scratch", "all", found, seconds


def _fit(settings, method, model, batches, info, epochs):
    """Trains on batches; returns the seconds it took."""
    print(f"{method}: {epochs} epochs")
    flag, rate = "lr", settings.lr
    if method == "finetune":
        flag, rate = "finetune_lr", settings.finetune_lr or settings.lr / 10
    steps = epochs * len(batches)
    optimization.compile_model(model, settings, steps, info.multi_label, lr=rate)
    start = time.time()
    try:
        model.fit(
            batches,
            epochs=epochs,
            verbose=settings.verbose,
            shuffle=False,  # batches shuffle themselves, by (seed, epoch)
            callbacks=[keras.callbacks.TerminateOnNaN(raise_error=True)],
        )
    except RuntimeError as error:
        if "NaN or Inf" not in str(error):
            raise
        raise ValueError(
            f"--{flag} must be one at which training stays finite, got {rate:g}: "
            f"{error}"
        ) from error
    return time.time() - start


def _source(settings):
    """The model of the run, with an axis of timesteps."""
    model = graph.flatten(
        load_model("run", pathlib.Path(settings.run, "model.keras")), "--run"
    )
    shape = model.output_shape
    if len(shape) != 3 or shape[1] is None:
        raise ValueError(
            "--run must lead to a model with timesteps, whose output is (batch, "
            f"timesteps, classes), got '{model.name}' with {shape}."
        )
    if settings.results and shape[1] > _COLUMNS:
        raise ValueError(
            f"--run must lead to a model of at most {_COLUMNS} timesteps with "
            f"--results, which has so many columns, got {shape[1]}."
        )
    return model


def _fits(settings, steps):
    """What forest and logistic are fitted on: numbers of iterations and `"all"`."""
    known = {str(step): step for step in range(1, steps + 1)} | {"all": "all"}
    names = dict.fromkeys(settings.fit_iterations or known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"--fit_iterations must be some of {', '.join(known)}, got {unknown[0]!r}, "
            "embeddings of an iteration that does not exist."
        )
    return [known[name] for name in names]


def _report(results, target):
    info, test = target.info, target.test_info
    print(
        f"{info.name}, {info.split} to {test.split}: {target.count} training images, "
        f"{test.num_examples} test images"
    )
    if info.multi_label:
        missing = np.flatnonzero(~target.test_labels.any(0))
        if len(missing):
            names = ", ".join(info.class_names[place] for place in missing)
            print(f"mean average precision leaves out, without an example: {names}")
        share = target.test_labels[:, target.test_labels.any(0)].mean()
        print(f"mean average precision of guesses, the share of labels: {share:.2%}")
    values, counts = np.unique(target.train_labels, axis=0, return_counts=True)
    same = target.test_labels == values[counts.argmax()]
    guess = same.reshape(len(same), -1).all(1).mean()
    print(f"the most frequent training label alone is right for {guess:.2%}")
    for metric in next(iter(results.values())):
        print(f"\n{metric} in % at iteration")
        table = [
            {"method": method, "fitted on": fitted_on}
            | {str(n): f"{value:.2f}" for n, value in enumerate(found[metric], start=1)}
            for (method, fitted_on), found in results.items()
        ]
        print(rows.format_table(table))


def _row(settings, method, fitted_on, found, seconds, target, steps):
    accuracy, *precision = found.values()
    count = max(_COLUMNS, steps)
    return {
        "experiment": settings.experiment_name,
        "config": settings.config or "",
        "seed": settings.seed,
        "run": pathlib.Path(settings.run).resolve().name,
        "method": method,
        "fitted_on": fitted_on,
        "dataset": settings.dataset,
        "classes": as_text(settings.classes),
        "train_split": settings.train_split,
        "train_examples": target.count,
        "eval_split": settings.eval_split,
        "eval_examples": target.test_info.num_examples,
        **rows.by_timestep("accuracy", accuracy, count),
        **rows.by_timestep("map", precision[0] if precision else [], count),
        "seconds": f"{seconds:.1f}",
        **machine.columns(settings),
    }


if __name__ == "__main__":
    launch(main, Settings)
