"""Registries: what a class is called on the command line, and where it is found by that name."""

from collections.abc import Callable
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)


def registrar(
    registry: dict[str, Any], entry: Callable[[Any], Any] = lambda cls: cls
) -> Callable[[str], Callable[[_Class], _Class]]:
    """A decorator that takes a name, gives it to a class, and enters the class (or its `entry`)."""

    def named(name: str) -> Callable[[_Class], _Class]:
        def register(cls: _Class) -> _Class:
            cls.name = name  # type: ignore[attr-defined]
            registry[name] = entry(cls)
            return cls

        return register

    return named
