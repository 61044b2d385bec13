"""Scores of predictions at every timestep, in percent."""

import statistics

import numpy as np


def top_k_error(posteriors, labels, k):
    """Share in percent of samples whose label is not among the k best classes.

    Args:
        posteriors: `(N, classes)`.
        labels: int `(N,)`.
        k: int.
    """
    if labels.ndim != 1:
        raise ValueError(
            f"labels must be one class a sample, (N,), got {labels.shape}."
        )
    best = np.argsort(-posteriors, axis=-1, kind="stable")[:, :k]
    return 100 * (1 - (best == labels[:, None]).any(axis=1).mean())


def require_one_label(info):
    """Refuses a --dataset of several labels an image."""
    if info.multi_label:
        raise ValueError(
            f"--dataset must have one label an image, got {info.name}, which has "
            "several."
        )


def check_labels(flag, labels, info):
    """Refuses a split, named by a flag, of which no image has a label."""
    if info.multi_label and not labels.any():
        raise ValueError(
            f"--{flag} must select some images with labels of {info.name}, got "
            f"{info.split} without any."
        )


def accuracy(scores, labels):
    """Percent of samples that are right at each timestep.

    Args:
        scores: probabilities `(N, T, classes)`.
        labels: `(N,)`: the best class is right; or `(N, classes)`: exactly the labels
            are above 0.5.
    """
    if labels.ndim == 1:
        right = scores.argmax(-1) == labels[:, None]
    else:
        right = ((scores > 0.5) == labels[:, None].astype(bool)).all(-1)
    return 100 * right.mean(0)


def mean_average_precision(scores, labels):
    """Percent at each timestep, over the classes that have an example.

    Args:
        scores: probabilities `(N, T, classes)`.
        labels: `(N, classes)`.
    """
    require_sklearn()
    from sklearn.metrics import average_precision_score

    present = labels.any(0)
    timesteps = range(scores.shape[1])
    return 100 * np.array(
        [
            average_precision_score(
                labels[:, present], scores[:, timestep][:, present], average="macro"
            )
            for timestep in timesteps
        ]
    )


def require_sklearn():
    """Refuses to go on without scikit-learn."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "--methods=forest,logistic and mean average precision need scikit-learn: "
            "pip install kfeedback[data]"
        ) from error


def spread(values):
    """Mean, and standard deviation if there are several, as text; empty for none."""
    if len(values) < 2:
        return "".join(f"{value:.2f}" for value in values)
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
