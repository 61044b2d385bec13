r"""Compares the speed of the input with that of training on one batch in memory.

    python -m tools.input_speed --config=crcn_cifar10 --model=vgg_small
    python -m tools.input_speed --dataset=./imagenette --image_size=112 \
        --random_crop=0.08,1 --flip --images=13000,130000 --csv=input.csv

Takes the flags of applications.train, of which it refuses some that have no effect
here, and prints images/s of the input alone, of training on one batch over and over,
and of training on the input: medians of --repeats, which take turns. Before that it
streams --images, epoch after epoch, and prints the greatest memory of the process so
far; at the end it prints what share of the time checkpoints take at --save_minutes. A
run is not written.
"""

import dataclasses
import itertools
import pathlib
import statistics
import tempfile
import time

import keras

from applications.common import data, optimization
from applications.common.command_line import launch
from applications.common.machine import hardware
from applications.common.rows import append_rows, check_columns
from applications.common.settings import changed, field
from applications.train.checkpoints import Checkpoints
from applications.train.network import build, with_timesteps
from applications.train.settings import Settings as Training
from tools import timing

_WARM = 3  # batches that are not timed
_UNUSED = ("freeze_batch_norm", "validation_freq", "distribution", "tensorboard")
_UNUSED += ("results",)

_COLUMNS = ("input_images_per_s", "training_images_per_s", "both_images_per_s", "share")
_COLUMNS += ("save_s", "save_share", "hardware", "flags")


@dataclasses.dataclass(frozen=True)
class Settings(Training):
    """The flags of tools.input_speed."""

    output_dir: str | None = changed(Training, "output_dir", ".", required=False)
    seconds: float = field(5.0, "That each measurement takes, about.", above=0)
    repeats: int = field(3, "Measurements of each.", least=1)
    images: tuple[int, ...] = field((), "Images to stream for the memory.", least=1)
    csv: str | None = field(None, "File that gets a row.")

    def check(self):
        """Refuses what cannot be measured."""
        self.refuse(_UNUSED, "tools.input_speed")
        super().check()
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "KERAS_BACKEND must be tensorflow, which streams, got "
                f"{keras.backend.backend()}."
            )
        if self.preprocessing in data.FITTED:
            raise ValueError(
                "--preprocessing must be one that nothing is fitted for, got "
                f"{self.preprocessing}."
            )


def main(settings):
    """Measures and prints."""
    counts = sorted(settings.images)
    peaks = [f"mib_at_{count}" for count in counts]
    check_columns(settings.csv, ("dataset", "batch_size", *peaks, *_COLUMNS), "csv")
    policy = optimization.precision_policy(settings.mixed_precision)
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(settings.seed)
    preprocess = data.get_preprocess(settings.preprocessing, None)
    of_epoch, info = data.load_epochs(settings, preprocess)
    if info.num_examples < settings.batch_size * (_WARM + 2):
        raise ValueError(
            f"--batch_size must leave at least {_WARM + 2} batches an epoch, got "
            f"{settings.batch_size} for {info.num_examples} images."
        )
    row = {"dataset": settings.dataset, "batch_size": settings.batch_size}
    print(f"{settings.dataset}, batches of {settings.batch_size}, {hardware()}")
    for count, peak in _peaks(of_epoch, counts):
        row[f"mib_at_{count}"] = f"{peak:.0f}"
        print(f"{count} images streamed: at most {peak:.0f} MiB")

    model = with_timesteps(build(settings, info))
    optimization.compile_model(model, settings, 10**9, info.multi_label)
    speeds = {name: [] for name in ("input", "training", "both")}
    for epoch in range(settings.repeats):
        batches = _full(of_epoch(epoch, 0), settings.batch_size, info)
        one = batches.take(1).cache().repeat()
        first = _train(model, one, _WARM + 2, settings.batch_size)
        count = max(1, round(settings.seconds * first / settings.batch_size))
        speeds["input"].append(_read(batches, settings))
        speeds["training"].append(_train(model, one, count, settings.batch_size))
        speeds["both"].append(_train(model, batches, count, settings.batch_size))
    found = {name: statistics.median(values) for name, values in speeds.items()}
    for name, speed in found.items():
        row[f"{name}_images_per_s"] = f"{speed:.1f}"
    share = row["share"] = f"{found['both'] / found['training']:.3f}"
    print(
        f"images/s: input {found['input']:.1f}, training on one batch "
        f"{found['training']:.1f}, on the input {found['both']:.1f}, that is {share}"
    )
    seconds = _save_seconds(model, settings.repeats)
    share = seconds / (60 * settings.save_minutes)
    row |= {"save_s": f"{seconds:.3f}", "save_share": f"{share:.5f}"}
    print(
        f"a checkpoint takes {seconds:.2f} s, {share:.2%} of the time at one every "
        f"{settings.save_minutes:g} minutes"
    )
    row |= {"hardware": hardware(), "flags": settings.command_line(also=("config",))}
    append_rows(settings.csv, [row], "csv")


def _save_seconds(model, repeats):
    """Seconds that one checkpoint of a compiled model takes, a median."""
    variables, times = [*model.variables, *model.optimizer.variables], []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(pathlib.Path(folder), variables, keep=2)
        for _ in range(repeats):
            start = time.perf_counter()
            checkpoints.save({})
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _full(batches, size, info):
    """An epoch's batches over and over, without a last smaller one."""
    return batches.take(info.num_examples // size).repeat()


def _peaks(of_epoch, counts):
    """The greatest memory of the process in MiB, after so many images each."""
    seen = 0
    images = itertools.chain.from_iterable(of_epoch(n, 0) for n in itertools.count())
    for count in counts:
        while seen < count:
            seen += len(next(images)[0])
        yield count, timing.peak_mb()


def _read(batches, settings):
    """Images per second of the input alone."""
    times = []
    for _ in batches:
        times.append(time.perf_counter())
        if len(times) > _WARM + 1 and times[-1] - times[_WARM] > settings.seconds:
            break
    return settings.batch_size * (len(times) - 1 - _WARM) / (times[-1] - times[_WARM])


def _train(model, batches, count, size):
    """Images per second of `fit` on so many batches after the first ones."""

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == _WARM - 1:
                float(logs["loss"])  # waits for it
                self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            float(logs["loss"])
            self.seconds = time.perf_counter() - self.start

    clock = Clock()
    model.fit(
        batches,
        steps_per_epoch=_WARM + count,
        verbose=0,
        shuffle=False,
        callbacks=[clock],
    )
    return size * count / clock.seconds


if __name__ == "__main__":
    launch(main, Settings)
