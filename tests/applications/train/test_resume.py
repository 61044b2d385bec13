"""The same command goes on, whatever ended it."""

import json
import re
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from kfeedback.datasets.arrays import epoch_plan
from tests.applications.command import (
    ENVIRONMENT,
    ROOT,
    run,
    run_alone,
    run_code,
    run_each,
)

FLAGS = (
    "--model=lenet",
    '--model_args={"dropout": 0.5}',
    "--dataset=synthetic",
    "--train_split=train[:160]",
    "--eval_split=test[:40]",
    "--epochs=3",
    "--batch_size=16",
    "--flip",
    "--shift=2",
    "--save_batches=1",
)

# Imports once, then forks a run for each line on its input: `<seconds> <flag> …`, after
# which it is killed. Prints exit code and output of each as JSON.
_FORKS = """
import json, os, signal, sys, tempfile, threading
from applications.common.command_line import launch
import applications.train.__main__ as train
for line in sys.stdin:
    seconds, *arguments = json.loads(line)
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.argv = ["applications.train", *arguments]
            code = 0
            try:
                launch(train.main, train.Settings)
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
                print("" if isinstance(stop.code, int) else stop.code)
            sys.stdout.flush()
            os._exit(code or 0)
        timer = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
        timer.start()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        timer.cancel()
        output.seek(0)
        print("RESULT" + json.dumps([code, output.read()]), flush=True)
"""


def weights(folder):
    with h5py.File(folder / "weights.h5") as file:
        found = {}
        file.visititems(
            lambda name, item: (
                found.update({name: item[...]}) if hasattr(item, "shape") else None
            )
        )
    return found


def assert_same_result(one, two):
    assert (one / "epochs.csv").read_text() == (two / "epochs.csv").read_text()
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys() and first
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing ended, and what it said."""
    folder = tmp_path_factory.mktemp("whole")
    ((code, output),) = run_each(
        "applications.train", [[*FLAGS, f"--output_dir={folder}"]]
    )
    assert code == 0, output
    return folder, output


def test_a_finished_run_does_nothing_and_other_flags_are_refused(whole):
    folder, output = whole
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    lines = {
        "again": [],
        "--lr": ["--lr=0.02"],
        "--seed": ["--seed=1"],
        "--epochs": ["--epochs=4"],
        "--model_args": ['--model_args={"dropout": 0.4}'],
    }
    done = run_each(
        "applications.train",
        [[*FLAGS, f"--output_dir={folder}", *more] for more in lines.values()],
    )
    code, again = done[0]
    assert code == 0 and "finished already" in again
    assert output.splitlines()[-1] == again.splitlines()[-1]  # the error
    for flag, (code, text) in list(zip(lines, done, strict=True))[1:]:
        assert code == 1 and f"{flag} must be" in text, text
        assert len(text.strip().splitlines()) == 1, text
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert after == before


def test_finished_epochs_without_a_checkpoint_are_no_new_start(whole, tmp_path):
    folder, _ = whole
    about = json.loads((folder / "run.json").read_text())
    del about["errors"]
    (tmp_path / "run.json").write_text(json.dumps(about))
    (tmp_path / "epochs.csv").write_text((folder / "epochs.csv").read_text())
    ((code, text),) = run_each(
        "applications.train", [[*FLAGS, f"--output_dir={tmp_path}"]]
    )
    assert code == 1 and "--output_dir must hold the checkpoints of its run" in text


@pytest.mark.slow
def test_what_never_saved_is_no_run(tmp_path):
    """A run that failed at once does not hold its folder against better flags."""
    (tmp_path / "run.json").write_text(json.dumps({"flags": {"lr": 9.0}}))
    line = [*FLAGS, "--epochs=1", "--train_split=train[:16]"]
    ((code, output),) = run_each(
        "applications.train", [[*line, f"--output_dir={tmp_path}"]]
    )
    assert code == 0, output
    assert json.loads((tmp_path / "run.json").read_text())["flags"]["lr"] == 0.01


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends(whole, tmp_path, number):
    command = [sys.executable, "-m", "applications.train", *FLAGS]
    command += [f"--output_dir={tmp_path}", "--save_batches=0"]
    results = tmp_path / "rows.csv"
    command += [f"--results={results}"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    while not (tmp_path / "epochs.csv").exists():  # then it is in the second epoch
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    start = time.monotonic()
    process.send_signal(number)
    while not (tmp_path / "checkpoints" / "ckpt-2.index").exists():
        assert time.monotonic() - start < 10
        time.sleep(0.02)
    assert process.wait(timeout=60) == 128 + number
    assert len(results.read_text().splitlines()) == 1  # the names of columns
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert re.search(rb"resumed at epoch [23], batch \d+", done.stdout), done.stdout
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True)
    assert len(results.read_text().splitlines()) == 2
    assert_same_result(tmp_path, whole[0])


@pytest.mark.slow
def test_thirty_kills(whole, tmp_path):
    """Of runs that save after each batch: many are killed while they save."""
    random = np.random.default_rng(0)
    process = subprocess.Popen(
        [sys.executable, "-c", _FORKS],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def attempt(folder, seconds):
        line = [seconds, *FLAGS, f"--output_dir={folder}"]
        process.stdin.write(json.dumps(line) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline().removeprefix("RESULT"))

    kills, saving, folder_number = 0, 0, 0
    start = time.monotonic()
    assert attempt(tmp_path / "whole", 600)[0] == 0
    most = time.monotonic() - start
    while kills < 30:
        folder_number += 1
        folder, reached = tmp_path / f"run{folder_number}", (0, 0)
        while True:
            code, output = attempt(folder, float(random.uniform(0.3, 1.0)) * most)
            found = re.search(r"resumed at epoch (\d+), batch (\d+)", output)
            if found:
                place = tuple(map(int, found.groups()))
                # Nothing that was saved is lost, but for what was being saved.
                assert place >= reached, (place, reached, output)
            assert "anew" not in output
            drafts = list((folder / "checkpoints").glob("*temp*"))
            saving += bool(drafts)
            reached = saved(folder) or reached
            if code == 0:
                break
            assert code == -signal.SIGKILL, output
            kills += 1
        assert_same_result(folder, whole[0])
    process.stdin.close()
    process.wait(timeout=60)
    print(f"{kills} kills, {saving} of them while a checkpoint was written")


def saved(folder):
    """The place of the newest checkpoint that is whole, read by TensorFlow alone."""
    import tensorflow as tf

    indices = (folder / "checkpoints").glob("ckpt-*.index")
    for path in sorted(indices, key=lambda p: -int(p.stem[5:])):
        try:
            reader = tf.train.load_checkpoint(str(path.with_suffix("")))
            text = reader.get_tensor("position/.ATTRIBUTES/VARIABLE_VALUE").decode()
        except (tf.errors.OpError, ValueError):
            continue
        position = json.loads(text)["position"]
        return position["epoch"] + 1, position["batch"]
    return None


@pytest.mark.slow
def test_a_stop_in_the_validation_of_averages_under_jax():
    """Where `evaluate` ends with the averages in what Keras holds of the model."""
    pytest.importorskip("jax")
    arguments = ["-n0", "tests/applications/train/test_loop.py", "-k", "validation"]
    output = run_alone("pytest", "-q", *arguments, KERAS_BACKEND="jax")
    assert "1 passed" in output


@pytest.mark.slow
def test_averages_are_saved_of_a_network_whose_batch_norms_were_frozen(tmp_path):
    output = run(
        "applications.train",
        "--model=vgg_small",
        '--model_args={"width": 0.5}',
        "--init_from=vgg_small_cifar10",
        "--dataset=synthetic",
        "--train_split=train[:32]",
        "--eval_split=test[:16]",
        "--batch_size=16",
        "--epochs=1",
        "--freeze_batch_norm",
        "--ema=0.5",
        f"--output_dir={tmp_path}",
    )
    assert "error at timestep 1" in output and (tmp_path / "weights.h5").is_file()


def test_orders_are_those_of_seed_and_epoch_in_any_process():
    code = "import json; from kfeedback.datasets.arrays import epoch_plan; "
    code += "print(json.dumps([epoch_plan(50, 3, e)[0].tolist() for e in range(5)]))"
    output = run_code(code, KERAS_BACKEND="jax")
    orders = json.loads(output.splitlines()[-1])
    assert orders == [epoch_plan(50, 3, e)[0].tolist() for e in range(5)]
    assert len({tuple(order) for order in orders}) == 5
