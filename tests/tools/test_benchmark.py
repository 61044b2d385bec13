import csv
import json
import os
import pathlib
import runpy
import subprocess
import sys

import keras
import numpy as np
import pytest

from applications.common import command_line
from applications.common.multiply_adds import UncountableError, count_multiply_adds
from tools import benchmark, timing
from tools.costs import MODES, Settings, measure


@pytest.fixture(autouse=True)
def small_convolutions(monkeypatch):
    monkeypatch.setattr(timing, "CONVOLUTIONS", ((8, 2), (16, 2)))


ROOT = pathlib.Path(__file__).parents[2]


def tiny(input_shape=(8, 8, 3), classes=5, timesteps=1, dilation=1):
    """A stem run once, a tail run `timesteps` times, and a head."""
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(image)
    again = keras.layers.Conv2D(4, 3, padding="same", dilation_rate=dilation)
    for _ in range(timesteps):
        x = again(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax")(x))


def not_a_model(width=3):
    return width


STEM, TAIL, HEAD = 4 * 4 * 4 * 9 * 3, 4 * 4 * 4 * 9 * 4, 4 * 5


def network(name):
    """A small network and its multiply-adds by hand; h · w · filters · taps."""
    layers = keras.layers
    x = image = keras.Input((9, 7, 4))
    if name == "strides":
        x, count = layers.Conv2D(6, 3, strides=2)(x), 4 * 3 * 6 * 9 * 4
    elif name == "same":
        x, count = layers.Conv2D(6, (5, 1), padding="same")(x), 9 * 7 * 6 * 5 * 4
    elif name == "depthwise":
        x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)
        count = 9 * 7 * 8 * 9
    elif name == "separable":
        x, count = layers.SeparableConv2D(6, 3)(x), 7 * 5 * (4 * 9 + 6 * 4)
    elif name == "groups":
        x, count = layers.Conv2D(6, 3, groups=2)(x), 7 * 5 * 6 * 9 * 2
    elif name == "transposed":
        x, count = layers.Conv2DTranspose(6, 3, strides=2)(x), 9 * 7 * 4 * 9 * 6
    elif name == "dense":
        x, count = layers.Dense(11)(layers.Flatten()(x)), 9 * 7 * 4 * 11
    elif name == "attention":
        x = layers.Reshape((63, 4))(x)
        x = layers.MultiHeadAttention(2, 8)(x, x)
        # Query, key, value and output, then the scores and their use.
        count = 4 * 63 * 4 * 16 + 2 * 63 * 63 * 16
    elif name == "shared":
        shared = layers.Conv2D(4, 3, padding="same")
        x, count = shared(shared(x)), 2 * 9 * 7 * 4 * 9 * 4
    elif name == "no product":
        x, count = layers.MaxPooling2D()(layers.BatchNormalization()(x)), 0
    return keras.Model(image, x), count


NETWORKS = [
    *("strides", "same", "depthwise", "separable", "groups", "transposed", "dense"),
    *("attention", "shared", "no product"),
]


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_adds_by_hand(name):
    model, count = network(name)
    assert count_multiply_adds(model) == count


def test_multiply_adds_of_known_network():
    model = keras.applications.MobileNetV2(weights=None)
    assert count_multiply_adds(model) == 300_774_272


@pytest.mark.parametrize("timesteps", [1, 2, 3])
def test_stem_counts_once_and_tail_every_time(timesteps):
    count = count_multiply_adds(tiny(timesteps=timesteps))
    assert count == STEM + timesteps * TAIL + HEAD


def test_input_shape_scales_the_count():
    model = tiny(input_shape=(None, None, 3))
    count = count_multiply_adds(model, (16, 16, 3))
    assert count == 4 * (STEM + TAIL) + HEAD
    with pytest.raises(ValueError, match="input_shape must be given"):
        count_multiply_adds(model)
    with pytest.raises(ValueError, match="input_shape must fit"):
        count_multiply_adds(model, (16, 16, 4))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TF's while loop")
def test_loop_of_unknown_length_is_refused():
    image = keras.Input((3, 8, 8, 2))
    model = keras.Model(image, keras.layers.ConvLSTM2D(4, 3)(image))
    with pytest.raises(UncountableError, match="how often"):
        count_multiply_adds(model)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_machine_speed_is_positive(dtype):
    assert timing.machine_conv_gflops(dtype, repeats=1, seconds=1e-3) > 0


def parse(*arguments):
    return command_line.parse(Settings, arguments)


QUICK = ("--repeats=2", "--seconds=0.001", "--batch_size=2", "--nofresh_process")


def test_rows_table_and_csv(tmp_path, capsys):
    path = tmp_path / "costs.csv"
    values = parse(
        "--model=tests.tools.test_benchmark.tiny",
        '--kwargs={"classes": 5}',
        "--timesteps=1,3",
        f"--csv={path}",
        *QUICK,
    )
    policy = keras.config.dtype_policy()
    benchmark.main(values)
    assert keras.config.dtype_policy() is policy
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["timesteps"] for row in rows] == ["1", "3"]
    assert [int(row["multiply_adds"]) for row in rows] == [
        STEM + n * TAIL + HEAD for n in (1, 3)
    ]
    for row in rows:
        assert row["input_shape"] == "8,8,3" and json.loads(row["kwargs"])
        for mode in MODES:
            speed = [
                float(row[f"{mode}_images_per_s{s}"]) for s in ("_min", "", "_max")
            ]
            assert 0 < speed[0] <= speed[1] <= speed[2]
            gflops = float(row[f"{mode}_gflops"])
            forwards = 3 if mode == "training" else 1
            expected = 2e-9 * forwards * int(row["multiply_adds"]) * speed[1]
            np.testing.assert_allclose(gflops, expected, rtol=1e-3)
            share = gflops / float(row["machine_conv_gflops"])
            np.testing.assert_allclose(float(row[f"{mode}_share"]), share, rtol=1e-3)
            ratio, cost = (float(row[f"{mode}_{n}"]) for n in ("time_ratio", "cost"))
            work = float(row["multiply_adds_ratio"])
            np.testing.assert_allclose(cost, ratio / work, rtol=1e-3)
    assert [float(rows[0][f"{mode}_cost"]) for mode in MODES] == [1, 1]
    printed = capsys.readouterr()
    assert "training, images/s" in printed.out and "repeat 2 of 2" in printed.err


def test_sequences_and_bfloat16_and_factories_without_timesteps():
    values = parse(
        "--model=tests.tools.test_benchmark.sequence", "--dtype=mixed_bfloat16", *QUICK
    )
    (row,) = measure(values)
    assert row["timesteps"] == "" and row["training_images_per_s"] > 0
    assert row["training_cost"] == ""
    benchmark.report([row])


def sequence():
    image = keras.Input((4, 4, 2))
    x = keras.layers.Dense(3)(keras.layers.Reshape((2, 16))(image))
    return keras.Model(image, x)


BAD = {
    "model": ("keras.applications.Nope", "dotted name"),
    "kwargs": ('{"classes": ', "JSON object"),
    "timesteps": ("1,0", "integers ≥ 1"),
    "input_shape": ("8,8,x", "integers ≥ 1"),
    "mode": ("inferense", "some of inference, training"),
    "seconds": ("nan", "> 0 and < 3600"),
}


@pytest.mark.parametrize("flag", BAD)
def test_bad_flag_is_named(flag):
    value, takes = BAD[flag]
    good = {"model": "tests.tools.test_benchmark.tiny"}
    arguments = [f"--{name}={text}" for name, text in (good | {flag: value}).items()]
    with pytest.raises(ValueError) as raised:
        benchmark.main(parse(*QUICK, *arguments))
    message = str(raised.value)
    assert message.startswith(f"--{flag} must") and takes in message
    assert value.split("/")[0] in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=keras.applications.VGG16", "--timesteps=2"], "--timesteps must be"),
        (["--model=keras.applications.VGG16", '--kwargs={"clases": 3}'], "clases"),
        (["--model=tests.tools.test_benchmark.not_a_model"], "which returns int"),
        (["--kwargs=3", "--model=x.y"], "--kwargs must be a JSON object"),
        (['--kwargs={"timesteps": 2}', "--model=x.y"], "leave timesteps to"),
        (
            ["--model=tests.tools.test_benchmark.tiny", "--timesteps=2,2"],
            "--timesteps must be different",
        ),
        (
            ["--model=tests.tools.test_benchmark.tiny", "--input_shape=0,8,3"],
            "--input_shape must be integers ≥ 1",
        ),
        (
            ["--model=tests.tools.test_benchmark.tiny", '--kwargs={"dilation": "a"}'],
            "--kwargs must hold arguments",
        ),
    ],
)
def test_bad_combination_is_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        benchmark.main(parse(*arguments, *QUICK))


def test_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="batch_size"):
        parse("--model=tests.tools.test_benchmark.tiny", "--batch_size=0")


def test_csv_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="--csv must be a file with the columns"):
        benchmark.main(
            parse("--model=tests.tools.test_benchmark.tiny", f"--csv={path}", *QUICK)
        )
    assert path.read_text() == "a,b\n1,2\n"


def run(*arguments, backend):
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


JAX_COUNTS = """
import sys
sys.modules["tensorflow"] = None
import keras
import tools.compare
from tests.tools import test_benchmark as here
# JAX would compile a program for the random values of every shape.
ones = lambda self, shape, dtype=None: keras.ops.ones(shape, dtype)
keras.initializers.GlorotUniform.__call__ = ones
here.timing.CONVOLUTIONS = ((8, 2),)
for name in here.NETWORKS:
    model, count = here.network(name)
    found = here.count_multiply_adds(model)
    assert found == count, (name, found, count)
settings = here.Settings(
    model="tests.tools.test_benchmark.tiny",
    timesteps=(1, 2), batch_size=2, repeats=1, seconds=1e-3, fresh_process=False,
)
one, two = here.measure(settings)
assert two["multiply_adds"] - one["multiply_adds"] == here.TAIL
assert two["backend"] == "jax" and two["training_images_per_s"] > 0
print(here.benchmark.report([one, two]))
"""


def test_jax_without_tensorflow_agrees():
    pytest.importorskip("jax")
    done = run("-c", JAX_COUNTS, backend="jax")
    assert done.returncode == 0, done.stderr
    assert "jax backend" in done.stdout


def test_stray_argument_ends_without_traceback(monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmark", "--model=a.b", "stray"])
    monkeypatch.delitem(sys.modules, "tools.benchmark")
    with pytest.raises(SystemExit, match=r"^error: .*'stray'"):
        runpy.run_module("tools.benchmark", run_name="__main__", alter_sys=True)


@pytest.mark.slow
def test_first_run_in_a_fresh_process():
    settings = Settings(
        model="tests.tools.test_benchmark.tiny", timesteps=(1,), repeats=1, seconds=1e-3
    )
    (row,) = measure(settings)
    peaks = [row[f"peak_mb_{name}"] for name in ("before", *MODES)]
    assert 50 < peaks[0] <= peaks[1] <= peaks[2]
    assert row["build_s"] > 0 and row["first_inference_s"] > 0
