"""The folder of a run."""

import json

import pytest

from applications.train.__main__ import fitting
from applications.train.run import Run
from applications.train.settings import Settings


def settings(folder, **flags):
    return Settings(output_dir=str(folder), model="lenet", **flags)


def begun(folder):
    """A folder in which a run has saved."""
    Run(settings(folder)).write()
    (folder / "checkpoints").mkdir()
    return folder


OBJECTS = {"model_args", "backbone_args", "augment"}  # in JSON

# What changes nothing of what comes out; all other flags must be those of the run.
MAY_DIFFER = {"output_dir", "verbose", "keep"}
MAY_DIFFER |= {"save_minutes", "save_batches", "wait_minutes"}


def test_only_what_changes_nothing_may_differ_when_a_run_goes_on(tmp_path):
    folder = begun(tmp_path / "run")
    path = folder / "run.json"
    about = json.loads(path.read_text())
    assert set(about["flags"]) > MAY_DIFFER
    for name in about["flags"]:
        another = '{"a": 1}' if name in OBJECTS else "another"
        other = about | {"flags": about["flags"] | {name: another}}
        path.write_text(json.dumps(other))
        if name in MAY_DIFFER:
            assert Run(settings(folder)).began
        else:
            with pytest.raises(ValueError, match=f"--{name} must be '{another[:2]}"):
                Run(settings(folder))


def test_one_process_at_a_time(tmp_path):
    one, two = (Run(settings(tmp_path / "run")) for _ in range(2))
    refused = pytest.raises(ValueError, match="no other process trains in")
    with one.claimed(), refused, two.claimed():
        pass
    with two.claimed():
        pass


def test_a_file_is_no_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        refused = pytest.raises(ValueError, match="--output_dir must be a folder that")
        with refused, Run(settings(folder)).claimed():
            pass


def test_checkpoints_without_run_json_are_not_gone_on_with(tmp_path):
    begun(tmp_path)
    Run(settings(tmp_path))
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match="--output_dir must be a folder that appl"):
        Run(settings(tmp_path, lr=0.5))


@pytest.mark.parametrize("about", [{"flags": []}, {"flags": None}, [], {}])
def test_damaged_run_json(tmp_path, about):
    (begun(tmp_path) / "run.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="holds no flags"):
        Run(settings(tmp_path))


@pytest.mark.parametrize("errors", ["abc", ["abc"], {}])
def test_damaged_errors(tmp_path, errors):
    path = begun(tmp_path) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"errors": errors}))
    with pytest.raises(ValueError, match="errors that are no numbers"):
        Run(settings(tmp_path))


def test_a_run_goes_on_in_the_precision_in_which_it_began(tmp_path):
    """`auto` may be another one on another machine."""
    run = Run(settings(tmp_path / "run", mixed_precision="auto"))
    assert not run.began
    run.require_policy("mixed_bfloat16")
    run.write()
    (tmp_path / "run" / "checkpoints").mkdir()
    again = Run(settings(tmp_path / "run", mixed_precision="auto"))
    assert again.began
    again.require_policy("mixed_bfloat16")
    with pytest.raises(ValueError, match="--mixed_precision must lead to mixed_bfl"):
        again.require_policy("float32")


def test_a_run_goes_on_under_the_backend_under_which_it_began(tmp_path):
    """Another one would find no checkpoint, and start anew."""
    run = Run(settings(tmp_path))
    run.require_backend("tensorflow")
    run.write()
    (tmp_path / "checkpoints").mkdir()
    Run(settings(tmp_path)).require_backend("tensorflow")
    with pytest.raises(ValueError, match="KERAS_BACKEND must be tensorflow, as"):
        Run(settings(tmp_path)).require_backend("jax")
    path = tmp_path / "run.json"
    about = json.loads(path.read_text())
    del about["backend"]  # a run of an earlier version
    path.write_text(json.dumps(about))
    Run(settings(tmp_path)).require_backend("jax")


def test_class_names_that_no_weights_file_can_hold():
    said = []
    about = {"classes": 2, "class_names": ["a", "b"]}
    assert fitting(about, said.append) == about and not said
    about["class_names"] = ["龍" * 85] * 200
    assert fitting(about, said.append) == {"classes": 2} and len(said) == 1
