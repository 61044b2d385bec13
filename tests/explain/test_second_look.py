import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.explain import Explainer, Feedback, second_look
from tests.explain import common


def test_look_twice_crops_the_original_and_ranks_the_pairs():
    """Channel 0 is everywhere a little bright, channel 1 very bright in one corner."""
    model = common.bright()
    image = np.zeros((16, 16, 2), "float32")
    image[..., 0] = 80
    image[8:, :8, 1] = 240
    explainer = Explainer(model, Feedback(3), batch_size=3)
    found = explainer.look_twice(image[None], top=2)
    assert found["first_classes"].tolist() == [[0, 1]]
    assert found["boxes"].shape == (1, 2, 4) and found["boxes"].dtype == np.int32
    # The gradient of class 1 lies where channel 1 is: the gates elsewhere are closed.
    # (Shrinking by half blurs it into the next pixels, one of the smaller image each.)
    top, left, bottom, right = found["boxes"][0, 1]
    assert (top, left, bottom, right) == (6, 0, 16, 10)
    assert found["classes"].tolist() == [[1, 0]]
    crop = keras.ops.image.resize(image[6:, :10], (8, 8), antialias=True)
    expected = explainer.predict(ops.convert_to_numpy(crop)[None])[0]
    np.testing.assert_allclose(found["scores"][0, 0], expected[1], atol=1e-6)
    assert (np.diff(found["scores"], axis=1) <= 0).all()
    listed = explainer.look_twice([image, image[:12, :14]], top=2)
    for name, value in found.items():
        np.testing.assert_array_equal(listed[name][:1], value)


def test_ranking_takes_every_class_once_and_only_the_best_of_each_look():
    posterior = np.array([[[0.5, 0.3, 0.2, 0.0], [0.1, 0.0, 0.2, 0.7]]])
    classes, scores = second_look._best_distinct(posterior, 2)
    assert classes.tolist() == [[3, 0]] and scores.tolist() == [[0.7, 0.5]]
    classes, scores = second_look._best_distinct(posterior, 1)
    assert classes.tolist() == [[3]]


@pytest.mark.parametrize(
    ("box", "margin", "square", "expected"),
    [
        ((2, 2, 4, 6), 0, False, (4, 4, 8, 12)),
        ((2, 2, 4, 6), 0.5, False, (2, 0, 10, 16)),
        ((2, 2, 4, 6), 0, True, (2, 4, 10, 12)),
        ((0, 2, 2, 6), 0, True, (0, 4, 8, 12)),
        ((0, 0, 8, 8), 1, True, (0, 0, 16, 16)),
        ((0, 0, 0, 0), 0, False, (0, 0, 16, 16)),
    ],
)
def test_windows_stay_in_the_original(box, margin, square, expected):
    found = second_look._window(np.array(box), (16, 16), (8, 8), margin, square)
    assert tuple(map(int, found)) == expected


def test_no_images_have_no_second_look():
    with pytest.raises(ValueError, match="images must be at least one, got none"):
        Explainer(common.bright()).look_twice([])
