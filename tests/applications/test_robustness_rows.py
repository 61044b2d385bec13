"""Every row of applications.robustness is measured once more, by hand."""

import csv

import kfeedback
from applications.robustness import sweep
from kfeedback import attacks, corruptions, datasets
from kfeedback.preprocessing import preprocess_input
from tests.applications.command import run

TAG = "lenet_mnist_bg_sample"


def test_other_data_are_other_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pictures"
    folder.mkdir()
    assert sweep.place("x.npz", None) == str(tmp_path / "x.npz")
    assert sweep.place("x.npz", "pictures") == str(folder / "x.npz")
    assert sweep.place("/x.npz", "pictures") == "/x.npz"
    assert sweep.place("./pictures", "elsewhere") == str(folder)
    for name in ("cifar10", "voc/2007", "pictures"):  # of TFDS
        assert sweep.place(name, "pictures") == name


def test_rows_are_what_corruptions_and_attacks_do(tmp_path):
    run(
        "applications.robustness",
        f"--weights={TAG}",
        "--eval_split=test[:200]",
        *("--noise=60", "--occlusion=0.25", "--blur=2", "--contrast=0.2", "--jpeg=5"),
        *("--fgsm=16", "--pgd=8", "--pgd_steps=2", "--seeds=3"),
        f"--output_dir={tmp_path}",
    )
    with (tmp_path / "robustness.csv").open(encoding="utf-8") as file:
        found = {
            row["corruption"]: float(row["accuracy"]) for row in csv.DictReader(file)
        }
    images, labels, _ = datasets.load_arrays(
        "mnist_background_images_sample", "test[:200]"
    )
    images = images.astype("float32")
    model = kfeedback.load_pretrained(TAG)

    def prepare(x):
        return preprocess_input(x, "scale")

    attacked = {"preprocess": prepare, "batch_size": 128}
    shown = {
        "none": images,
        "noise": corruptions.gaussian_noise(images, 60, 3),
        "occlusion": corruptions.occlude(images, (0.24, 0.26), 3),
        "blur": corruptions.blur(images, 2),
        "contrast": corruptions.contrast(images, 0.2),
        "jpeg": corruptions.jpeg(images, 5),
        "fgsm": attacks.fgsm(model, images, labels, 16, **attacked),
        "pgd": attacks.pgd(model, images, labels, 8, 2.0, 2, seed=3, **attacked),
    }
    for name, pixels in shown.items():
        hits = model.predict(prepare(pixels), verbose=0).argmax(-1) == labels
        assert abs(found[name] - 100 * hits.mean()) <= 0.5, name
    assert set(found) == set(shown)
    # Each does something, and another thing.
    assert all(found[name] < found["none"] for name in set(found) - {"none"})
    assert found["fgsm"] < found["none"] - 20
