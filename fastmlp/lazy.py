"""Names of a package that are imported when somebody first asks for them.

So nothing is loaded that a program doesn't use, and modules may import each other's packages.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any


def names_of(
    package: str, homes: dict[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package (PEP 562).

    homes: by module, as `.log` or `..labels`, its names that the package has, with spaces between.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}
    here = sys.modules[package]

    def get(name: str) -> Any:
        if name not in home:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=here)
        value = getattr(importlib.import_module(home[name], package), name)
        setattr(here, name, value)
        return value

    def names() -> list[str]:
        have = vars(here)
        own = {name for name in have if name.startswith("__") and name.endswith("__")}
        return sorted(own.union(have["__all__"]))

    return get, names
