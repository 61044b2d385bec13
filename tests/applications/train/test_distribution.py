"""Several devices do what one does on the same global batch; a dead worker ends all."""

import json
import os
import signal
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest

from applications.train import distribution
from applications.train.distribution import workers
from tests.applications.command import ENVIRONMENT, ROOT, run_each
from tests.applications.train.devices import FAMILIES, SENSITIVE

QUICK = ["lenet", "lrnet"]
ALL = [name for name in FAMILIES if name != "dropout"]
LAUNCH = str(ROOT / "tools" / "launch_local.sh")


def start(count, *command, **environment):
    """A process of `count` workers of `python -m …`."""
    return subprocess.Popen(
        [LAUNCH, str(count), sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def trained(folder, families, distribution, count, backend, devices=1, workers=1):
    """What `tests.applications.train.devices` finds, one dict a worker."""
    given = {"distribution": distribution, "families": families, "count": count}
    given["logical_cpus"] = devices if devices > 1 else 0
    given["output"] = str(folder / f"{distribution}{devices}{workers}{{}}.npz")
    process = start(
        workers,
        "tests.applications.train.devices",
        json.dumps(given),
        KERAS_BACKEND=backend,
    )
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, output
    found = []
    for who in ("chief", "other")[:workers]:
        with np.load(given["output"].replace("{}", who)) as file:
            found.append(dict(file))
    return found


def assert_same(found, expected, full=3):
    """The losses of the full batches; scores and weights after one that is not."""
    families = {key.split("/")[0] for key in expected}
    for family in families:
        names = [key for key in expected if key.startswith(f"{family}/")]
        assert len(expected[f"{family}/losses"]) == full + 1
        for key in names:
            one, other = found[key], expected[key]
            bound = 2e-3 if family in SENSITIVE else 1e-5
            if key.endswith("/losses"):
                one, other, bound = one[:full], other[:full], 1e-4
            np.testing.assert_allclose(one, other, 1e-5, bound, err_msg=key)


def check(folder, families, **several):
    """One device against several, of one process or of two workers."""
    backend = "jax" if several["distribution"] == "data_parallel" else "tensorflow"
    # Of the last batch under JAX all devices must get the same; here 7 each.
    count = 62 if backend == "jax" else 61
    (one,) = trained(folder, families, "none", count, backend)
    found = trained(folder, families, count=count, backend=backend, **several)
    for each in found:
        assert_same(each, one)
        assert each.keys() == one.keys()
        for key, value in found[0].items():
            assert value.tobytes() == each[key].tobytes(), key


KINDS = {
    "mirrored": {"distribution": "mirrored", "devices": 2},
    "multi_worker": {"distribution": "multi_worker", "workers": 2},
    "jax devices": {"distribution": "data_parallel", "devices": 2},
    "jax processes": {"distribution": "data_parallel", "workers": 2},
}


@pytest.mark.slow
def test_two_workers_do_what_one_device_does(tmp_path):
    check(tmp_path, QUICK, **KINDS["multi_worker"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_devices_do_what_one_does_for_every_family(tmp_path, kind):
    """Without dropout: under TensorFlow its masks depend on the number of devices."""
    check(tmp_path, ALL, **KINDS[kind])


RUN = (
    "--model=lenet",
    '--model_args={"dropout": 0.5}',
    "--dataset=synthetic",
    "--train_split=train[:500]",
    "--eval_split=test[:50]",
    "--batch_size=16",
    "--save_batches=5",
)
BACKENDS = {"multi_worker": "tensorflow", "data_parallel": "jax"}


def launch(folder, kind, epochs):
    """Starts two workers of a run."""
    line = [*RUN, f"--distribution={kind}", f"--epochs={epochs}"]
    if kind == "data_parallel":
        line[3] = "--train_split=train[:496]"
    folder = f"--output_dir={folder}"
    backend = BACKENDS[kind]
    return start(2, "applications.train", *line, folder, KERAS_BACKEND=backend)


def break_off(folder, process, number):
    """Sends a signal to the second worker after the next checkpoint."""

    def written():
        """TensorFlow's are files, those of Orbax folders."""
        found = (folder / "checkpoints").glob("*")
        return {p for p in found if p.suffix == ".index" or p.name.isdecimal()}

    before, end = written(), time.monotonic() + 300
    while not written() - before:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.1)
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(children) as file:
        found = [int(child) for child in file.read().split()]
    named = []
    for child in found:
        with open(f"/proc/{child}/cmdline") as file:
            if "applications.train" in file.read():
                named.append(child)
    os.kill(named[1], number)
    sent = time.monotonic()
    output, _ = process.communicate(timeout=120)
    return output, time.monotonic() - sent


def weights_of(folder):
    import kfeedback  # noqa: F401

    return keras.models.load_model(folder / "model.keras").get_weights()


@pytest.mark.slow
@pytest.mark.parametrize("kind", BACKENDS)
def test_a_dead_worker_ends_all_and_a_restart_goes_on(tmp_path, kind):
    """Killed, then stopped by a signal to one of them, then run to the end."""
    epochs = 12
    whole = launch(tmp_path / "whole", kind, epochs)
    output, _ = whole.communicate(timeout=600)
    assert whole.returncode == 0, output
    parts = tmp_path / "parts"

    process = launch(parts, kind, epochs)
    output, seconds = break_off(parts, process, signal.SIGKILL)
    assert process.returncode == 128 + signal.SIGKILL, output
    assert seconds < 60
    assert "[0] error: " in output and "so worker 0 ends, too" in output
    assert "Traceback" not in output

    process = launch(parts, kind, epochs)
    output, seconds = break_off(parts, process, signal.SIGTERM)
    assert process.returncode == 143, output
    assert "[0] resumed at epoch" in output and seconds < 30
    assert "does not answer" not in output

    process = launch(parts, kind, epochs)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "[0] resumed at epoch" in output and "[1] resumed" not in output
    for one, other in zip(
        weights_of(parts), weights_of(tmp_path / "whole"), strict=True
    ):
        assert one.tobytes() == other.tobytes()


def config(**changes):
    task = {"type": "worker", "index": 0}
    found = {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": task}
    return json.dumps(found | changes)


def test_tf_config_names_the_workers():
    assert workers.from_tf_config(config()) == (["a:2222", "b:2222"], 0)
    cluster = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    for job, index, expected in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        text = config(cluster=cluster, task={"type": job, "index": index})
        assert workers.from_tf_config(text) == (["a:1", "b:1", "c:1"], expected)


BAD = {
    "none": (None, "in JSON, got 'none'"),
    "no JSON": ("{", "a JSON object"),
    "a list": ("[]", "a JSON object"),
    "no cluster": (config(cluster=None), "a 'cluster' of jobs, got None"),
    "another job": (config(cluster={"ps": ["a:1"]}), "alone, got ['ps']"),
    "no addresses": (config(cluster={"worker": []}), "a list of addresses a job"),
    "no port": (config(cluster={"worker": ["a"]}), "host:port, got 'a'"),
    "one twice": (config(cluster={"worker": ["a:1"] * 2}), "different addresses"),
    "no task": (config(task=None), "a 'task' with 'type' and 'index'"),
    "a strange task": (config(task={"type": "chief"}), "'type' among worker"),
    "too high": (config(task={"type": "worker", "index": 2}), "from 0 to 1, got 2"),
}


@pytest.mark.parametrize("text, says", BAD.values(), ids=BAD)
def test_a_wrong_tf_config_is_one_sentence(text, says):
    with pytest.raises(ValueError, match=r"^TF_CONFIG must hold .*, got .*") as caught:
        workers.from_tf_config(text)
    assert says in str(caught.value)


def test_keras_variables_name_the_processes():
    names = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")

    def found(*values):
        pairs = zip(names, values, strict=True)
        return workers.from_keras_variables(
            {f"KERAS_DISTRIBUTION_{name}": v for name, v in pairs if v}
        )

    assert found("", "", "") == (None, 1, 0)
    assert found("a:1,b:1", "2", "1") == ("a:1", 2, 1)
    for values, wrong in (
        (("a", "2", "0"), names[0]),
        (("a:1", "", "0"), names[1]),
        (("a:1", "2", ""), names[2]),
        (("a:1", "2", "2"), names[2]),
    ):
        with pytest.raises(ValueError, match=f"^KERAS_DISTRIBUTION_{wrong} must be"):
            found(*values)


def test_what_cannot_be_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    lines = {
        "--distribution=data_parallel": "must run on the jax backend",
        "--distribution=multi_worker": "TF_CONFIG must hold",
        "--distribution=multi_worker --logical_cpus=2": "--logical_cpus must be left",
        "--distribution=mirrored --wait_minutes=2": "--wait_minutes must be left out",
        "--distribution=many": "--distribution must be one of none, mirrored",
    }
    commands = [
        [*line.split(), "--dataset=synthetic", f"--output_dir={tmp_path}"]
        for line in lines
    ]
    results = run_each("applications.train", commands)
    for (code, output), says in zip(results, lines.values(), strict=True):
        assert code == 1 and says in output and "Traceback" not in output, output


@pytest.mark.parametrize("arguments", [[], ["2"], ["0", "true"], ["x", "true"]])
def test_the_launcher_refuses_what_it_does_not_understand(arguments):
    done = subprocess.run(
        [LAUNCH, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: the arguments must be a number of workers")


def test_the_launcher_names_workers_and_ends_all_with_one():
    script = (
        "echo here; [[ $KERAS_DISTRIBUTION_PROCESS_ID = 0 ]] && exec sleep 50; exit 3"
    )
    start = time.monotonic()
    done = subprocess.run(
        [LAUNCH, "2", "bash", "-c", script],
        env={**os.environ, "GRACE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3 and time.monotonic() - start < 20
    assert sorted(done.stdout.split("\n"))[1:] == ["[0] here", "[1] here"]


@pytest.mark.slow
def test_a_worker_does_not_wait_for_ever(tmp_path):
    """The first of two, alone."""
    script = '(($KERAS_DISTRIBUTION_PROCESS_ID)) || exec "$@"'
    line = [*RUN, "--distribution=multi_worker", "--wait_minutes=0.1"]
    command = [sys.executable, "-m", "applications.train", *line]
    done = subprocess.run(
        [LAUNCH, "2", "bash", "-c", script, "_", *command, f"--output_dir={tmp_path}"],
        cwd=ROOT,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "[0] error: TF_CONFIG must name workers that all start" in done.stdout
    assert "got none at 127.0.0.1:" in done.stdout and "Traceback" not in done.stdout


REFUSED = {
    "gradient accumulation": ({"gradient_accumulation_steps": 2}, {}),
    "float16": ({}, {}),
    "clipped gradients": ({"global_clipnorm": 1.0}, {}),
    "several steps an execution": ({}, {"steps_per_execution": 2}),
    "a compiled step": ({}, {"jit_compile": True}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_strategy_refuses_what_keras_cannot_do_under_it(what):
    optimizer, arguments = REFUSED[what]
    devices = distribution.Mirrored(types.SimpleNamespace(logical_cpus=0))
    with devices.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        optimizer = keras.optimizers.SGD(**optimizer)
        if what == "float16":  # as compile() does under that policy
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, "mse", **arguments)
    with pytest.raises(ValueError, match=what), devices.prepared(model):
        pass
