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
        inside, chains = _counted_inside(layer), _chains(layer)
        for variable in layer.weights:
            parts = set(variable.path.removeprefix(f"{layer.path}/").split("/"))
            is_known = not _is_counted(variable) and not inside & parts
            if is_known or id(variable) in chains:
                continue
            if layer is model and any(variable is v for v in _of_leaves(model)):
                continue  # seen with its own layer
            raise ValueError(
                "model must have variables with names, or kept in attributes of their "
                f"layers, got '{model.name}' with '{variable.path}', which Keras named "
                "by counting."
            )


def counted(model):
    """The layers with weights that Keras named by counting, in the order of the graph.

    Their names say which was made first, not where it stands: of two equal branches
    made in the other order each has the other's name. The order is that of a walk from
    the output back to the input, which does not depend on it.

    Returns:
        list of names.
    """
    model = graph.seen_through(model)
    if not graph.has_graph(model):
        return []
    found, seen = {}, set()
    waiting = [graph.producer(x) for x in reversed(model.outputs)]
    while waiting:
        node = waiting.pop()
        above = [] if node.is_input else map(graph.producer, node.input_tensors)
        above = [one for one in above if id(one) not in seen]
        if above and id(node) not in seen:
            # Again when all that leads to it is done.
            waiting += [node, *reversed(above)]
        elif graph.layer_has_weights(node.operation) and _is_counted(node.operation):
            found[node.operation.name] = None
        seen.add(id(node))
    return list(found)


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
    chains, inside = _chains(model), _counted_inside(model)
    for variable in model.weights:
        if id(variable) not in known:
            key = _key(variable, variable.path, chains, inside)
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
        chains, inside = _chains(layer), _counted_inside(layer)
        for variable in layer.weights:
            path = variable.path.removeprefix(f"{layer.path}/")
            key = _key(variable, path, chains, inside)
            yield f"{name}/{key}", f"{prefix}{layer.name}/{path}", variable


def _key(variable, path, chains, inside):
    """The path, or by attributes where a part of it was named by counting."""
    chain = chains.get(id(variable), ())
    is_counted = any(_is_counted(item) for _, item in chain)
    if not chain or not (is_counted or inside.intersection(path.split("/"))):
        return path
    return "/".join(
        name if _is_counted(item) else item.name.replace("/", "_")
        for name, item in chain
    )


def _counted_inside(layer):
    """The names of the layers in a layer that Keras named by counting."""
    inner = [] if graph.has_graph(layer) else graph.all_layers(layer)[1:]
    return {one.name for one in inner if _is_counted(one)}


def _is_counted(item):
    """Whether a name is one that Keras makes of a class and a number.

    In a `Bidirectional` there is a direction before them.
    """
    if not isinstance(item, keras.layers.Layer):
        return re.fullmatch(r"variable(_\d+)?", item.name) is not None
    class_name = type(item).__name__
    snake = re.sub(r"\W+", "", class_name)
    snake = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", snake)
    snake = re.sub("([a-z])([A-Z])", r"\1_\2", snake).lower()
    pattern = rf"((for|back)ward_)?{re.escape(snake)}(_\d+)?"
    return re.fullmatch(pattern, item.name) is not None


def _chains(layer):
    """By the id of each variable, what leads to it: `(attribute, object)` pairs."""
    found, waiting = {}, collections.deque([(layer, (), {id(layer)})])
    while waiting:
        owner, chain, above = waiting.popleft()
        for name, item in _attributes(owner):
            if id(item) in above:
                continue
            longer = (*chain, (name, item))
            if isinstance(item, keras.layers.Layer):
                waiting.append((item, longer, above | {id(item)}))
            else:
                found.setdefault(id(item), longer)
    return found


def _attributes(layer):
    """The variables and layers that a layer keeps, by the names of its attributes.

    The order is that of the names, public ones first: not that in which they were set.
    """
    own = {name for name in vars(layer) if not name.startswith("_self_")}
    for name in sorted(
        own - _of_every_layer(), key=lambda name: (name[0] == "_", name)
    ):
        yield from _kept(name, vars(layer)[name])


def _by_object(layer):
    """The id of what a layer keeps, and its attribute's name, the first one's last."""
    for name, item in [*_attributes(layer)][::-1]:
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
