"""The operators' lists over five million uses, each beside the barest query of a hundred rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from allauth.mfa.models import Authenticator
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from accounts.models import User
from billing.admin.columns import list_url
from billing.aws.window import hour_of
from billing.models import Agreement, MeteringRecord, Submission, SubmissionLine, UsageEvent
from tests.bench import references, world
from tests.bench.compare import Measure, compare

_PAGE = 100  # rows
_EACH = 5  # uses in a record


def lists(*, quick: bool) -> Iterator[Measure]:
    """Opened as a browser does, page and all; the bare query is the first hundred rows by primary key."""
    bought = world.agreements("reports-payg", world.invented(100 if quick else 2_000))
    world.ledger(bought, hours=100 if quick else 500, each=_EACH)
    client = _operator()
    # The front page has no clock but the real one.
    old = hour_of(timezone.now()) - timedelta(hours=50 if quick else 400)
    range_of = {"gte": old.isoformat(), "lt": (old + timedelta(hours=1)).isoformat()}
    used_then = {f"occurred_at__{bound}": at for bound, at in range_of.items()}
    hour = {f"hour__{bound}": at for bound, at in range_of.items()}
    account = bought[7].license_id or ""
    shown: tuple[tuple[str, str, str], ...] = (
        ("uses", list_url(UsageEvent), "billing_usageevent"),
        ("uses of an hour", list_url(UsageEvent, **used_then), "billing_usageevent"),
        ("uses of a buyer", list_url(UsageEvent, q=account), "billing_usageevent"),
        ("uses by key", list_url(UsageEvent, q="no such key"), "billing_usageevent"),
        ("records", list_url(MeteringRecord), "billing_meteringrecord"),
        ("records parked", list_url(MeteringRecord, state__exact="parked"), "billing_meteringrecord"),
        ("records of hour", list_url(MeteringRecord, **hour), "billing_meteringrecord"),
        ("submissions", list_url(Submission), "billing_submission"),
        ("answers", list_url(SubmissionLine), "billing_submissionline"),
        ("agreements", list_url(Agreement), "billing_agreement"),
    )
    for name, url, table in shown[:: 3 if quick else 1]:
        yield _beside(name, _opening(client, url), table)
    yield _beside("front page", _opening(client, "/admin/"), "billing_meteringrecord")
    cold = _opening(client, "/admin/", first=cache.clear)
    yield _beside("front page cold", cold, "billing_meteringrecord")


def _beside(name: str, ours: Callable[[], int], table: str) -> Measure:
    # A page is a hundred rows and all that they name, drawn by templates; its reference only fetches them.
    # Past the bound is what reads a whole table.
    return compare(name, ours, lambda: references.first_rows(table, _PAGE), hold="<= 1000", unit="ms")


def _opening(client: Client, url: str, *, first: Callable[[], object] = lambda: None) -> Callable[[], int]:
    def open_it() -> int:
        first()
        response = client.get(url)
        assert response.status_code == 200, response
        return 1

    return open_it


def _operator() -> Client:
    user = User.objects.create_superuser("operator@seller.example", "a password of theirs")
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": "x"})
    client = Client()
    client.force_login(user)
    return client


ALL: Sequence[Callable[..., Iterator[Measure]]] = (lists,)
