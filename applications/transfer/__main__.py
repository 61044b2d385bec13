"""Transfers a trained feedback network to other data, and tests every iteration.

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
from absl import flags

import kfeedback  # noqa: F401  (registers the layers that a saved model holds)
from applications import (
    _app,
    _data,
    _figures,
    _optimization,
    _scores,
    _transfer,
    _transfer_data,
)
from applications import _transfer_figures as pictures
from kfeedback import graph

METHODS = ("head", "finetune", "forest", "logistic", "scratch")
_NETWORKS = ("head", "finetune", "scratch")
_COLUMNS = 4  # iterations of a row
_OF_THE_RUN = ("preprocessing", "image_size", "batch_size", "discount")
_OF_THE_RUN += ("data_dir", "manual_dir")

flags.DEFINE_string("run", None, "Folder that applications.train wrote (required).")
flags.DEFINE_list("methods", list(METHODS), f"Some of {', '.join(METHODS)}.")
flags.DEFINE_string(
    "embedding_layer",
    "embedding",
    "The layer, called once an iteration, whose outputs are the embeddings.",
)
flags.DEFINE_list(
    "fit_iterations",
    [],
    "What forest and logistic are fitted on, each in turn: numbers of iterations from "
    "1, or all; by default each and all.",
)
flags.DEFINE_integer("head_units", 256, "Of its first layer.", lower_bound=1)
_app.define_number(
    "head_dropout", 0.5, "Dropped before both layers of it.", least=0, below=1
)
flags.DEFINE_integer("epochs", 5, "Of head.", lower_bound=1)
flags.DEFINE_integer(
    "finetune_epochs", 5, "Of finetune, after those of head.", lower_bound=1
)
flags.DEFINE_float("finetune_lr", None, "Of finetune; by default a tenth of --lr.")
flags.DEFINE_integer(
    "scratch_epochs",
    None,
    "Of scratch; by default as many as head and finetune have together.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Of weights, order, dropout, forest and regression.",
    lower_bound=0,
    upper_bound=2**32 - 1,
)
flags.DEFINE_bool("figures", True, "Draw the figures of the paper.")
flags.DEFINE_string("output_dir", None, "Folder of what it writes (required).")
flags.DEFINE_string(
    "results",
    None,
    "CSV file that gets the rows; transfer.csv in --output_dir if none.",
)
flags.DEFINE_string(
    "experiment", "", "What the rows are called; the name of --output_dir if none."
)
flags.DEFINE_enum("verbose", "1", ["0", "1", "2"], "Progress as in keras.Model.fit.")
flags.register_validator(
    "finetune_lr",
    lambda rate: rate is None or 0 < rate < float("inf"),
    "--finetune_lr must be a number above 0.",
)
FLAGS = flags.FLAGS
FLAGS.set_default("dataset", None)
FLAGS.set_default("optimizer", "adam")
FLAGS.set_default("lr", 0.001)
FLAGS.set_default("weight_decay", 0.0)


def main():
    """Transfers by every method, prints, writes."""
    output = pathlib.Path(_app.required("output_dir"))
    run = pathlib.Path(_app.required("run"))
    stored = _app.stored_flags(run)
    _app.take_flags({name: stored.get(name) for name in _OF_THE_RUN})
    if FLAGS.config:
        _app.apply_config(FLAGS.config)  # goes before the flags of the run
    _app.required("dataset")
    methods = _methods()
    _check_flags(methods)
    if stored.get("mixed_precision"):
        keras.config.set_dtype_policy("mixed_bfloat16")
    source = _source(run)
    fits = _fits(source.output_shape[1])
    preprocess = _data.get_preprocess(run, fit=False)
    target = _transfer_data.Target(source, preprocess, FLAGS.seed)
    embedder = _transfer.embedding_model(source, FLAGS.embedding_layer)
    # Models of several sizes of batch are several graphs, which it would warn of.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    results_file = FLAGS.results or output / "transfer.csv"
    output.mkdir(parents=True, exist_ok=True)
    empty = {"accuracy": []}
    columns = _row("", "", empty, 0.0, target, source)
    _app.open_rows(results_file, columns)[0].close()

    target.embed(embedder)
    results, rows = {}, []
    for method, fitted_on, scores, seconds in _transfers(methods, fits, source, target):
        found = {"accuracy": _scores.accuracy(scores, target.test_labels)}
        if target.info.multi_label:
            found = {
                "exact match": found["accuracy"],
                "mean average precision": _scores.mean_average_precision(
                    scores, target.test_labels
                ),
            }
        results[method, fitted_on] = found
        rows.append(_row(method, fitted_on, found, seconds, target, source))
    for row in rows:
        _app.append_row(results_file, row)
    _report(results, target)
    if FLAGS.figures:
        title = (
            f"From {run.name} to {pathlib.Path(target.info.name).name}: {target.count} "
            f"training images, {target.test_info.num_examples} test images"
        )
        for path in pictures.draw_all(results, output, title):
            print(f"wrote {path}")


def _transfers(methods, fits, source, target):
    """Yields `(method, fitted on, scores (N, T, classes), seconds)`."""
    networks = [method for method in methods if method in _NETWORKS]
    if networks:
        yield from _train_networks(networks, source, target)
    for method in ("forest", "logistic"):
        if method not in methods:
            continue
        for fitted_on in fits:
            print(f"{method} fitted on iteration {fitted_on}")
            start = time.time()
            fitted = _transfer.classifier(method, target.info.multi_label, FLAGS.seed)
            fitted.fit(
                *_transfer.examples(
                    target.train_embeddings, target.train_labels, fitted_on
                )
            )
            seconds = time.time() - start
            scores = _transfer.scores_of(fitted, target.test_embeddings)
            yield method, fitted_on, scores, seconds


def _train_networks(methods, source, target):
    keras.utils.set_random_seed(FLAGS.seed)
    info = target.info
    new = _transfer.NewHead(
        info.num_classes, info.multi_label, FLAGS.head_units, FLAGS.head_dropout
    )
    network = new.on(source, FLAGS.embedding_layer)
    if {"head", "finetune"} & set(methods):
        head = new.alone(target.train_embeddings.shape[1:])
        data = (target.train_embeddings, target.train_labels)
        seconds = _fit("head", head, data, info, FLAGS.epochs)
    if "head" in methods:
        size = FLAGS.batch_size
        scores = head.predict(target.test_embeddings, batch_size=size, verbose=0)
        yield "head", "all", scores, seconds
    if "finetune" in methods:
        keras.utils.set_random_seed(FLAGS.seed)
        rate = FLAGS.finetune_lr or FLAGS.lr / 10
        epochs = FLAGS.finetune_epochs
        seconds += _fit("finetune", network, (target.batches(),), info, epochs, rate)
        scores, _ = _transfer.outputs_of(network, target.test)
        yield "finetune", "all", scores, seconds
    if "scratch" in methods:
        keras.utils.set_random_seed(FLAGS.seed)
        fresh = keras.models.clone_model(network)
        epochs = FLAGS.scratch_epochs or FLAGS.epochs + FLAGS.finetune_epochs
        seconds = _fit("scratch", fresh, (target.batches(),), info, epochs)
        scores, _ = _transfer.outputs_of(fresh, target.test)
        yield "scratch", "all", scores, seconds


def _fit(method, model, data, info, epochs, rate=None):
    """Trains on `(batches,)` or `(inputs, labels)`; returns the seconds it took."""
    print(f"{method}: {epochs} epochs")
    in_batches = len(data) == 1
    steps = len(data[0]) if in_batches else -(-len(data[0]) // FLAGS.batch_size)
    _optimization.compile_model(model, steps, info.multi_label, lr=rate, epochs=epochs)
    start = time.time()
    try:
        model.fit(
            *data,
            batch_size=None if in_batches else FLAGS.batch_size,
            epochs=epochs,
            verbose=int(FLAGS.verbose),
            shuffle=not in_batches,  # batches shuffle themselves, by (seed, epoch)
            callbacks=[keras.callbacks.TerminateOnNaN(raise_error=True)],
        )
    except RuntimeError as error:  # of TerminateOnNaN
        flag = "lr" if rate is None or FLAGS.finetune_lr is None else "finetune_lr"
        raise ValueError(
            f"--{flag} must be one at which training stays finite, got "
            f"{FLAGS[flag].value}: {error}"
        ) from error
    return time.time() - start


def _methods():
    """--methods, checked."""
    unknown = [method for method in FLAGS.methods if method not in METHODS]
    if unknown or not FLAGS.methods:
        raise ValueError(
            f"--methods must hold some of {', '.join(METHODS)}, got "
            f"{','.join(FLAGS.methods)!r}."
        )
    return FLAGS.methods


def _check_flags(methods):
    """Refuses flags that would have no effect, and what is not installed."""
    reason = f"--methods={','.join(methods)}"
    only = {
        ("fit_iterations",): ("forest", "logistic"),
        ("finetune_lr",): ("finetune",),
        ("scratch_epochs",): ("scratch",),
        ("flip", "shift"): ("finetune", "scratch"),
        ("epochs", "finetune_epochs", "discount", "lr", "optimizer"): _NETWORKS,
        ("head_units", "head_dropout", "lr_drops", "weight_decay"): _NETWORKS,
    }
    for names, users in only.items():
        if not set(users) & set(methods):
            _app.refuse(names, reason)
    _optimization.drops()
    if {"forest", "logistic"} & set(methods):
        _scores.require_sklearn()
    if FLAGS.figures:
        _figures.pyplot()


def _source(run):
    """The model of the run, with an axis of timesteps."""
    model = graph.flatten(_app.load_model("run", run / "model.keras"), "--run")
    shape = model.output_shape
    if len(shape) != 3 or shape[1] is None:
        raise ValueError(
            "--run must lead to a model with timesteps, whose output is (batch, "
            f"timesteps, classes), got '{model.name}' with {shape}."
        )
    if FLAGS.results and shape[1] > _COLUMNS:
        raise ValueError(
            f"--run must lead to a model of at most {_COLUMNS} timesteps with "
            f"--results, which has so many columns, got {shape[1]}."
        )
    return model


def _fits(steps):
    """What forest and logistic are fitted on: numbers of iterations and `"all"`."""
    known = {str(step): step for step in range(1, steps + 1)} | {"all": "all"}
    names = dict.fromkeys(FLAGS.fit_iterations or known)
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
        print(_app.format_table(table))


def _row(method, fitted_on, found, seconds, target, source):
    steps = max(_COLUMNS, source.output_shape[1])
    accuracy, *precision = found.values()
    row = {
        "experiment": FLAGS.experiment or pathlib.Path(FLAGS.output_dir).name,
        "config": FLAGS.config or "",
        "seed": FLAGS.seed,
        "run": pathlib.Path(FLAGS.run).resolve().name,
        "method": method,
        "fitted_on": fitted_on,
        "dataset": FLAGS.dataset,
        "classes": ",".join(FLAGS.classes),
        "train_split": FLAGS.train_split,
        "train_examples": target.count,
        "eval_split": FLAGS.eval_split,
        "eval_examples": target.test_info.num_examples,
    }
    for name, values in (
        ("accuracy", accuracy),
        ("map", precision[0] if precision else []),
    ):
        padded = [f"{value:.2f}" for value in values] + [""] * (steps - len(values))
        row |= {f"{name}_t{n}": value for n, value in enumerate(padded, start=1)}
    return {
        **row,
        "seconds": f"{seconds:.1f}",
        "dtype": keras.config.dtype_policy().name,
        "backend": keras.backend.backend(),
        "hardware": _app.hardware(),
        "flags": _app.command_line(),
    }


if __name__ == "__main__":
    _app.launch(main)
