"""What all programs do alike: flags from a dataclass, config files, help, errors."""

import dataclasses
import importlib
import json
import pathlib
import re
import runpy
import shlex
import sys
from collections.abc import Mapping

import pytest

from applications.common import command_line
from applications.common.settings import Settings, field
from kfeedback import renamed
from tests.applications.command import run_alone

ROOT = pathlib.Path(__file__).parents[2]
PROGRAMS = [
    *("client", "demo", "evaluate", "export", "localize", "robustness", "train"),
    "transfer",
]
MODULES = [f"applications.{name}.__main__" for name in PROGRAMS] + [
    *("tools.benchmark", "tools.compare", "tools.convert_caffe"),
    "tools.convert_weights",
    *("tools.engine_errors", "tools.feedback_speed", "tools.input_speed"),
    *("tools.publish_weights", "tools.serving_smoke", "tools.serving_speed"),
    *("tools.startup", "tools.step_profile"),
]


def load(name):
    if name == "tools.serving_smoke":
        pytest.importorskip("tensorflow")
    return importlib.import_module(name)


def words(text):
    return " ".join(text.split())


@pytest.mark.parametrize("name", MODULES)
def test_help_lists_every_field(name):
    module = load(name)
    text = command_line.help_text(module.Settings, module.__doc__)
    shown = words(text)
    assert words(module.__doc__) in shown
    for one in dataclasses.fields(module.Settings):
        if one.name != "given":
            assert re.search(rf"--(\[no\])?{one.name}\b", text)
            assert words(one.metadata["help"]) in shown
    assert max(map(len, text.splitlines())) <= 100


def test_help_of_a_program_by_command():
    text = run_alone("applications.train", "--help")
    for flag in ("--lr=0.01", "--dataset=", "--batch_size=128", "--[no]flip"):
        assert flag in text
    groups = re.findall(r"^(\S.*):$", text, re.M)
    assert groups == ["model", "data", "optimization", "run", "output", "program"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_starts_by_its_name(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, "--nothing=1"])
    monkeypatch.delitem(sys.modules, f"applications.{name}.__main__", raising=False)
    with pytest.raises(SystemExit, match=r"^error: --nothing must be a flag"):
        runpy.run_module(f"applications.{name}", run_name="__main__", alter_sys=True)


@dataclasses.dataclass(frozen=True)
class Example(Settings):
    FROM_RUN = ("count", "model_args", "mode")

    run: str | None = field(None, "A run.", group="model")
    count: int = field(3, "How many.", group="model", least=1, most=9)
    share: float = field(0.5, "How much.", group="model", above=0, below=1)
    mode: str = field("a", "Which.", group="model", choices=("a", "center"))
    model_args: Mapping = field(dict, "More.", group="model")
    sizes: tuple[float, ...] = field((1.0,), "Sizes.", group="model", least=0)
    shape: tuple[int, ...] = field((), "Shape.", group="model", different=False)
    names: tuple[str, ...] = field((), "Names.", group="model")
    draw: bool = field(True, "Draw.", group="model")
    place: str | None = field("here", "Where.", group="model")


def test_flags_become_typed_values():
    settings = command_line.parse(
        Example,
        [
            *("--count=4", "--share=0.25", '--model_args={"a": [1]}', "--nodraw"),
            *("--sizes=0,1.5,20", "--shape=8,8,3", "--names=one,two", "--mode=center"),
        ],
    )
    assert (settings.count, settings.share, settings.draw) == (4, 0.25, False)
    assert settings.model_args == {"a": [1]} and settings.mode == "center"
    assert settings.sizes == (0.0, 1.5, 20.0) and settings.shape == (8, 8, 3)
    assert settings.names == ("one", "two") and settings.place == "here"
    assert settings.command_line() == (
        "--count=4 --share=0.25 --mode=center '--model_args={\"a\": [1]}' "
        "--sizes=0,1.5,20 --shape=8,8,3 --names=one,two --nodraw"
    )
    settings = command_line.parse(Example, ['--names="maillot, tank suit",cat'])
    assert settings.names == ("maillot, tank suit", "cat")
    (line,) = shlex.split(settings.command_line())
    assert command_line.parse(Example, [line]).names == settings.names
    assert settings.command_line(also=("run",)) == settings.command_line()
    assert command_line.parse(Example, []).sizes == (1.0,)
    assert command_line.parse(Example, ["--sizes="]).sizes == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.count = 5


@pytest.mark.parametrize("on", ["", "=1", "=t", "=True"])
@pytest.mark.parametrize("other", ["--lr", "stray", "--lr 0.5"])
def test_traceback_is_parsed_also_where_other_flags_are_wrong(on, other, monkeypatch):
    def main(settings):
        raise AssertionError

    argv = ["program", *other.split(), f"--traceback{on}"]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(ValueError, match="must be"):
        command_line.launch(main, Example)
    for off in ("--notraceback", "--traceback=0", "--traceback=maybe"):
        monkeypatch.setattr("sys.argv", [*argv, off])
        with pytest.raises(SystemExit):
            command_line.launch(main, Example)


BAD = {
    "--count=0": "--count must be an integer ≥ 1 and ≤ 9, got '0'.",
    "--count=1.0": "--count must be an integer",
    "--share=1": "--share must be a number > 0 and < 1, got '1'.",
    "--share=nan": "--share must be a number",
    "--mode=b": "--mode must be one of a, center, got 'b'.",
    "--model_args=[1]": "--model_args must be a JSON object, got '[1]'.",
    "--sizes=1,inf": "--sizes must be different numbers ≥ 0, separated by commas, got",
    "--sizes=2,2": "--sizes must be different numbers",
    "--shape=8,x": "--shape must be integers, separated by commas, got '8,x'.",
    "--cuont=2": "--cuont must be a flag that --help lists",
    "stray": "arguments must be flags like --name=value, got 'stray'.",
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_flags_are_one_sentence(argument):
    with pytest.raises(ValueError) as caught:
        command_line.parse(Example, [argument])
    assert str(caught.value).startswith(BAD[argument])


def test_a_run_gives_defaults_a_config_others_and_the_command_line_the_last(tmp_path):
    """Also a run of an earlier version, in today's words."""
    arguments = '{"loops": 1, "compatibility": "parametrised"}'
    flags = {"count": 5, "model_args": arguments, "mode": "center", "share": 0.1}
    (tmp_path / "run.json").write_text(json.dumps({"flags": flags}))
    (tmp_path / "mine.toml").write_text("count = 6\nnames = ['x']\n")
    run, config = f"--run={tmp_path}", f"--config={tmp_path / 'mine.toml'}"
    found = command_line.parse(Example, [run])
    assert found.count == 5
    assert found.model_args == {"stages": 2, "compatibility": "parametrized"}
    assert (found.mode, found.share) == ("center", 0.5)  # share is none of FROM_RUN
    # The same word of another flag is somebody's name.
    old = {"preprocessing": "centre", "dataset": "centre"}
    assert renamed.current(old) == {"preprocessing": "center", "dataset": "centre"}
    assert command_line.parse(Example, [run, config]).count == 6
    assert command_line.parse(Example, [run, config]).names == ("x",)
    assert command_line.parse(Example, [run, config, "--count=7"]).count == 7
    (tmp_path / "run.json").write_text(json.dumps({"flags": {"count": "many"}}))
    with pytest.raises(ValueError, match=r"--run must lead to flags of .*--count must"):
        command_line.parse(Example, [run])


def commands():
    """`(module, flags)` of every command of README, pages, results and scripts."""
    results = ROOT / "applications" / "results"
    docs = [p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts]
    files = [ROOT / "README.md", *docs]
    files += [*results.rglob("*.sh"), *results.rglob("*.md")]
    for file in files:
        text = file.read_text().replace("\\\n", " ")
        for line in re.findall(r"-m ((?:applications|tools)\.\w+ [^`\n]*)", text):
            module, rest = line.split(" ", 1)
            names = re.findall(r"(?<!\S)--(?:no)?([a-z]\w+)", rest)
            yield module, names


def test_flags_of_documented_commands_exist():
    found = list(commands())
    assert len(found) >= 40
    for module, names in found:
        if module == "tools.summarize":
            continue
        is_program = module.startswith("applications")
        known = load(f"{module}.__main__" if is_program else module).Settings.flags()
        known = {*known, "help"}
        missing = [n for n in names if n not in known and f"no{n}" not in known]
        assert not missing, (module, missing)


@pytest.mark.parametrize(
    "path", sorted(command_line.CONFIGS.rglob("*.toml")), ids=lambda path: path.stem
)
def test_configs_hold_flags_of_their_program(path):
    command = re.search(r"python -m applications\.(\w+) ", path.read_text())
    assert shlex.split(command[0])
    module = load(f"applications.{command[1]}.__main__")
    lines = [f"--config={path}", "--output_dir=x"]
    if command[1] == "robustness":
        lines.append("--models=mine.keras")
    try:
        settings = command_line.parse(module.Settings, lines)
    except ValueError as error:
        assert str(error).startswith("--timesteps must be left out without a run")
    else:
        assert settings.config == str(path)
