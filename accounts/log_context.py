"""What the piece of work in hand is about, for the lines it logs: an organization, an agreement, a task.

Ids only. Each request and each task begins with nothing (``fresh``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_about: ContextVar[Mapping[str, object]] = ContextVar("log_context", default=MappingProxyType({}))


def current() -> Mapping[str, object]:
    return _about.get()


def note(**ids: object) -> None:
    """From here to the end of the request, the task or the block."""
    _about.set({**_about.get(), **ids})


@contextmanager
def about(**ids: object) -> Iterator[None]:
    """For the lines of a block."""
    token = _about.set({**_about.get(), **ids})
    try:
        yield
    finally:
        _about.reset(token)


@contextmanager
def fresh(**ids: object) -> Iterator[None]:
    """A new piece of work: what the one before it in this thread was about is forgotten."""
    token = _about.set(ids)
    try:
        yield
    finally:
        _about.reset(token)
