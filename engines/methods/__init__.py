"""Every quantization method. A file in this folder that calls ``register`` is one; nothing else names it."""

import importlib
import pkgutil
from collections.abc import Iterable

from core.errors import InvalidRequest
from engines.methods.base import Method, registered


def load(extra_modules: Iterable[str] = ()) -> None:
    """Import every module of this folder and ``extra_modules``, so that each registers its method; again is harmless.

    Args:
        extra_modules: dotted names of modules elsewhere that call ``register``.
    """
    own = [f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)]
    for name in (*own, *extra_modules):
        importlib.import_module(name)


def get(name: str) -> Method:
    """Return the method called ``name``.

    Raises:
        InvalidRequest: there is none; the message names those that there are.
    """
    methods = registered()
    if name not in methods:
        known = ", ".join(sorted(methods))
        raise InvalidRequest(f"There is no method {name[:80]!r}. Known methods: {known}.", param="recipe.method")
    return methods[name]
