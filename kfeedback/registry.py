"""Tables that fill themselves: what the modules of a package register.

A family of networks, a source of data and a saliency method are each one file that
registers itself. A table imports the files of its packages when it is asked, so that a
new file is all that it takes to add one.
"""

import importlib
import pkgutil


class Registry:
    """Objects by name.

    Args:
        *packages: dotted names of the packages whose modules register objects.
    """

    def __init__(self, *packages):
        self._packages = packages
        self._entries = {}

    def add(self, name, entry):
        """Registers an object.

        Raises:
            ValueError: if another one has the name.
        """
        if self._entries.setdefault(name, entry) is not entry:
            raise ValueError(f"name must be a new one, got {name!r}, which is taken.")
        return entry

    def entries(self):
        """Dict from each name to its object, in the order of registration."""
        for package in self._packages:
            for module in pkgutil.iter_modules(
                importlib.import_module(package).__path__
            ):
                importlib.import_module(f"{package}.{module.name}")
        return dict(self._entries)

    def get(self, name, argument="name"):
        """The object of a name.

        Raises:
            ValueError: if there is none; `argument` is what the error calls the name.
        """
        entries = self.entries()
        if not isinstance(name, str) or name not in entries:
            raise ValueError(
                f"{argument} must be one of {', '.join(sorted(entries))}, got {name!r}."
            )
        return entries[name]
