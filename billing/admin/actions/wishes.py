"""What a person is about to confirm, signed: which rows, as they were when they saw them.

The page carries it, so nothing is kept for those who do not confirm; nobody can add a row to it, give it to
another person, or use it for another repair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from django.core import signing
from django.utils.crypto import get_random_string

from accounts.models import User
from billing.repairs.kinds import Repair

# What somebody saw an hour ago they have not seen.
OPEN_FOR = timedelta(hours=1)
_SALT = "billing.admin.actions"


class Outdated(Exception):
    """The page was open for too long, or is not this person's."""


@dataclass(frozen=True, slots=True)
class Wish:
    repair: Repair
    rows: Mapping[int, str]  # primary key, and what was seen of it
    parameters: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False  # more were selected than anybody can answer for
    nonce: str = field(default_factory=lambda: get_random_string(32))

    def signed(self, by: User) -> str:
        seen: dict[str, list[int]] = defaultdict(list)
        for pk, what in self.rows.items():
            seen[what].append(pk)
        told = {"u": by.pk, "n": self.repair.name, "k": self.nonce, "r": seen, "c": self.is_cut}
        return signing.dumps({**told, "p": dict(self.parameters)}, salt=_SALT, compress=True)


def read(token: str, repair: Repair, *, by: User) -> Wish:
    """Raises Outdated."""
    try:
        told = signing.loads(token, salt=_SALT, max_age=OPEN_FOR)
    except signing.BadSignature as error:
        raise Outdated from error
    if (told["u"], told["n"]) != (by.pk, repair.name):
        raise Outdated
    rows = {pk: seen for seen, pks in told["r"].items() for pk in pks}
    return Wish(repair, rows, told["p"], told["c"], told["k"])
