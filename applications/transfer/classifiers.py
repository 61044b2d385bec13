"""Classifiers of scikit-learn on embeddings."""

import numpy as np

from applications.common.scores import require_sklearn

TREES = 128
"""Of the random forest, as in the paper."""


def examples(embeddings, labels, iteration):
    """Vectors and labels to fit a classifier on.

    Args:
        embeddings: `(N, T, ...)`.
        labels: `(N,)` or `(N, classes)`.
        iteration: int from 1, or `"all"`: the `T` embeddings of an image are then so
            many examples.

    Returns:
        `(N, features)` or, for all iterations, `(N T, features)`, and as many labels.
    """
    count, steps = embeddings.shape[:2]
    vectors = embeddings.reshape(count, steps, -1)
    if iteration != "all":
        return vectors[:, iteration - 1], labels
    return vectors.reshape(count * steps, -1), np.repeat(labels, steps, axis=0)


def classifier(method, multi_label, seed):
    """The scikit-learn classifier of a method, `"forest"` or `"logistic"`."""
    require_sklearn()
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if method == "forest":
        return RandomForestClassifier(TREES, random_state=seed, n_jobs=-1)
    regression = LogisticRegression(max_iter=1000, random_state=seed)
    if multi_label:
        regression = OneVsRestClassifier(regression)
    return make_pipeline(StandardScaler(), regression)


def scores_of(fitted, embeddings):
    """Probabilities `(N, T, classes)` of a fitted classifier at every timestep."""
    steps = []
    for step in range(embeddings.shape[1]):
        found = fitted.predict_proba(examples(embeddings, [], step + 1)[0])
        if isinstance(found, list):  # of a forest: (not this label, this label) each
            found = np.stack([label[:, 1] for label in found], axis=1)
        steps.append(found)
    return np.stack(steps, axis=1)
