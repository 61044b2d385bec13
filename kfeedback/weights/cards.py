"""Model cards: what is known about weights, as Markdown."""

from kfeedback.weights import files, origins, registry

_TITLES = {
    "preprocessing": "Preprocessing",
    "classes": "Classes",
    "class_names": "Class names",
    "dataset": "Trained on",
    "score": "Measured",
    "paper": "Paper",
    "license": "License",
    "source": "Source",
    "command": "Command",
    "commit": "Commit",
}


def card(weights):
    """The model card of a tag or of a file that `kfeedback.weights.save` wrote.

    Args:
        weights: a tag, for which nothing is fetched, or a path.

    Returns:
        str, Markdown. What is not known is said to be so.

    Raises:
        ValueError: if there is no such tag or file, or the file is damaged.

    Example:
        >>> print(kfeedback.weights.card("lenet_mnist_bg_sample"))
    """
    registry.check_tag(weights)
    entry = registry.ENTRIES.get(weights) if isinstance(weights, str) else None
    if entry is not None:
        title, about = entry.tag, entry.about
        size, digest = entry.size, entry.sha256
        place = "comes with the package" if entry.file else entry.url
        rows = [("Use", f"`weights={entry.tag!r}`"), ("File", place)]
        rows += [("SHA-256", f"`{digest}`")]
    else:
        found = files.describe(weights)
        title, about, size = found["path"], found["about"], found["bytes"]
        rows = [("Parameters", f"{found['parameters']:,}")]
    if about.get("factory"):
        rows.insert(0, ("Model", f"`{origins.call(about)}`"))
    rows.append(("Size", f"{size:,} bytes"))
    for name, label in _TITLES.items():
        value = about.get(name, "not known")
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        rows.append((label, f"`{value}`" if name == "command" else str(value)))
    lines = [f"# {title}", "", "| | |", "| --- | --- |"]
    for label, value in rows:
        escaped = " ".join(value.split()).replace("|", "\\|")
        lines.append(f"| {label} | {escaped} |")
    return "\n".join(lines) + "\n"
