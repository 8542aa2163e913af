"""The named lines of closing and submitting at which a process may die.

Nothing happens there, unless a test set ``when_reached`` to kill its own process: so each line is proved to
lose and to double nothing. A point that no test ever hits fails the suite.
"""

from __future__ import annotations

from collections.abc import Callable

POINTS = (
    "closing.locked",
    "closing.planned",
    "closing.recorded",
    "closing.claimed",
    "closing.committed",
    "submission.leased",
    "submission.picked",
    "submission.taken",
    "submission.committed",
    "submission.sent",
    "submission.answered",
    "submission.settled",
    "submission.settled_committed",
    "submission.halved",
)

when_reached: Callable[[str], None] | None = None


def reached(point: str) -> None:
    if when_reached is not None:
        when_reached(point)
