"""From pixels to what a network takes, and from what it gives to names."""

import keras
import numpy as np
from keras import ops

from kfeedback import checks

PREPROCESSING_MODES = ("none", "scale", "center", "caffe", "torch")

# Blue, green, red: the means of the ImageNet training images, as the Caffe models
# and keras.applications subtract them.
_CAFFE_MEANS = (103.939, 116.779, 123.68)

# Red, green, blue, of pixels from 0 to 1: means and deviations of the same images.
_TORCH_MEANS = (0.485, 0.456, 0.406)
_TORCH_DEVIATIONS = (0.229, 0.224, 0.225)

_KEYS = ("epsilon", "matrix", "mean")


def global_contrast_normalization(images, scale=55.0, epsilon=1e-8):
    """Gives every image mean zero and the same norm.

        y = s c / max(|c|, e),    c = x - m

    where x is one image with D = H W C values, m the mean of its values (over pixels
    and channels), |c| the Euclidean norm of c, s `scale` and e `epsilon`. With s = 55,
    about the root of D for 32x32x3, every image gets a standard deviation of about 1.
    A constant image becomes zero.

    Args:
        images: `(B, H, W, C)`: a NumPy array, or a tensor of Keras' backend, also
            inside `tf.data.Dataset.map`. It is not changed.
        scale: the norm that each image gets.
        epsilon: the least norm that is divided by.

    Returns:
        float32, of the same shape; a NumPy array if `images` is one.

    Raises:
        ValueError: if `images` has another rank than 4, or `scale` or `epsilon` is
            not positive.

    Example:
        >>> images = np.random.uniform(0, 255, (8, 32, 32, 3))
        >>> float(global_contrast_normalization(images).std())  # about 1
        0.99...

    Reference: I. Goodfellow, D. Warde-Farley, M. Mirza, A. Courville and Y. Bengio,
    "Maxout networks", ICML 2013, whose published code divides by the norm, not by the
    standard deviation.
    """
    checks.number("scale", scale, above=0)
    checks.number("epsilon", epsilon, above=0)
    _check_rank(images)
    if isinstance(images, np.ndarray):
        images = images.astype(np.float32)
        centered = images - images.mean(axis=(1, 2, 3), keepdims=True)
        norm = np.sqrt(np.square(centered).sum(axis=(1, 2, 3), keepdims=True))
        return scale * centered / np.maximum(norm, np.float32(epsilon))
    images = ops.cast(images, "float32")
    centered = images - ops.mean(images, axis=(1, 2, 3), keepdims=True)
    norm = ops.sqrt(ops.sum(ops.square(centered), axis=(1, 2, 3), keepdims=True))
    return scale * centered / ops.maximum(norm, epsilon)


class ZCAWhitening:
    """Whitens images with the statistics of a training set.

        y = W (x - m),    W = V (L + e I)^(-1/2) V^T,    V L V^T = cov(x)

    where x is one image as a vector of D = H W C values, m their mean over the
    training set, cov their covariance (divided by the number of images), V its
    eigenvectors, L the diagonal matrix of its eigenvalues and e `epsilon`. W is
    symmetric, so that whitened images still look like images.

    Example:
        >>> small = global_contrast_normalization(images[:, :16, :16])
        >>> zca = ZCAWhitening().fit(small)
        >>> zca.save("zca.npz")
        >>> whitened = ZCAWhitening.load("zca.npz")(small)

    Attributes:
        mean: m, float32 `(H, W, C)`; `None` before `fit`.
        matrix: W, float32 `(D, D)`; `None` before `fit`.
        epsilon: e; `None` before `fit`.

    Reference: I. Goodfellow et al., "Maxout networks", ICML 2013, with e = 0.1 after
    `global_contrast_normalization`; the covariance's divisor as in its published code.
    """

    def __init__(self):
        self.mean = self.matrix = self.epsilon = None

    def fit(self, images, epsilon=0.1):
        """Computes the statistics of a training set.

        It takes memory and time for a `(D, D)` eigenvalue problem in double precision:
        about a minute for D = 3072 on two cores.

        Args:
            images: array `(N, H, W, C)`, N at least 2; best contrast-normalized.
            epsilon: what is added to the eigenvalues.

        Returns:
            Itself.

        Raises:
            ValueError: if `images` is not as above or not finite, or `epsilon` is not
                positive.
        """
        epsilon = checks.number("epsilon", epsilon, above=0)
        images = np.asarray(images)
        _check_rank(images)
        if len(images) < 2 or not images.size:
            raise ValueError(f"images must be two images or more, got {images.shape}.")
        rows = images.reshape(len(images), -1)
        mean = rows.mean(axis=0, dtype=np.float64)
        if not np.isfinite(mean).all():
            raise ValueError("images must be finite.")
        covariance = np.zeros((mean.size, mean.size))
        for start in range(0, len(rows), 4096):
            centered = rows[start : start + 4096] - mean
            covariance += centered.T @ centered
        values, vectors = np.linalg.eigh(covariance / len(rows))
        values = np.maximum(values, 0) + epsilon
        self.mean = mean.reshape(images.shape[1:]).astype(np.float32)
        self.matrix = ((vectors / np.sqrt(values)) @ vectors.T).astype(np.float32)
        self.epsilon = epsilon
        return self

    def __call__(self, images):
        """Whitens a batch.

        Args:
            images: `(B, H, W, C)`, prepared like those that were fitted: a NumPy
                array, or a tensor of Keras' backend, also inside
                `tf.data.Dataset.map`. It is not changed.

        Returns:
            float32, of the same shape; a NumPy array if `images` is one.

        Raises:
            ValueError: if nothing was fitted, or images of another shape.
        """
        self._check_fitted()
        if tuple(images.shape[1:]) != self.mean.shape:
            raise ValueError(
                f"images must hold images of shape {self.mean.shape}, "
                f"got {tuple(images.shape)}."
            )
        if isinstance(images, np.ndarray):
            rows = images.astype(np.float32) - self.mean
            rows = rows.reshape(len(images), self.mean.size)
            return (rows @ self.matrix).reshape(images.shape)
        centered = ops.cast(images, "float32") - self.mean
        rows = ops.reshape(centered, (-1, self.mean.size))
        return ops.reshape(ops.matmul(rows, self.matrix), (-1, *self.mean.shape))

    def save(self, path):
        """Writes an `.npz` file; its name gets that ending if it has none, `~` is home.

        Args:
            path: where to.

        Raises:
            TypeError: if `path` is no path.
            ValueError: if nothing was fitted.
        """
        self._check_fitted()
        np.savez(
            checks.path("path", path),
            mean=self.mean,
            matrix=self.matrix,
            epsilon=self.epsilon,
        )

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote.

        Args:
            path: where from.

        Raises:
            TypeError: if `path` is no path.
            ValueError: if the file is missing or damaged, holds other arrays, or arrays
                of another type or shape, that are not finite or, for W, not symmetric.
        """
        with checks.npz("path", checks.path("path", path)) as file:
            arrays = dict(file)
        if tuple(sorted(arrays)) != _KEYS:
            raise ValueError(
                f"The file {path} must hold the arrays {', '.join(_KEYS)}, "
                f"got {', '.join(sorted(arrays))}."
            )
        epsilon, matrix, mean = (arrays[key] for key in _KEYS)
        if (
            any(array.dtype.kind != "f" for array in (epsilon, matrix, mean))
            or epsilon.shape != ()
            or mean.ndim != 3
            or matrix.shape != (mean.size, mean.size)
        ):
            raise ValueError(
                f"The arrays in {path} must be of floating point and of the shapes (), "
                "(H W C, H W C) and (H, W, C), got "
                f"{epsilon.dtype} {epsilon.shape}, {matrix.dtype} {matrix.shape} and "
                f"{mean.dtype} {mean.shape}."
            )
        if (
            not (np.isfinite(mean).all() and np.isfinite(matrix).all())
            or not np.allclose(matrix, matrix.T, rtol=1e-4, atol=1e-5)
            or not 0 < epsilon < np.inf
        ):
            raise ValueError(
                f"The arrays in {path} must be finite, `matrix` symmetric and "
                "`epsilon` positive, which they are not."
            )
        whitening = cls()
        whitening.mean = mean.astype(np.float32)
        whitening.matrix = matrix.astype(np.float32)
        whitening.epsilon = float(epsilon)
        return whitening

    def _check_fitted(self):
        if self.matrix is None:
            raise ValueError(
                "This ZCAWhitening has no statistics; call `fit` or use "
                "`ZCAWhitening.load`."
            )


def _check_rank(images):
    if len(images.shape) != 4:
        raise ValueError(
            f"images must have the shape (B, H, W, C), got {images.shape}."
        )


def preprocess_input(images, mode="scale"):
    """Maps pixels from 0–255 to what a network was trained on; a copy, always.

    Args:
        images: `(B, H, W, C)` or `(H, W, C)`, NumPy array or tensor, 0 to 255.
        mode: `"scale"`: `x / 255`, as LeNet here; `"center"`: `x / 127.5 - 1`;
            `"caffe"`: RGB to BGR minus the ImageNet means, as
            `keras.applications.VGG16`; `"torch"`: `x / 255` minus the ImageNet means,
            divided by the deviations, as `keras.applications.DenseNet121`; `"none"`.

    Returns:
        float32, of the same shape; a NumPy array if `images` is one.

    Raises:
        ValueError: if `mode` is unknown, or one of ImageNet meets no three channels.

    Example:
        >>> preprocess_input(np.full((1, 1, 1), 255), "center")
        array([[[1.]]], dtype=float32)
    """
    checks.one_of("mode", mode, PREPROCESSING_MODES)
    if isinstance(images, np.ndarray):
        images = images.astype(np.float32)  # a copy
    else:
        images = ops.cast(images, "float32")
    if mode == "scale":
        return images / 255.0
    if mode == "center":
        return images / 127.5 - 1.0
    if mode == "none":
        return images
    if images.shape[-1] != 3:
        raise ValueError(
            f"images must have 3 channels for mode {mode!r}, got {images.shape}."
        )
    if mode == "caffe":
        return _reversed(images) - _by_channel(_CAFFE_MEANS, images)
    images = images / 255.0 - _by_channel(_TORCH_MEANS, images)
    return images / _by_channel(_TORCH_DEVIATIONS, images)


def _reversed(images):
    """RGB to BGR; a tensor of PyTorch knows no negative step."""
    if isinstance(images, np.ndarray) or keras.backend.backend() != "torch":
        return images[..., ::-1]
    return ops.flip(images, axis=-1)


def _by_channel(values, images):
    """One value for each channel, `(C,)`; for NumPy, whose inner loop is slow over so
    few, the same for a whole row of pixels, `(W, C)`."""
    values = np.asarray(values, np.float32)
    if isinstance(images, np.ndarray):
        values = np.tile(values, (images.shape[-2], 1))
    return values


def decode_predictions(predictions, top=5, class_names=None):
    """Names the best classes of each sample.

    Args:
        predictions: `(B, classes)`, or `(B, T, classes)`, of which the last timestep
            is taken. A sigmoid p of a single class stands for two, 1 − p and p.
        top: int ≥ 1, how many; at most all classes.
        class_names: a name per class; by default its index.

    Returns:
        a list with, for each sample, a list of `(name, score)`, best first.

    Raises:
        ValueError: if `predictions` has another rank or a single class with values
            that are no probabilities, `top` is no positive integer, or the number of
            names is not that of the classes.

    Example:
        >>> decode_predictions(np.array([[0.1, 0.7, 0.2]]), top=1)
        [[('1', 0.7)]]
    """
    predictions = ops.convert_to_numpy(predictions)
    if predictions.ndim not in (2, 3):
        raise ValueError(
            "predictions must be (B, classes) or (B, T, classes), got shape "
            f"{predictions.shape}."
        )
    top = checks.integer("top", top)
    if predictions.ndim == 3:
        predictions = predictions[:, -1]
    if predictions.shape[1] == 1:
        low, high = predictions.min(initial=0), predictions.max(initial=0)
        if not (low >= 0 and high <= 1):
            raise ValueError(
                "predictions of a single class must be from 0 to 1, as a sigmoid's, "
                f"got {low:g} to {high:g}."
            )
        predictions = np.concatenate([1 - predictions, predictions], axis=1)
    classes = predictions.shape[1]
    names = [str(n) for n in range(classes)] if class_names is None else class_names
    if len(names) != classes:
        raise ValueError(
            f"class_names must be {classes} names, one a class, got {len(names)}."
        )
    best = np.argsort(-predictions, axis=1, kind="stable")[:, :top]
    return [
        [(names[index], float(scores[index])) for index in row]
        for row, scores in zip(best, predictions, strict=True)
    ]
