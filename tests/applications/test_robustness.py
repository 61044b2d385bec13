import json
import shutil

import keras
import numpy as np
import pytest

from kfeedback.models.backbones import LeNet
from tests.applications.command import read_rows, run_each

WIDTH = '{"width": 0.0625}'
DATA = ["--dataset=synthetic", "--train_split=train[:64]", "--eval_split=test[:40]"]
TRAIN = [*DATA, "--epochs=1", "--verbose=0", "--validation_freq=0"]
TRAIN += ["--preprocessing=standardize", "--batch_size=32"]


pytestmark = pytest.mark.slow  # it trains and attacks several networks


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A tiny VGG-small, a CRCN and an LRNet on it, and a model of nobody's."""
    folder = tmp_path_factory.mktemp("robustness")
    init = f"--init_from={folder / 'vgg' / 'weights.h5'}"
    feedback = ["--backbone=vgg_small", f"--backbone_args={WIDTH}", init, *TRAIN]
    lines = [
        ["--model=vgg_small", f"--model_args={WIDTH}", *TRAIN],
        ["--config=crcn_cifar10", *feedback, "--seed=4"],
        ["--model=lrnet", *feedback],
    ]
    for line, name in zip(lines, ("vgg", "crcn", "lrnet"), strict=True):
        line.append(f"--output_dir={folder / name}")
    for code, output in run_each("applications.train", lines):
        assert code == 0, output
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(10, activation="softmax")(x))
    model.save(folder / "foreign.keras")
    image = keras.Input((32, 32, 3))
    nested = keras.Model(image, model(keras.layers.Rescaling(1 / 127.5, -1)(image)))
    nested.save(folder / "nested.keras")
    (folder / "elsewhere").mkdir()
    shutil.copytree(folder / "lrnet", folder / "elsewhere" / "vgg")
    LeNet(input_shape=(32, 32, 3), classifier_activation=None).save(
        folder / "logits.keras"
    )
    return folder


@pytest.fixture(scope="module")
def results(runs):
    """`{what: (exit code, output)}` of all command lines of this file."""
    two = f"--runs={runs / 'vgg'},{runs / 'crcn'}"
    zca = runs / "zca"
    shutil.copytree(runs / "vgg", zca)
    stored = json.loads((zca / "run.json").read_text())
    stored["flags"]["preprocessing"] = "gcn_zca"
    (zca / "run.json").write_text(json.dumps(stored))
    (runs / "broken").mkdir()
    (runs / "broken" / "run.json").write_text("{}")
    (runs / "other.csv").write_text("a,b\n")
    sweep = ["--noise=0,30", "--occlusion=0.25", "--blur=1", "--contrast=0.5"]
    sweep += ["--jpeg=20", "--fgsm=0,8", "--pgd=4", "--pgd_steps=2", "--seeds=0,1"]
    good = {
        "all": [
            two,
            f"--models={runs / 'foreign.keras'}",
            "--preprocessing=center",
            *sweep,
            "--tsne_layers=",
        ],
        "patches": [two, "--occlusion=0.25", "--occluder=patches", "--names=a,a"],
        "timesteps": [
            two,
            "--timesteps=1,3",
        ],
        "logits on noise": [
            f"--models={runs / 'logits.keras'}",
            "--dataset=synthetic",
            "--eval_split=test[:8]",
            "--noise=5",
            "--from_logits",
        ],
        "nested": [
            f"--models={runs / 'nested.keras'}",
            "--preprocessing=none",
            "--dataset=synthetic",
            "--eval_split=test[:40]",
            "--fgsm=8",
        ],
        "one name": [
            f"--runs={runs / 'vgg'},{runs / 'elsewhere' / 'vgg'}",
            "--tsne_layers=block1_conv1",
            "--tsne_examples=10",
        ],
        "published": [
            "--weights=crcn_lenet_mnist_bg_sample,lenet_mnist_bg_sample",
            "--timesteps=1,2",
            "--eval_split=test[:200]",
            "--noise=30",
            "--fgsm=4",
        ],
        **{
            mode: [
                f"--models={runs / 'foreign.keras'}",
                f"--preprocessing={mode}",
                "--dataset=synthetic",
                "--eval_split=test[:40]",
                f"--results={runs / 'modes.csv'}",
            ]
            for mode in ("center", "caffe")
        },
        "tsne": [two, "--tsne_layers=block3_conv3,predictions", "--tsne_examples=20"],
        "logits": [
            f"--models={runs / 'logits.keras'}",
            "--dataset=synthetic",
            "--eval_split=test[:8]",
            "--fgsm=4",
            "--from_logits",
        ],
    }
    lines = [[*line, f"--output_dir={runs / name}"] for name, line in good.items()]
    lines.append(lines[0])  # once more
    bad = {}
    for words in BAD:
        line = words
        for word in ("vgg", "zca", "broken", "other", "foreign", "logits"):
            line = line.replace(word.upper(), str(runs / word))
        line = line.split()
        sources = ("--runs", "--models", "--weights")
        if not any(word.startswith(sources) for word in line):
            line.append(f"--runs={runs / 'vgg'}")
        bad[words] = [*line, f"--output_dir={runs}"]
    outputs = run_each("applications.robustness", lines + list(bad.values()))
    return dict(zip([*good, "again", *bad], outputs, strict=True))


def test_a_row_per_model_corruption_severity_and_seed(runs, results):
    code, output = results["all"]
    assert code == 0, output
    rows = read_rows(runs / "all" / "robustness.csv")
    of_a_model = 1 + 2 * 2 + 2 + 3 + 2 + 2
    assert len(rows) == 3 * of_a_model
    assert {row["model"] for row in rows} == {"vgg", "crcn", "foreign"}
    assert {row["train_seed"] for row in rows} == {"0", "4", ""}
    clean = {
        r["model"]: float(r["accuracy"]) for r in rows if r["corruption"] == "none"
    }
    for row in rows:
        drop = clean[row["model"]] - float(row["accuracy"])
        assert float(row["drop"]) == pytest.approx(drop, abs=0.011)
        is_attack = row["corruption"] in ("fgsm", "pgd")
        assert row["fooling_rate"] == (row["drop"] if is_attack else "")
        if row["severity"] == "0":
            assert drop == 0
        assert bool(row["seed"]) == (row["corruption"] in ("noise", "occlusion", "pgd"))
    assert (runs / "all" / "robustness.png").stat().st_size > 10_000


def test_the_accuracy_is_that_of_the_images_and_the_seed(runs, results):
    """Measured once more, by hand."""
    import kfeedback

    images, labels, _ = kfeedback.datasets.load_arrays("synthetic", "test[:40]")
    model = keras.models.load_model(runs / "foreign.keras")
    noisy = kfeedback.corruptions.gaussian_noise(images, 30, 1)
    attacked = kfeedback.attacks.fgsm(
        model, images, labels, 8, preprocess=lambda x: x / 127.5 - 1
    )
    for shown, corruption, seed in ((noisy, "noise", "1"), (attacked, "fgsm", "")):
        hits = model.predict(shown / 127.5 - 1, verbose=0).argmax(-1) == labels
        (row,) = [
            row
            for row in read_rows(runs / "all" / "robustness.csv")
            if (row["model"], row["corruption"], row["seed"])
            == ("foreign", corruption, seed)
            and row["severity"] in ("30", "8")
        ]
        assert float(row["accuracy"]) == pytest.approx(100 * hits.mean(), abs=2.6)


def test_what_has_a_row_is_not_measured_again(runs, results):
    assert results["again"] == results["all"]
    assert len(read_rows(runs / "all" / "robustness.csv")) == 3 * 14


def test_models_of_one_name_are_one_line(runs, results):
    code, output = results["patches"]
    assert code == 0, output
    assert "±" in output
    rows = read_rows(runs / "patches" / "robustness.csv")
    assert {row["settings"] for row in rows} == {"", "patches of train[:64]"}
    assert {row["run"] for row in rows} == {"vgg", "crcn"}


def test_other_timesteps_than_trained(runs, results):
    code, output = results["timesteps"]
    assert code == 0, output
    accuracy = {
        (row["model"], row["timesteps"]): row["accuracy"]
        for row in read_rows(runs / "timesteps" / "robustness.csv")
    }
    expected = {("vgg", ""), ("crcn T=1", "1"), ("crcn T=3", "3")}
    assert set(accuracy) == expected
    trained = keras.models.load_model(runs / "crcn" / "model.keras")
    assert trained.output_shape == (None, 2, 10)


def test_published_weights(runs, results):
    """With the preprocessing of their cards, and as many looks as one asks for."""
    import kfeedback

    code, output = results["published"]
    assert code == 0, output
    rows = read_rows(runs / "published" / "robustness.csv")
    images, labels, _ = kfeedback.datasets.load_arrays(
        "mnist_background_images_sample", "test[:200]"
    )
    images = kfeedback.preprocessing.preprocess_input(images.astype("float32"), "scale")
    crcn = "crcn_lenet_mnist_bg_sample"
    for tag, name, arguments in (
        ("lenet_mnist_bg_sample", "lenet_mnist_bg_sample", {}),
        *((crcn, f"{crcn} T={t}", {"timesteps": t}) for t in (1, 2)),
    ):
        model = kfeedback.load_pretrained(tag, **arguments)
        hits = model.predict(images, verbose=0).argmax(-1) == labels
        own = [row for row in rows if row["model"] == name]
        assert [row["corruption"] for row in own] == ["none", "noise", "fgsm"]
        assert float(own[0]["accuracy"]) == pytest.approx(100 * hits.mean(), abs=0.51)
        assert {row["run"] for row in own} == {tag}


def test_rebuilt_networks_are_the_trained_ones(runs):
    """Step t of the trained network is the network rebuilt with t steps."""
    from applications.common.runs import read
    from applications.robustness.sources import rebuild
    from kfeedback import datasets

    images, _, info = datasets.load_arrays("synthetic", "test[:8]")
    for name in ("crcn", "lrnet"):
        stored = read("runs", runs / name)["flags"]
        trained = keras.models.load_model(runs / name / "model.keras")
        expected = trained.predict(images / 255.0, verbose=0)
        for steps in (1, 2):
            model = rebuild(runs / name, stored, steps, info)
            found = model.predict(images / 255.0, verbose=0)
            np.testing.assert_allclose(found, expected[:, steps - 1], atol=1e-6)


def test_tsne_of_layers(runs, results):
    code, output = results["tsne"]
    assert code == 0, output
    for name in ("tsne_vgg_vgg.png", "tsne_crcn_crcn.png"):
        assert (runs / "tsne" / name).stat().st_size > 10_000


def test_runs_of_one_name_have_a_figure_each(runs, results):
    code, output = results["one name"]
    assert code == 0, output
    assert len(list((runs / "one name").glob("tsne_vgg_vgg_*.png"))) == 2


def test_logits_can_be_measured_and_attacked(results):
    for name, corruption in (("logits", "fgsm"), ("logits on noise", "noise")):
        code, output = results[name]
        assert code == 0, output
        assert corruption in output


def test_a_model_nested_in_another(runs, results):
    """It is the foreign one behind its preprocessing: the same rows."""
    code, output = results["nested"]
    assert code == 0, output
    wanted = {
        row["corruption"]: row["accuracy"]
        for row in read_rows(runs / "all" / "robustness.csv")
        if row["model"] == "foreign" and row["severity"] in ("0", "8")
        if row["corruption"] == "none" or row["severity"] == "8"
    }
    found = read_rows(runs / "nested" / "robustness.csv")
    assert {row["corruption"]: row["accuracy"] for row in found} == {
        name: wanted[name] for name in ("none", "fgsm")
    }


def test_another_preprocessing_is_measured_anew(runs, results):
    for mode in ("center", "caffe"):
        assert results[mode][0] == 0, results[mode]
    rows = read_rows(runs / "modes.csv")
    assert [row["settings"] for row in rows] == ["center", "caffe"]


BAD = {
    "--noise=-1": "--noise",
    "--noise=nan": "--noise",
    "--noise=ten": "--noise",
    "--noise=1,1": "--noise",
    "--occlusion=1.5": "--occlusion",
    "--occlusion=0": "--occlusion",
    "--blur=-1": "--blur",
    "--contrast=-0.1": "--contrast",
    "--jpeg=101": "--jpeg",
    "--jpeg=0.5": "--jpeg",
    "--fgsm=-1": "--fgsm",
    "--fgsm=300": "--fgsm",
    "--pgd=-2": "--pgd",
    "--pgd=2 --pgd_steps=0": "--pgd_steps",
    "--pgd=2 --pgd_step_share=0": "--pgd_step_share",
    "--pgd_steps=3": "--pgd_steps",
    "--occluder=patches": "--occluder",
    "--from_logits": "from_logits must be False",
    "--runs=VGG,VGG": "twice",
    "--models=FOREIGN.keras --dataset=synthetic --tsne_layers=image": "the input",
    "--seeds=a": "--seeds",
    "--seeds=": "--seeds",
    "--seeds=-1": "--seeds",
    "--names=one,two": "--names",
    "--timesteps=0": "--timesteps",
    "--timesteps=2 --runs=VGG": "--timesteps",
    "--runs=nowhere": "--runs",
    "--runs=BROKEN": "--run",
    "--weights=nothing": "--weights=nothing",
    "--timesteps=2 --weights=lenet_mnist_bg_sample": "--timesteps",
    "--weights=lenet_mnist_bg_sample --preprocessing=center": "--preprocessing",
    "--weights=lenet_mnist_bg_sample,lenet_mnist_bg_sample": "twice",
    "--models=nowhere.keras --dataset=synthetic": "--models",
    "--models=FOREIGN.keras --dataset=mnist_background_images_sample": "--models",
    "--models=FOREIGN.keras --dataset=synthetic --preprocessing=gcn_zca": "--prepro",
    "--models=LOGITS.keras --dataset=synthetic --fgsm=1": "ends in a softmax",
    "--preprocessing=center": "--preprocessing",
    "--runs=ZCA --fgsm=1": "--fgsm",
    "--runs= --dataset=synthetic": "--runs",
    "--tsne_noise=3": "--tsne_noise",
    "--tsne_layers=block9": "--tsne_layers",
    "--results=OTHER.csv": "--results",
    "--dataset=cifra10": "--dataset",
    "--flip": "--flip",
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_is_one_sentence(results, argument):
    code, output = results[argument]
    assert code == 1, output
    assert "Traceback" not in output
    assert BAD[argument] in output


def test_flags_that_crcn_has_no_use_for(tmp_path):
    common = ["--model=crcn", "--backbone=vgg_small", f"--output_dir={tmp_path}", *DATA]
    bad = {
        "--feedback_init=0.5": "feedback_init",
        "--feedback_lr_mult=2": "feedback_lr_mult",
        '--model_args={"loops": [4]}': "loops",
        '--model_args={"loops": [["block1_conv1", "block2_conv1"]]}': "loops",
        '--model_args={"emphasis_layers": null}': "model_args",
    }
    results = run_each("applications.train", [[*common, line] for line in bad])
    for word, (code, output) in zip(bad.values(), results, strict=True):
        assert code == 1 and word in output and "Traceback" not in output, output
