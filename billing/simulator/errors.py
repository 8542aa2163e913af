"""Refusals: AWS's own (code, status, message; facts page §1.1) and those of the control API."""

from __future__ import annotations


class AwsError(Exception):
    """Answered to the SDK as ``__type`` and ``message``; ``members`` are what else the error's model has."""

    def __init__(self, code: str, message: str, *, status: int = 400, **members: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.members = members


class ShapeViolation(AwsError):
    """A bound, pattern, enum or required rule is broken. No model names its code, so a switch may."""

    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", message)


class Refused(Exception):
    """The control API or a page was asked for something that cannot be; the text is for a person."""
