"""What files of earlier versions call by another name: they are read as if new.

Files keep names for ever: the configs in a `.keras` file, the attributes of a weights
file, the flags in a `run.json`. Whatever reads one of these asks `current` first.
"""

KEYS = {"licence": "license"}
_VALUES = {
    "compatibility": {"parametrised": "parametrized"},
    "mixed_precision": {True: "bfloat16", False: "none"},
    "preprocess": {"centre": "center"},
    "preprocessing": {"centre": "center"},
}


def current(config, **also):
    """A config, or what else a file keeps by name, in today's words.

    Args:
        config: dict with text keys; dicts in it are read alike.
        **also: new names of keys that were renamed only where this config is from.

    Returns:
        a new dict.
    """
    found = {}
    for key, value in config.items():
        if key == "loops" and type(value) is int:  # of CliqueNet; CRCN's are a list
            key, value = "stages", value + 1
        elif isinstance(value, dict):
            value = current(value)
        elif isinstance(value, str | bool):
            value = _VALUES.get(key, {}).get(value, value)
        found[(KEYS | also).get(key, key)] = value
    return found
