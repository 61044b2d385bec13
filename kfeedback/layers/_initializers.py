"""Initializers that draw other values for every weight."""


def vary(initializer, number):
    """A copy of an initializer for the `number`-th weight of a layer, from 0.

    An initializer draws the same values at every call. A copy draws others, unless it
    was given a seed: then each number gets a seed of its own.
    """
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] += number
    return type(initializer).from_config(config)
