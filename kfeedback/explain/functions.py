"""One call each of `Explainer`, for those who ask once."""

from kfeedback.explain.explainer import Explainer


def saliency(
    model, images, targets=None, *, method="feedback", verbose="auto", **kwargs
):
    """`Explainer(model, method, **kwargs).saliency(images, targets, …)`.

    Args:
        model: a functional `keras.Model`, as for `Explainer`.
        images, targets, verbose: as for `Explainer.saliency`.
        method: a method, or the name of one.
        **kwargs: `preprocess` and `batch_size` of `Explainer`.

    Example:
        >>> model = kfeedback.load_pretrained("nin_mnist_bg_sample")
        >>> images, labels, _ = kfeedback.datasets.load_arrays(
        ...     "mnist_background_images_sample", "test[:2]"
        ... )
        >>> saliency(model, images, labels, method="grad_cam", preprocess="scale").shape
        (2, 28, 28)
    """
    return Explainer(model, method, **kwargs).saliency(images, targets, verbose=verbose)


def localize(
    model,
    images,
    targets=None,
    *,
    method="feedback",
    energy=None,
    components=False,
    verbose="auto",
    **kwargs,
):
    """`Explainer(model, method, **kwargs).localize(images, targets, …)`.

    Args:
        model: a functional `keras.Model`, as for `Explainer`.
        images, targets, energy, components, verbose: as for `Explainer.localize`.
        method: a method, or the name of one.
        **kwargs: `preprocess` and `batch_size` of `Explainer`.

    Example:
        >>> model = kfeedback.load_pretrained("nin_mnist_bg_sample")
        >>> images, labels, _ = kfeedback.datasets.load_arrays(
        ...     "mnist_background_images_sample", "test[:2]"
        ... )
        >>> localize(model, images, method="gradient", preprocess="scale").shape
        (2, 4)
    """
    return Explainer(model, method, **kwargs).localize(
        images, targets, energy=energy, components=components, verbose=verbose
    )


def look_twice(
    model, images, *, method="feedback", preprocess=None, batch_size=16, **kwargs
):
    """`Explainer(model, method, …).look_twice(images, **kwargs)`.

    Args:
        model: a functional `keras.Model`, as for `Explainer`.
        images, **kwargs: as for `Explainer.look_twice`.
        method, preprocess, batch_size: as for `Explainer`.

    Example:
        >>> model = kfeedback.load_pretrained("nin_mnist_bg_sample")
        >>> images, labels, _ = kfeedback.datasets.load_arrays(
        ...     "mnist_background_images_sample", "test[:2]"
        ... )
        >>> found = look_twice(model, images, method="gradient", preprocess="scale")
        >>> found["boxes"].shape[-1]
        4
    """
    explainer = Explainer(model, method, preprocess=preprocess, batch_size=batch_size)
    return explainer.look_twice(images, **kwargs)
