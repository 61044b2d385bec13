"""Compose digits with photographs: the MNIST-background-image task.

Larochelle et al. (2007) pasted MNIST digits on random patches of photographs. The
functions here make such a set again from MNIST and from the photographs that the
wheels of scikit-image and scikit-learn carry. They need NumPy and Pillow only; a
seed fixes every pixel for a given NumPy and JPEG decoder.

Reference: H. Larochelle, D. Erhan, A. Courville, J. Bergstra and Y. Bengio, "An
empirical evaluation of deep architectures on problems with many factors of
variation", ICML 2007.
"""

import importlib.util
import pathlib

import numpy as np

from kfeedback.images import pillow

PATCH_SIZE = 28
"""Height and width of a digit and of its background, in pixels."""

MIN_PATCH_VARIANCE = 400.0
"""Least variance of a patch, in squared gray levels (a standard deviation of 20)."""

TRAIN_EXAMPLES = 12_000
TEST_EXAMPLES = 50_000

PHOTOGRAPHS = {
    "skimage": (
        "data",
        (
            "astronaut.png",
            "brick.png",
            "camera.png",
            "chelsea.png",
            "coffee.png",
            "coins.png",
            "grass.png",
            "gravel.png",
            "hubble_deep_field.jpg",
            "ihc.png",
            "moon.png",
            "retina.jpg",
            "rocket.jpg",
        ),
    ),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
}
"""Package -> (folder in it, files): the photographs without copyright restrictions.

Those of scikit-image are in the public domain, CC0 or without known restrictions;
those of scikit-learn are CC BY 2.0 (china.jpg by danielbuechele, flower.jpg by
vultilion, both on Flickr).
"""

_DRAWS = 1_000


def load_photographs():
    """Reads the photographs from the installed wheels, converted to gray.

    Returns:
        A list of uint8 arrays `(height, width)`, gray levels 0 to 255 (ITU-R 601
        luma, as Pillow's mode "L").

    Raises:
        ImportError: if scikit-image, scikit-learn or Pillow is not installed, or
            their wheel lacks one of the photographs.
    """
    advice = "install them with `pip install kfeedback[data]`."
    Image = pillow("The background photographs are read")
    photographs = []
    for package, (folder, names) in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ImportError(
                "The background photographs come with scikit-image and scikit-learn, "
                f"of which the package `{package}` is missing; {advice}"
            )
        root = pathlib.Path(spec.submodule_search_locations[0], folder)
        for name in names:
            if not (root / name).is_file():
                raise ImportError(
                    f"The installed package `{package}` carries no photograph "
                    f"{folder}/{name}; {advice}"
                )
            with Image.open(root / name) as image:
                photographs.append(np.asarray(image.convert("L")))
    return photographs


def draw_patches(photographs, count, rng):
    """Draws random textured patches.

    A draw takes a photograph and a position in it, both uniformly; a patch whose
    variance is below `MIN_PATCH_VARIANCE` is rejected and drawn again, photograph
    included.

    Args:
        photographs: a sequence of uint8 arrays `(height, width)`, each at least
            `PATCH_SIZE` high and wide.
        count: how many patches to draw.
        rng: a `numpy.random.Generator`.

    Returns:
        A uint8 array `(count, PATCH_SIZE, PATCH_SIZE)`.

    Raises:
        ValueError: if the photographs have next to no textured patch.
    """
    size = (PATCH_SIZE, PATCH_SIZE)
    windows = [np.lib.stride_tricks.sliding_window_view(p, size) for p in photographs]
    limits = np.array([w.shape[:2] for w in windows])
    patches = np.empty((count, *size), np.uint8)
    missing = np.arange(count)
    for _ in range(_DRAWS):
        if not missing.size:
            return patches
        source = rng.integers(len(windows), size=missing.size)
        top, left = rng.integers(limits[source].T)
        for k, window in enumerate(windows):
            here = source == k
            patches[missing[here]] = window[top[here], left[here]]
        variance = patches[missing].var(axis=(1, 2), dtype=np.float64)
        missing = missing[variance < MIN_PATCH_VARIANCE]
    raise ValueError(
        f"photographs has too few patches of variance {MIN_PATCH_VARIANCE} "
        f"or more: {missing.size} of {count} were still missing after {_DRAWS} draws."
    )


def compose(digits, patches):
    """Pastes digits on patches: a pixel is the digit's where the digit is brighter.

    Args:
        digits: uint8 array `(N, 28, 28)`, white on black.
        patches: uint8 array of the same shape.

    Returns:
        A uint8 array `max(digits, patches)`.
    """
    return np.maximum(digits, patches)


def compose_splits(digits, labels, seed=0, photographs=None):
    """Composes the training and test sets of MNIST-background-image.

    A seeded permutation of the digits gives the first `TRAIN_EXAMPLES` to the
    training set and the next `TEST_EXAMPLES` to the test set, so that no digit is in
    both. Both sets draw their patches from the same photographs.

    Args:
        digits: uint8 array `(N, 28, 28)` or `(N, 28, 28, 1)`, white on black.
        labels: integer array `(N,)`.
        seed: integer seed of the permutation and of the patches.
        photographs: gray photographs; default: `load_photographs()`.

    Returns:
        A dict with the keys `"train"` and `"test"` of pairs `(images, labels)`:
        uint8 `(n, 28, 28, 1)` and int32 `(n,)`.

    Raises:
        ValueError: if there are too few digits or their shape is another.
    """
    digits, labels = np.asarray(digits), np.asarray(labels)
    count = TRAIN_EXAMPLES + TEST_EXAMPLES
    if digits.shape[1:3] != (PATCH_SIZE, PATCH_SIZE) or digits.dtype != np.uint8:
        raise ValueError(
            f"digits must be uint8 images of {PATCH_SIZE} by {PATCH_SIZE} "
            f"pixels, got {digits.dtype} of shape {digits.shape}."
        )
    if len(digits) < count or len(labels) != len(digits):
        raise ValueError(
            f"Arguments `digits` and `labels` must hold at least {count} examples "
            f"each, got {len(digits)} and {len(labels)}."
        )
    photographs = load_photographs() if photographs is None else photographs
    digits = digits.reshape(-1, PATCH_SIZE, PATCH_SIZE)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits))[:count]
    composed = {}
    for split, chosen in zip(
        ("train", "test"), np.split(order, [TRAIN_EXAMPLES]), strict=True
    ):
        patches = draw_patches(photographs, len(chosen), rng)
        images = compose(digits[chosen], patches)[..., np.newaxis]
        composed[split] = images, labels[chosen].astype(np.int32)
    return composed
