import numpy as np
import pytest
from keras import ops

from kfeedback.explain import boxes
from tests.explain import reference


def maps(seed=0):
    rng = np.random.default_rng(seed)
    found = rng.uniform(0, 1, (3, 2, 7, 9)).astype("float32") ** 8
    found[1, 0] = 0
    found[1, 1] = 0.5
    found[2, 0] = 0
    found[2, 0, 3, 4] = 2
    return found


@pytest.mark.parametrize("energy", [0.05, 0.5, 0.95, 0.999])
def test_foreground_and_box_are_those_of_the_reference(energy):
    given = maps()
    mask = boxes.foreground(ops.convert_to_tensor(given), energy)
    found = ops.convert_to_numpy(boxes.smallest_box(mask))
    mask = ops.convert_to_numpy(mask)
    assert found.dtype == np.int32
    for i in np.ndindex(3, 2):
        expected = (
            reference.foreground(given[i], energy)
            if given[i].any()
            else np.zeros((7, 9), bool)
        )
        np.testing.assert_array_equal(mask[i], expected)
        assert tuple(found[i]) == reference.box(expected)
    assert tuple(found[1, 0]) == (0, 0, 0, 0)
    assert tuple(found[1, 1]) == (0, 0, 7, 9)
    assert tuple(found[2, 0]) == (3, 4, 4, 5)


def test_all_energy_keeps_whatever_is_not_zero():
    given = maps()
    mask = boxes.foreground(ops.convert_to_tensor(given), 1.0)
    np.testing.assert_array_equal(ops.convert_to_numpy(mask), given > 0)


def test_components_come_by_size():
    picture = """
        ##.....#
        ##....#.
        .....#..
        ........
        #.#.....
        ###...##
    """
    mask = np.array([[c == "#" for c in line.strip()] for line in picture.split()])
    found = boxes.component_boxes(mask)
    assert found.tolist() == [[4, 0, 6, 3], [0, 0, 2, 2], [0, 5, 3, 8], [5, 6, 6, 8]]
    assert boxes.component_boxes(np.zeros((3, 3), bool)).shape == (0, 4)


@pytest.mark.parametrize("density", [0.2, 0.4, 0.6])
def test_components_are_those_of_scikit_image(density):
    measure = pytest.importorskip("skimage.measure")
    mask = np.random.default_rng(1).uniform(size=(40, 30)) < density
    regions = measure.regionprops(measure.label(mask, connectivity=2))
    expected = sorted((-int(r.area), *map(int, r.bbox)) for r in regions)
    found = boxes.component_boxes(mask)
    sizes = [e[0] for e in expected]
    assert sorted(map(tuple, found.tolist())) == sorted(e[1:] for e in expected)
    by_box = {
        e[1:]: e[0] for e in expected if sum(e[1:] == o[1:] for o in expected) == 1
    }
    own = [by_box[tuple(b)] for b in found.tolist() if tuple(b) in by_box]
    assert own == sorted(own) and len(found) == len(sizes)


def test_iou():
    one = np.array([0, 0, 4, 4])
    others = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [4, 4, 8, 8], [0, 0, 0, 0]])
    np.testing.assert_allclose(boxes.iou(one[None], others), [1, 8 / 24, 0, 0])
