"""What applications.localize adds up, image by image."""

import inspect
import time
import types

import numpy as np
import pytest

from applications.localize.__main__ import _collages
from applications.localize.measures import Measures, boxes_at
from applications.localize.settings import _LOOP as LOOP
from applications.localize.settings import Settings
from applications.localize.stream import Chunk, chunks
from kfeedback import explain
from kfeedback.datasets.boxes import BoxedImage
from kfeedback.explain import Explainer, metrics
from kfeedback.explain.second_look import look_twice
from tests.explain import common

LOOK = ("margin", "square", "combine", "top")


def examples(count=6):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 8, 8, 2), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int32)[:, None] % 2
    boxes = np.array([[[1, 1, 6, 7]], [[0, 0, 3, 4]], [[2, 3, 8, 8]]] * (count // 3))
    return [BoxedImage(*x) for x in zip(images, images, labels, boxes, strict=True)]


def measures(top=1):
    def look_twice(explainer, originals, size):
        return explainer.look_twice(originals, top=top, size=size)

    settings = types.SimpleNamespace(top=top, look_twice=look_twice)
    return Measures(settings, Explainer(common.bright(), "gradient"))


def test_a_target_is_a_class_with_all_its_objects():
    one = examples(3)[0]
    several = BoxedImage(
        one.image, one.original, np.array([1, 0, 1]), np.arange(12).reshape(3, 4)
    )
    chunk = Chunk([one, several])
    assert chunk.index.tolist() == [0, 1, 1] and chunk.labels.tolist() == [0, 0, 1]
    found = [own.tolist() for own in chunk.boxes]
    assert found[1:] == [[[4, 5, 6, 7]], [[0, 1, 2, 3], [8, 9, 10, 11]]]
    np.testing.assert_array_equal(chunk.pictures[2], several.image)


def test_sums_of_chunks_are_measures_of_all():
    given = examples()
    whole, parts = measures(), measures()
    for one, split in ((whole, [given]), (parts, [given[:4], given[4:]])):
        for part in split:
            one.tune(Chunk(part))
        wrong = np.concatenate([one.add(Chunk(part)) for part in split])
    row, found = whole.row(), parts.row()
    assert row.pop("seconds_per_map") and found.pop("seconds_per_map")
    assert row == found and whole.targets == parts.targets == 6
    chunk = Chunk(given)
    maps = Explainer(common.bright(), "gradient").saliency(chunk.pictures, chunk.labels)
    errors = metrics.localization_errors(boxes_at(maps, 0.95), chunk.boxes)
    assert row["localization_error"] == f"{100 * errors.mean():.2f}"
    wrong_at = [
        metrics.localization_errors(boxes_at(maps, whole.energy), chunk.boxes).mean(),
        metrics.localization_errors(boxes_at(maps, 0.5), chunk.boxes).mean(),
    ]
    assert wrong.mean() == wrong_at[0]
    assert row["tuned_error"] == f"{100 * wrong_at[0]:.2f}"
    assert wrong_at[0] <= wrong_at[1]
    right = [
        metrics.max_box_accuracies_v2(maps, chunk.boxes, [threshold], [iou])
        for threshold, iou in zip(whole.thresholds, (0.3, 0.5, 0.7), strict=True)
    ]
    assert row["max_box_error"] == f"{100 * (1 - np.mean(right)):.2f}"
    precision = metrics.pixel_average_precision(maps, chunk.boxes)
    assert row["pxap"] == f"{precision.mean():.4f}"
    # Objects of 30 and of 12 of 64 pixels.
    by_size = [row[f"localization_error_size_{n}"] for n in range(1, 6)]
    assert [text != "" for text in by_size] == [False, False, True, False, True]
    assert row["first_look"] == row["first_look_top"]  # of one class


def test_no_second_look_and_scenes():
    one = measures(top=0)
    chunk = Chunk(examples())
    one.tune(chunk)
    one.add(chunk)
    assert one.row()["second_look"] == one.row()["collage_pxap"] == ""
    cells = np.array([[0, 0, 8, 4], [0, 4, 8, 8]])
    scene = np.zeros((1, 8, 8, 2), "float32")
    scene[0, :, :4, 0] = scene[0, :, 4:, 1] = 200  # what the two classes are
    one.add_collages(scene, np.array([[0, 1]]), cells[None])
    for name in ("pxap", "pointing_game", "energy_in_box"):
        assert one.row()[f"collage_{name}"] == "1.0000"


def test_a_first_estimate_comes_early(capsys):
    given = examples(36)
    found = list(chunks(given, "measuring"))
    assert [len(chunk.images) for chunk in found] == [16, 16, 4]
    printed = capsys.readouterr().out
    assert "measuring: 16 of 36 images, at most 0:00:0" in printed
    assert printed.count("at most") == 1
    bare = [BoxedImage(x.image, x.original, x.labels[:0], x.boxes[:0]) for x in given]
    with pytest.raises(ValueError, match="images with boxes, got none for measuring"):
        list(chunks(bare, "measuring"))


def test_compiling_is_no_part_of_the_time_of_a_map():
    seen = set()

    def saliency(images, labels, verbose):
        time.sleep(0.001 if len(images) in seen else 0.5)
        seen.add(len(images))
        return np.ones(images.shape[:3], "float32")

    def predict(images, verbose):
        return np.full((len(images), 2), 0.5)

    explainer = types.SimpleNamespace(batch_size=16, saliency=saliency, predict=predict)
    one, given = Measures(types.SimpleNamespace(top=0), explainer), examples()
    one.tune(Chunk(given[:4]))
    for part in (given[:4], given[4:]):  # as many as before, and fewer
        one.add(Chunk(part))
    assert seen == {4, 2} and 0 < float(one.row()["seconds_per_map"]) < 0.02


def test_flags_have_the_defaults_of_the_library():
    flags = Settings.flags()
    for of, names in (
        (explain.Feedback, {name: name for name in LOOP}),
        (look_twice, {"energy": "look_energy", **{n: n for n in LOOK}}),
    ):
        parameters = inspect.signature(of).parameters
        for name, flag in names.items():
            found = flags[flag].default
            assert (found or None) == (parameters[name].default or None), flag
    assert set(LOOP) == set(inspect.signature(explain.Feedback).parameters)


def test_flags_reach_the_method_and_the_second_look():
    loop = {
        "iterations": 3,
        "step_size": 0.3,
        "sparsity": 0.02,
        "update_rule": "recovering",
        "start": "activations",
        "normalize": False,
        "gate_layers": ("a", "b"),
        "objective": "score",
        "readout": "gradient",
        "smoothing": 0.1,
    }
    look = {"top": 3, "margin": 0.2, "square": False, "combine": "mean"}
    arguments = {"smooth_grad": {"samples": 4}}
    settings = Settings(
        output_dir="out", **loop, **look, look_energy=0.6, method_args=arguments
    )
    assert set(loop) == set(LOOP) and set(look) == set(LOOK)
    found = vars(settings.method("feedback"))
    assert found == loop | {"gate_layers": ["a", "b"]}
    assert settings.method("smooth_grad").samples == 4
    asked = []
    explainer = types.SimpleNamespace(
        look_twice=lambda images, **given: asked.append((images, given))
    )
    settings.look_twice(explainer, "images", 32)
    assert asked == [("images", {**look, "energy": 0.6, "size": 32})]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"top": 0, "margin": 0.2}, "--margin must be left out with --top=0"),
        ({"top": 0, "combine": "mean"}, "--combine must be left out with --top=0"),
        ({"tuning_split": "test"}, "--tuning_split must share no images with --eval"),
        ({"tuning_split": "test[:9]"}, "--tuning_split must share no images with --e"),
        ({"tuning_split": "val+test[-9:]"}, "--tuning_split must share no images"),
    ],
)
def test_flags_that_contradict_one_another(given, match):
    texts = {name: str(value) for name, value in given.items()}
    with pytest.raises(ValueError, match=match):
        Settings(model="m.keras", output_dir="out", given=texts, **given).check()


def test_scenes_of_too_few_images(capsys):
    given = examples()
    with pytest.raises(ValueError, match="--collages=2: images must have 4 classes"):
        _collages(2, given)
    labeled = [
        BoxedImage(x.image, x.original, np.array([n]), x.boxes)
        for n, x in enumerate(given)
    ]
    scenes, targets, _ = _collages(3, labeled)
    assert len(scenes) == 1 and targets.tolist() == [[0, 1, 2, 3]]
    assert "--collages: 1 instead of 3" in capsys.readouterr().out
    wide = np.zeros((8, 9, 2), "uint8")
    labeled[1] = BoxedImage(wide, wide, np.array([1]), given[1].boxes)
    with pytest.raises(ValueError, match="--image_size must be given, as images"):
        _collages(1, labeled)
    with pytest.raises(ValueError, match="--collages must be of images with boxes"):
        _collages(1, [])
