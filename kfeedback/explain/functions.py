"""One call each of `Explainer`, for those who ask once."""

from kfeedback.explain.explainer import Explainer


def saliency(model, images, targets=None, *, method="feedback", **kwargs):
    """`Explainer(model, method, **kwargs).saliency(images, targets)`."""
    return Explainer(model, method, **kwargs).saliency(images, targets)


def localize(
    model,
    images,
    targets=None,
    *,
    method="feedback",
    energy=None,
    components=False,
    **kwargs,
):
    """`Explainer(model, method, **kwargs).localize(images, targets, …)`."""
    return Explainer(model, method, **kwargs).localize(
        images, targets, energy=energy, components=components
    )


def look_twice(
    model, images, *, method="feedback", preprocess=None, batch_size=16, **kwargs
):
    """`Explainer(model, method, …).look_twice(images, **kwargs)`."""
    explainer = Explainer(model, method, preprocess=preprocess, batch_size=batch_size)
    return explainer.look_twice(images, **kwargs)
