"""Everything that is looked at, in the order in which it would be mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from billing.aws.probes import Probes
from billing.doctor import account, events, listing, site
from billing.doctor.findings import Finding, Patient

PARTS: tuple[tuple[str, Callable[[Patient], Iterator[Finding]]], ...] = (
    ("This installation", site.look),
    ("AWS account", account.look),
    ("Listing and catalog", listing.look),
    ("AWS's events", events.look),
)


def examine(probes: Probes, *, now: datetime) -> Iterator[tuple[str, Finding]]:
    """Each finding with the title of its part. Changes nothing, here or at AWS."""
    patient = Patient(probes, now)
    for title, look in PARTS:
        for finding in look(patient):
            yield title, finding
        if not patient.has_tables:
            return
