"""The measures and the accidents, and the books afterwards."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from allauth.account.models import EmailAddress
from django.db import connection
from django.db.models import Sum
from django.test import Client
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts import organizations
from accounts.models import User
from billing import reconciliation, registration, tasks
from billing.aws.client import get_marketplace
from billing.aws.window import month_of
from billing.models import Agreement, MeteringRecord, UsageEvent
from billing.simulator.client import SimulatorControl
from tests.journeys.processes import answers, until
from tests.load.stack import Stack
from tests.load.traffic import Arriving, Looking, Using, figures, wrk

SECONDS = 8  # each page is measured
DOWN = 5.0  # seconds that each thing is away
GRACE = 3.0  # seconds in which the site must be whole again after it is back
QUIET = 5.0  # seconds between two accidents
AGO = timedelta(hours=20)


@dataclass
class Buyer:
    slug: str
    session: str
    agreement: Agreement


def play(stack: Stack) -> int:
    control = SimulatorControl(stack.simulator_url)
    buyer = _buyer(control)
    cookie = f"sessionid={buyer.session}"
    pages = {
        "landing": ("/", ""),
        "sign-in": ("/accounts/login/", ""),
        "gate-protected page": (f"/o/{buyer.slug}/reports/", cookie),
        "usage page": (f"/o/{buyer.slug}/usage/", cookie),
    }
    _measure(stack, pages)
    hours = max(1, min(18, int((timezone.now() - month_of(timezone.now())) / timedelta(hours=1)) - 1))
    looking = Looking(0.05, {name: _look(stack.url + path, sent) for name, (path, sent) in pages.items()})
    arriving = Arriving(0.5, stack.url, control)
    using = Using(0.05, stack.url, buyer.slug, buyer.session, hours)
    for thread in (looking, arriving, using):
        thread.start()
    time.sleep(QUIET)
    print(f"\n{'while buyers arrive and use':<38}{'away s':>8}{'back s':>8}{'errors':>8}{'else':>8}")
    good = [
        _accident("the worker is killed", stack.worker.kill, stack.worker.start, looking, tolerated=False),
        _accident("a gunicorn process is killed", lambda: _kill_one(stack), _nothing, looking, down=0),
        _accident("Redis is gone", stack.redis.kill, stack.redis.start, looking, tolerated=False),
        _accident("PostgreSQL is restarted", stack.postgres.stop, stack.postgres.start, looking),
        _accident(
            "PostgreSQL crashes", lambda: stack.postgres.stop("immediate"), stack.postgres.start, looking
        ),
    ]
    time.sleep(QUIET)
    for thread in (arriving, using, looking):
        thread.finish()
    arriving.each = using.each = 0
    until(lambda: _again(arriving), seconds=30, what="the arrival of those who were turned away")
    return 0 if all([*good, *_books(control, arriving, using)]) else 1


def _buyer(control: SimulatorControl) -> Buyer:
    """Somebody who bought twenty hours ago."""
    now = timezone.now()
    user = User.objects.create_user("ada@acme.example", "load")
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    organization = organizations.create(name="Acme", owner=user)
    bought = control.subscribe("reports-payg", started_at=now - AGO)
    arrival = registration.arrive(get_marketplace(), token=bought.token, free_trial_hint=False, now=now)
    registration.claim(arrival, by=user, organization=organization, now=now)
    active = Agreement.objects.filter(pk=arrival.agreement_id, status=Agreement.Status.ACTIVE)
    until(active.exists, seconds=60, what="the activation by worker and beat")
    client = Client()
    client.force_login(user)
    return Buyer(organization.slug, client.cookies["sessionid"].value, active.get())


def _measure(stack: Stack, pages: dict[str, tuple[str, str]]) -> None:
    print(f"{'page, 8 connections':<24}{'per s':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'errors':>8}")
    for name, (path, cookie) in pages.items():
        assert _look(stack.url + path, cookie)(), f"{name} does not answer 200"
        figures(wrk(stack.url + path, seconds=2, cookie=cookie))  # what is compiled and read once
        seen = figures(wrk(stack.url + path, seconds=SECONDS, cookie=cookie))
        errors = seen["status"] + seen["lost"]
        rate = seen["requests"] / seen["seconds"]
        numbers = "".join(f"{seen[name]:>9.1f}" for name in ("p50", "p95", "p99"))
        print(f"{name:<24}{rate:>8.0f}{numbers}{errors:>8}", flush=True)


def _look(url: str, cookie: str) -> Callable[[], bool]:
    return lambda: answers(url, headers={"Cookie": cookie} if cookie else {})


def _accident(
    name: str,
    away: Callable[[], Any],
    back: Callable[[], Any],
    looking: Looking,
    *,
    tolerated: bool = True,
    down: float = DOWN,
) -> bool:
    """Whether pages failed only as far as they may: not at all, or while it was away and shortly after."""
    began = time.monotonic()
    away()
    time.sleep(down)
    back()
    up = time.monotonic()
    time.sleep(GRACE + QUIET)
    end = time.monotonic()
    late = looking.failures(up, end)
    recovered = max((at for at, _, _ in late), default=up) - up
    during = looking.failures(began, up)
    beyond = looking.failures(up + GRACE, end) if tolerated else during + late
    print(f"{name:<38}{up - began:>8.1f}{recovered:>8.1f}{len(during):>8}{len(late):>8}", flush=True)
    if beyond:
        print(
            f"  ✗ {len(beyond)} pages failed that should not have: {sorted({page for _, page, _ in beyond})}"
        )
    return not beyond


def _nothing() -> None:
    """gunicorn starts another by itself."""


def _kill_one(stack: Stack) -> None:
    os.kill(stack.web.children()[0], signal.SIGKILL)


def _again(arriving: Arriving) -> bool:
    for subscription in list(arriving.waiting):
        if arriving._post(subscription.token):
            arriving.arrived.append(str(subscription.license_arn))
            arriving.waiting.remove(subscription)
    return not arriving.waiting


def _all_accepted() -> bool:
    others = MeteringRecord.objects.exclude(state=MeteringRecord.State.ACCEPTED)
    return MeteringRecord.objects.exists() and not others.exists()


def _books(control: SimulatorControl, arriving: Arriving, using: Using) -> list[bool]:
    """Nothing that was bought or used is lost, and AWS bills what was recorded."""
    connection.close()
    known = Agreement.objects.filter(license_arn__in=arriving.bought, status=Agreement.Status.ACTIVE)
    until(lambda: known.count() == len(arriving.bought), seconds=90, what="the activation of every purchase")
    try:
        tasks.close_hours.delay()
    except OperationalError:
        print("The broker is not back")
    closed = MeteringRecord.objects.exclude(state=MeteringRecord.State.ACCEPTED)
    until(
        lambda: MeteringRecord.objects.exists() and not closed.exists(), seconds=90, what="AWS's acceptance"
    )
    events = UsageEvent.objects.filter(key__startswith="render:load-")
    kept = {key.removeprefix("render:") for key in events.values_list("key", flat=True)}
    recorded = events.aggregate(total=Sum("quantity"))["total"]
    open_still = UsageEvent.objects.open().aggregate(total=Sum("quantity"))["total"] or Decimal(0)
    billed = sum(
        Decimal(row["quantity"]) for row in control.invoice()["totals"] if row["dimension"] == "pages"
    )
    breaches = [breach.text for breach in reconciliation.verify()]
    lines = [
        (f"{len(arriving.bought)} bought, {known.count()} known; {arriving.turned_away} were turned away and "
         "came again", known.count() == len(set(arriving.arrived)) == len(arriving.bought)),
        (f"{len(using.confirmed)} uses confirmed, {len(kept & set(using.confirmed))} recorded; "
         f"{using.refused} were sent again", set(using.confirmed) <= kept),
        (f"{recorded:f} pages recorded = {billed:f} billed by AWS + {open_still:f} not closed yet",
         recorded == billed + open_still),
        (f"verify_ledger: {len(breaches)} breaches", not breaches),
    ]  # fmt: skip
    print()
    for text, is_good in lines:
        print("✓" if is_good else "✗", text)
    return [is_good for _, is_good in lines]
