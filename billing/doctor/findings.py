"""What the doctor says of one thing: it is well, it is not, or it could not be told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from billing.aws.errors import MarketplaceError, Scope
from billing.aws.probes import Identity, Probes


class Verdict(StrEnum):
    OK = "ok"
    FAILED = "failed"
    NOT_CHECKED = "not checked"

    @property
    def sign(self) -> str:
        return {self.OK: "✓", self.FAILED: "✗", self.NOT_CHECKED: "–"}[self]


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    """The same at every run: scripts find it again by this."""
    verdict: Verdict
    text: str
    cause: str = ""
    fix: str = ""


@dataclass(slots=True)
class Patient:
    """What is looked at. The rest is found on the way: without an identity AWS is not asked on, and without
    the tables nothing is."""

    probes: Probes
    now: datetime
    identity: Identity | None = None
    has_tables: bool = False


def good(check: str, text: str) -> Finding:
    return Finding(check, Verdict.OK, text)


def bad(check: str, text: str, *, cause: str = "", fix: str) -> Finding:
    return Finding(check, Verdict.FAILED, text, cause, fix)


def open_question(check: str, text: str, *, fix: str = "") -> Finding:
    return Finding(check, Verdict.NOT_CHECKED, text, "", fix)


def refused(check: str, text: str, error: MarketplaceError, *, allow: str = "") -> Finding:
    """AWS's answer as a finding. ``allow`` is the permission that the call needs."""
    if error.scope is Scope.TRANSIENT:
        return open_question(
            check, f"{text}: AWS did not say ({error.code})", fix="Run the doctor again in a minute."
        )
    fix = error.meaning.fix
    if allow and error.code in ("AccessDenied", "AccessDeniedException"):
        fix = f"Allow {allow}: deploy/aws/marketplace.yaml does."
    return bad(check, text, cause=f"{error.code}: {error.meaning.explanation}", fix=fix)
