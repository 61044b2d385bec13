"""Initializers that draw other values for every weight."""


def with_seed_offset(initializer, number):
    """An initializer that draws other values for each number.

    An initializer of Keras draws the same values at every call, unless its seed is a
    `keras.random.SeedGenerator`. A copy of one without a seed draws others; a seed is
    raised by the number. What draws anew by itself, or has no configuration, such as a
    function, is given back as it is.

    Args:
        initializer: what `keras.initializers.get` gives.
        number: int ≥ 0, of a weight of a layer, or of a layer of a network.

    Returns:
        an initializer.

    Example:
        >>> with_seed_offset(keras.initializers.HeNormal(seed=1), 2).seed
        3
    """
    seed = getattr(initializer, "seed", None)
    if not hasattr(initializer, "get_config") or not isinstance(seed, int | None):
        return initializer
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] += number
    return type(initializer).from_config(config)
