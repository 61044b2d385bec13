"""Keys of a model's variables that come back in another process."""

import collections
import functools
import re

import keras

from kfeedback import graph


def keyed(model):
    """Dict from a stable key to each variable.

    The key is the name of the model's layer and the variable's path from there on: the
    path itself begins with the model in which the layer was first built, which a
    network that is taken apart or reloaded no longer has. A functional model inside a
    model counts as its layers, as for `kfeedback.graph.flatten`, unless two layers then
    had one name. What Keras named by counting, inside of a layer, is called as the
    attribute in which the layer keeps it.

    Raises:
        TypeError: if it is no model.
        ValueError: if it has no variables yet, or two of one key.
    """
    return _unique(model, [(key, variable) for key, _, variable in _entries(model)])


def as_written(model):
    """The same with the keys of earlier versions: nested models and counted names."""
    return _unique(model, [(key, variable) for _, key, variable in _entries(model)])


def check_stable(model):
    """Raises a ValueError for a variable whose key would not come back."""
    for layer in [*_leaves(model), model]:
        inner = [] if graph.has_graph(layer) else graph.all_layers(layer)[1:]
        counted = {one.name for one in inner if _is_counted(one)}
        chains = _chains(layer)
        for variable in layer.weights:
            parts = set(variable.path.removeprefix(f"{layer.path}/").split("/"))
            is_known = not _is_counted(variable) and not counted & parts
            if is_known or id(variable) in chains:
                continue
            if layer is model and any(variable is v for v in _of_leaves(model)):
                continue  # seen with its own layer
            raise ValueError(
                "model must have variables with names, or kept in attributes of their "
                f"layers, got '{model.name}' with '{variable.path}', which Keras named "
                "by counting."
            )


def renamed_to(keys, model):
    """What a file's names are for a model: dict from name to key, or to itself.

    A file may be of a model in which this one, or a part of it, was nested, or the
    other way round, or of an earlier version.

    Args:
        keys: the names in the file.
        model: a `keras.Model`.
    """
    own = keyed(model)
    by_id = {id(variable): key for key, variable in own.items()}
    older = {key: by_id[id(v)] for key, v in as_written(model).items()}
    found = {}
    for name in keys:
        if name in own:
            found[name] = name
        elif name in older:
            found[name] = older[name]
        else:
            parts = name.split("/")
            tails = ("/".join(parts[n:]) for n in range(1, len(parts) - 1))
            known = (tail for tail in tails if tail in own or tail in older)
            tail = next(known, name)
            found[name] = older.get(tail, tail)
    # Where two names would mean one variable, neither is changed.
    counts = collections.Counter(found.values())
    return {name: key if counts[key] == 1 else name for name, key in found.items()}


def _unique(model, pairs):
    variables = {}
    for key, variable in pairs:
        if variables.setdefault(key, variable) is not variable:
            raise ValueError(
                f"model must have different variable paths, got {key} twice."
            )
    return variables


def _entries(model):
    """`(key, key of earlier versions, variable)` of every variable."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, got {type(model).__name__}.")
    if not model.built and not model.weights:
        raise ValueError(
            f"model must be built, so that it has its weights, got '{model.name}'."
        )
    names = collections.Counter(layer.name for layer in set(_leaves(model)))
    sees_through = max(names.values(), default=0) <= 1
    entries = list(_in_layers(model, "", sees_through))
    known = {id(variable) for *_, variable in entries}
    chains = _chains(model)
    for variable in model.weights:
        if id(variable) not in known:
            key = _key(variable, variable.path, chains)
            entries.append((key, variable.path, variable))
    return entries


def _leaves(model):
    """The layers that are no functional models, at any depth."""
    for layer in model.layers:
        if graph.has_graph(layer):
            yield from _leaves(layer)
        else:
            yield layer


def _of_leaves(model):
    return [variable for layer in _leaves(model) for variable in layer.weights]


def _in_layers(model, prefix, sees_through):
    # A model with a `call` of its own keeps its layers in attributes.
    attributes = {} if graph.has_graph(model) else dict(_by_object(model))
    for layer in model.layers:
        name = layer.name
        if _is_counted(layer):
            name = attributes.get(id(layer), name)
        if isinstance(layer, keras.Model):
            sees = sees_through and graph.has_graph(layer)
            inner = _in_layers(layer, f"{prefix}{layer.name}/", sees)
            for key, older, variable in inner:
                yield (key if sees else f"{name}/{key}"), older, variable
            continue
        chains = _chains(layer)
        for variable in layer.weights:
            path = variable.path.removeprefix(f"{layer.path}/")
            key = _key(variable, path, chains)
            yield f"{name}/{key}", f"{prefix}{layer.name}/{path}", variable


def _key(variable, path, chains):
    """The path, or by attributes where a part of it was named by counting."""
    chain = chains.get(id(variable), ())
    if not any(_is_counted(item) for _, item in chain):
        return path
    return "/".join(
        name if _is_counted(item) else item.name.replace("/", "_")
        for name, item in chain
    )


def _is_counted(item):
    """Whether a name is one that Keras makes of a class and a number."""
    if not isinstance(item, keras.layers.Layer):
        return re.fullmatch(r"variable(_\d+)?", item.name) is not None
    class_name = type(item).__name__
    snake = re.sub(r"\W+", "", class_name)
    snake = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", snake)
    snake = re.sub("([a-z])([A-Z])", r"\1_\2", snake).lower()
    return re.fullmatch(rf"{re.escape(snake)}(_\d+)?", item.name) is not None


def _chains(layer):
    """By the id of each variable, what leads to it: `(attribute, object)` pairs."""
    found, waiting = {}, collections.deque([(layer, (), {id(layer)})])
    while waiting:
        owner, chain, above = waiting.popleft()
        for name, item in sorted(_attributes(owner), key=lambda pair: pair[0]):
            if id(item) in above:
                continue
            longer = (*chain, (name, item))
            if isinstance(item, keras.layers.Layer):
                waiting.append((item, longer, above | {id(item)}))
            else:
                found.setdefault(id(item), longer)
    return found


def _attributes(layer):
    """The variables and layers that a layer keeps, by the names of its attributes."""
    for name, value in vars(layer).items():
        if name not in _of_every_layer():
            yield from _kept(name, value)


def _by_object(layer):
    """The id of what a layer keeps, and its attribute's name, the first one's last."""
    for name, item in sorted(_attributes(layer), key=lambda pair: pair[0])[::-1]:
        yield id(item), name


def _kept(name, value):
    if isinstance(value, keras.Variable | keras.layers.Layer):
        yield name, value
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _kept(f"{name}_{number}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _kept(f"{name}_{key}", item)


@functools.cache
def _of_every_layer():
    """Attributes that Keras gives all layers, such as its own lists of variables."""
    layer = keras.layers.Layer()
    layer.build(())
    return frozenset(vars(layer))
