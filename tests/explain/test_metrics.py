import numpy as np
import pytest

from kfeedback.explain import metrics


def one_map():
    found = np.zeros((1, 6, 6), "float32")
    found[0, 1:4, 1:4] = 1.0
    found[0, 5, 5] = 0.4
    return found


def test_localization_errors_count_iou_of_a_half_as_wrong():
    truth = np.array([[0, 0, 4, 4]] * 3)
    found = np.array([[0, 0, 4, 4], [0, 0, 2, 4], [0, 0, 3, 4]])
    assert metrics.localization_errors(found, truth).tolist() == [False, True, False]
    assert metrics.localization_errors(found, truth, 0.8).tolist() == [
        False,
        True,
        True,
    ]


def test_max_box_accuracy_is_of_the_largest_component_at_a_threshold():
    maps = np.concatenate([one_map(), one_map()])
    truth = np.array([[1, 1, 4, 4], [0, 0, 6, 6]])
    assert metrics.max_box_accuracies(maps, truth, [0.2, 0.9]).tolist() == [0.5, 0.5]
    maps[1] = 0.1  # flat: the whole picture at every threshold
    assert metrics.max_box_accuracies(maps, truth, [0.2, 1.0]).tolist() == [1.0, 1.0]
    # A lower threshold joins the two parts of one map.
    joined = one_map()
    joined[0, 4, 4] = 0.3
    accuracies = metrics.max_box_accuracies(joined, truth[1:], [0.2, 0.9])
    assert accuracies.tolist() == [1.0, 0.0]


def test_pointing_game_and_energy():
    maps = np.concatenate([one_map(), one_map(), np.zeros((1, 6, 6), "float32")])
    truth = np.array([[0, 0, 2, 2], [4, 4, 6, 6], [0, 0, 6, 6]])
    assert metrics.pointing_game(maps, truth).tolist() == [True, False, False]
    np.testing.assert_allclose(
        metrics.energy_in_box(maps, truth), [1 / 9.4, 0.4 / 9.4, 0], rtol=1e-6
    )


def test_deletion_and_insertion_are_areas_under_curves():
    """A class whose posterior is the share of bright pixels in the upper half."""

    def predict(images):
        p = images[:, :2].mean(axis=(1, 2, 3))
        return np.stack([p, 1 - p], axis=1)

    images = np.zeros((1, 4, 4, 1), "float32")
    images[:, :2] = 1
    good, bad = np.zeros((1, 4, 4)), np.zeros((1, 4, 4))
    good[:, :2], bad[:, 2:] = 1, 1
    target = np.array([0])
    kwargs = {"steps": 2, "baseline": 0.0}
    # Good: 1, 0, 0 at shares 0, 1/2, 1; bad: 1, 1, 0.
    assert metrics.deletion(predict, images, good, target, **kwargs) == [0.25]
    assert metrics.deletion(predict, images, bad, target, **kwargs) == [0.75]
    assert metrics.insertion(predict, images, good, target, **kwargs) == [0.75]
    assert metrics.insertion(predict, images, bad, target, **kwargs) == [0.25]


def test_errors_by_size():
    truth = np.array([[0, 0, 1, 5], [0, 0, 2, 5], [0, 0, 5, 10], [0, 0, 10, 10]])
    rows = metrics.error_by_size(
        [True, False, True, True], truth, (10, 10), (0, 0.05, 0.2, 0.4, 1)
    )
    assert [row["count"] for row in rows] == [1, 1, 0, 2]
    assert [row["error"] for row in rows][:2] == [1.0, 0.0] and rows[3]["error"] == 1.0
    assert np.isnan(rows[2]["error"])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda m, b: metrics.localization_errors(b[:1], b),
            "more for each of 1 boxes",
        ),
        (lambda m, b: metrics.localization_errors(b / 2, b), "boxes must be int boxes"),
        (lambda m, b: metrics.localization_errors(b, b, 1), "threshold must be"),
        (lambda m, b: metrics.max_box_accuracies(m, b, [0]), "thresholds must be"),
        (lambda m, b: metrics.pointing_game(m - 1, b), "finite and not negative"),
        (lambda m, b: metrics.pointing_game(m * np.nan, b), "finite and not negative"),
        (lambda m, b: metrics.energy_in_box(m[0], b), "maps must be numbers"),
        (lambda m, b: metrics.energy_in_box(m, b[:1]), "more for each of 2 maps"),
        (lambda m, b: metrics.error_by_size([True], b, (6, 6)), "errors must have one"),
        (
            lambda m, b: metrics.error_by_size([True] * 2, b, (6, 6), (1, 0)),
            "edges must be",
        ),
        (
            lambda m, b: metrics.deletion(None, m, m, np.array([0, 0])),
            "images must be",
        ),
        (
            lambda m, b: metrics.deletion(None, m[..., None], m, np.array([0])),
            "targets must be one int class",
        ),
        *(
            (
                lambda m, b, measure=measure, target=target: measure(
                    lambda x: np.ones((len(x), 3)),
                    m[..., None],
                    m,
                    np.array([0, target]),
                ),
                "targets must be from 0 to 2",
            )
            for measure in (metrics.deletion, metrics.insertion)
            for target in (-1, 3)
        ),
        *(
            (
                lambda m, b, measure=measure: measure(m, b[:, [2, 1, 0, 3]] + 1),
                r"truth must end behind their start, got \[3, 1, 1, 3\]",
            )
            for measure in (metrics.pointing_game, metrics.energy_in_box)
        ),
        (
            lambda m, b: metrics.pixel_average_precision(m, [b[:, [0, 3, 2, 1]]] * 2),
            "truth must end behind their start",
        ),
    ],
)
def test_bad_arguments(call, match):
    maps = np.concatenate([one_map()] * 2)
    with pytest.raises(ValueError, match=match):
        call(maps, np.array([[0, 0, 2, 2]] * 2))


def test_any_object_of_a_class_counts():
    maps, edges = one_map(), (0, 0.2, 0.5, 1)
    several = [np.array([[4, 4, 6, 6], [1, 1, 4, 4]])]
    found = np.array([[1, 1, 4, 4]])
    assert metrics.localization_errors(found, several).tolist() == [False]
    assert metrics.localization_errors(found, [several[0][:1]]).tolist() == [True]
    assert metrics.max_box_accuracies(maps, several, [0.9]).tolist() == [1.0]
    assert metrics.pointing_game(maps, several).tolist() == [True]
    assert metrics.energy_in_box(maps, several).tolist() == [1.0]
    overlap = [np.array([[1, 1, 3, 4], [2, 1, 4, 4]])]  # no pixel counts twice
    np.testing.assert_allclose(metrics.energy_in_box(maps, overlap), 9 / 9.4, rtol=1e-6)
    rows = metrics.error_by_size([True], several, (6, 6), edges)
    assert [row["count"] for row in rows] == [0, 1, 0]  # 9 of 36 pixels, not 4


@pytest.mark.parametrize("name", ["energy_in_box", "pointing_game"])
def test_boxes_outside_are_no_boxes_of_the_other_end(name):
    maps = np.ones((1, 20, 20))
    with pytest.raises(ValueError, match=r"truth must lie in the image, .* got -11"):
        getattr(metrics, name)(maps, np.array([[-11, -11, 30, 30]]))


def test_average_precision_is_that_of_every_threshold():
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 5, (3, 6, 7)).astype("float32")
    truth = [np.array([[1, 1, 4, 5]]), np.array([[0, 0, 2, 2], [3, 3, 6, 7]])]
    truth.append(np.array([[0, 0, 6, 7]]))
    found = metrics.pixel_average_precision(maps, truth)
    for one, boxes, value in zip(maps, truth, found, strict=True):
        inside = np.zeros((6, 7), bool)
        for top, left, bottom, right in boxes:
            inside[top:bottom, left:right] = True
        expected, before = 0.0, 0.0
        for threshold in (4, 3, 2, 1, 0):
            above = one >= threshold
            recall = (above & inside).sum() / inside.sum()
            if above.any():
                expected += (above & inside).sum() / above.sum() * (recall - before)
            before = recall
        assert np.isclose(value, expected)
    np.testing.assert_allclose(found[2], 1)
    again = metrics.pixel_average_precision(maps**3, truth)
    np.testing.assert_array_equal(again, found)


def test_max_box_acc_v2_takes_the_best_of_all_components_and_objects():
    maps = np.zeros((1, 10, 10), "float32")
    maps[0, 0:2, 0:9], maps[0, 5:9, 5:9] = 1.0, 0.6
    truth = [np.array([[5, 5, 9, 9], [0, 9, 1, 10]])]
    found = metrics.max_box_accuracies_v2(maps, truth, [0.5, 0.8])
    np.testing.assert_array_equal(found, [[1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize("kind", ["uint8", "uint32", "int32", "float32"])
def test_maps_of_any_numbers_are_ranked_from_the_brightest(kind):
    maps = (255 * (one_map() == 1)).astype(kind)
    truth = np.array([[1, 1, 4, 4]])
    assert metrics.pixel_average_precision(maps, truth).tolist() == [1.0]


@pytest.mark.parametrize("classes", [4, 5, 9])
def test_scenes_take_the_first_images_that_are_left(classes):
    """Against the definition, image by image."""
    labels = np.random.default_rng(classes).integers(0, classes, 60)
    images = np.arange(60.0)[:, None, None, None] * np.ones((1, 2, 2, 1))
    scenes, targets, _ = metrics.collages(images, labels)
    waiting, wanted = list(range(60)), []
    while True:
        own = {}
        for n in waiting:
            if len(own) < 4:
                own.setdefault(labels[n], n)
        if len(own) < 4:
            break
        wanted.append(list(own.values()))
        waiting = [n for n in waiting if n not in own.values()]
    np.testing.assert_array_equal(scenes.reshape(-1, 4), wanted)
    np.testing.assert_array_equal(targets, labels[np.array(wanted)])


def test_collages_show_each_class_once():
    images = np.arange(6, dtype="float32")[:, None, None, None] * np.ones((1, 5, 4, 1))
    labels = np.array([7, 7, 3, 4, 5, 3])
    scenes, targets, boxes = metrics.collages(images, labels)
    np.testing.assert_array_equal(targets, [[7, 3, 4, 5]])
    wanted = [[0, 0, 2, 2], [0, 2, 2, 4], [2, 0, 5, 2], [2, 2, 5, 4]]
    np.testing.assert_array_equal(boxes, [wanted])
    for (top, left, bottom, right), value in zip(wanted, (0, 2, 3, 4), strict=True):
        assert (scenes[0, top:bottom, left:right] == value).all()
    with pytest.raises(ValueError, match="4 classes or more, got 3"):
        metrics.collages(images[:4], labels[:4])
    with pytest.raises(ValueError, match="labels must be int classes, got float64"):
        metrics.collages(images, labels + 0.5)
    with pytest.raises(ValueError, match="labels must be int classes, got <U1"):
        metrics.collages(images, list("abcdef"))
    with pytest.raises(ValueError, match=r"grid must be at most .* 4, got 5"):
        metrics.collages(images, labels, grid=5)
    with pytest.raises(ValueError, match=r"images must be .* got fractions up to 0\.5"):
        metrics.collages(images / 10, labels)
    for empty in (images[:0], images[..., :0], images[:, :0]):
        with pytest.raises(ValueError, match=r"images must be \(N, H, W, C\), none of"):
            metrics.collages(empty, labels[: len(empty)])
    boxes[0, 0] = 0  # one's own, to write to


def test_single_bounds_and_sentences_for_what_does_not_fit():
    maps, truth = np.ones((2, 4, 4)), np.array([[0, 0, 4, 4]] * 2)
    single = metrics.max_box_accuracies_v2(maps, truth, 0.5, 0.3)
    np.testing.assert_array_equal(single, [[1]])
    assert metrics.max_box_accuracies(maps, truth, 0.5).tolist() == [1]
    with pytest.raises(ValueError, match=r"image_shape must be \(H, W\), got 4"):
        metrics.error_by_size([True] * 2, truth, 4)
    images, targets = np.ones((2, 4, 4, 1)), [0, 1]

    def uniform(images):
        return np.full((len(images), 2), 0.5)

    with pytest.raises(ValueError, match=r"baseline must be .*, got \(3, 3\)"):
        metrics.deletion(uniform, images, maps, targets, baseline=np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"predict must give \(2, classes\), got \(2,"):
        metrics.insertion(lambda x: np.ones(len(x)), images, maps, targets)
