"""Read what pin tests compare: the parameters and the source of a library's private functions."""

import inspect
from collections.abc import Callable
from typing import Any


def parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's parameters, in order."""
    return list(inspect.signature(function).parameters)


def source(of: Any) -> str:
    """Return the source of a function, class or module, with each run of white space as one space."""
    return " ".join(inspect.getsource(of).split())
