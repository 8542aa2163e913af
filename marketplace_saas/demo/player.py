"""Plays the buyers: what they do, they do over HTTP, and what beat would do, the worker is asked to do now.

The player reads rows to see whether a step has happened. It never calls a flow.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from celery.app.task import Task
from django.db.models import Q
from django.utils import timezone

from billing import tasks
from billing.models import Agreement, MeteringRecord, UsageEvent
from billing.simulator.client import SimulatorControl
from marketplace_saas.demo.browser import Browser, PageProblem

STEP_SECONDS = 40
PASSWORD = "demo-marketplace-2026"


class StoryProblem(Exception):
    """A step of the story did not come about."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the story plays: our site, AWS's, and what to do between two looks at the rows."""

    site_url: str
    simulator_url: str
    check: Callable[[], None]
    say: Callable[[str], None]

    @property
    def aws(self) -> SimulatorControl:
        return SimulatorControl(self.simulator_url)

    def until(self, happened: Callable[[], bool], what: str, *, run: Task | None = None) -> None:
        """Wait until ``happened``; meanwhile enqueue ``run``, as beat would."""
        deadline = time.monotonic() + STEP_SECONDS
        next_run = 0.0
        while not happened():
            self.check()
            if time.monotonic() > deadline:
                raise StoryProblem(f"{what} did not happen within {STEP_SECONDS} seconds.")
            if run is not None and time.monotonic() >= next_run:
                run.delay()
                next_run = time.monotonic() + 5
            time.sleep(0.1)


class Buyer:
    """One person with a browser, an AWS account and an organization."""

    def __init__(self, stage: Stage, *, name: str, email: str, company: str, account: str) -> None:
        self.stage = stage
        self.name = name
        self.email = email
        self.company = company
        self.account = account
        self.browser = Browser()

    def subscribe(self, product_code: str, **quantities: int) -> None:
        """From the storefront's Subscribe button to our welcome page."""
        self.browser.open(f"{self.stage.simulator_url}/products/{product_code}")
        values = {f"quantity__{key}": str(quantity) for key, quantity in quantities.items()}
        self.browser.submit("Subscribe", aws_account_id=self.account, **values)
        self.browser.submit("x-amzn-marketplace-token")
        self.browser.expect(self.account[-4:])

    def sign_up(self) -> None:
        """Create the account and type the mailed code. Ends on the welcome page."""
        self.browser.open(f"{self.stage.site_url}/accounts/signup/?next=/marketplace/welcome/")
        self.browser.submit("password1", email=self.email, password1=PASSWORD)
        self.browser.submit("code", code=self._mailed_code())
        self.browser.expect(self.account[-4:])

    def confirm(self, **values: str) -> None:
        """Give the purchase to an organization."""
        self.browser.submit("registration", **values)
        self.browser.expect(self.company)

    def create_organization(self) -> None:
        self.confirm(organization="new", name=self.company)

    def open_product(self) -> None:
        self.browser.open(self.product_url)
        self.browser.expect("render log")

    def upload(self, *jobs: tuple[str, datetime, str, str]) -> None:
        """Send a render machine's log: (job, finished at, pages, team)."""
        lines = [f"{job},{at.isoformat()},{pages},{team}" for job, at, pages, team in jobs]
        self.browser.open(self.product_url)
        self.browser.submit("log", log="\n".join(lines))
        self.browser.expect(f"{len(jobs)} render job")

    def cancel(self) -> None:
        """In AWS's list of subscriptions."""
        self.browser.open(f"{self.stage.simulator_url}/subscriptions?account={self.account}")
        self.browser.follow("Cancel subscription")
        self.browser.submit("Cancel subscription")

    @property
    def agreements(self) -> list[Agreement]:
        return list(Agreement.objects.filter(customer__aws_account_id=self.account).order_by("pk"))

    @property
    def slug(self) -> str:
        (agreement,) = self.agreements[:1]
        if agreement.organization is None:
            raise StoryProblem(f"{self.company} has not claimed its purchase.")
        return agreement.organization.slug

    @property
    def product_url(self) -> str:
        return f"{self.stage.site_url}/o/{self.slug}/reports/"

    def has(self, status: str) -> bool:
        return bool(self.agreements) and all(agreement.status == status for agreement in self.agreements)

    def _mailed_code(self) -> str:
        """Read the sign-in code where a person would: in the outbox page."""
        reader = Browser()
        for _ in range(50):
            reader.open(f"{self.stage.site_url}/outbox/")
            for link in re.findall(r'href="(/outbox/[^"/]+/)"', reader.text):
                reader.open(link)
                code = re.search(r"^\s*([A-Z0-9]{3,4}-?[A-Z0-9]{3,4})\s*$", reader.text, re.MULTILINE)
                if self.email in reader.text and code:
                    return code[1]
            time.sleep(0.1)
        raise PageProblem(f"No mail with a code for {self.email} is in the outbox.")


def play(stage: Stage) -> list[Buyer]:
    """The story. The simulator's clock stands two hours back when it begins, and at now when it ends."""
    say, aws = stage.say, stage.aws
    ada = Buyer(stage, name="Ada", email="ada@northwind.example", company="Northwind", account="210987654321")
    bram = Buyer(stage, name="Bram", email="bram@lumen.example", company="Lumen Labs", account="345678901234")
    chen = Buyer(
        stage, name="Chen", email="chen@harbor.example", company="Harbor & Co", account="456789012345"
    )

    ada.subscribe("reports-flex", included_pages=100)
    say("Ada buys Acme Reports Flex with 100 pages on AWS Marketplace, and AWS sends her browser to us")
    ada.sign_up()
    say("Ada signs up and types the code we mailed her")
    ada.create_organization()
    say("Ada confirms the purchase for a new workspace, Northwind")

    bram.subscribe("reports-flex", included_pages=50)
    bram.sign_up()
    bram.create_organization()
    bram.subscribe("reports-team", seats=5)
    bram.confirm()
    say("Bram buys twice from one AWS account; both purchases belong to his workspace, Lumen Labs")

    chen.subscribe("reports-payg")
    chen.sign_up()
    chen.create_organization()
    say("Chen subscribes to pay-as-you-go for Harbor & Co")

    aws.advance(timedelta(minutes=1))
    buyers = [ada, bram, chen]
    stage.until(
        lambda: all(buyer.has(Agreement.Status.ACTIVE) for buyer in buyers),
        "The activation of the purchases",
        run=tasks.poll_events,
    )
    say("AWS's events arrive by SQS: all four agreements are active")
    stage.until(lambda: _entitled(ada, bram) == 4, "The reading of the entitlements", run=tasks.run_effects)
    say("Entitlements are read from AWS: 100 and 50 included pages, reports, 5 seats")
    for buyer in buyers:
        buyer.open_product()
    say("The product page opens for all three, because of what they bought")

    # From here on AWS's clock is 40 minutes back: it has the last finished hour behind it.
    aws.set_offset(-2400)
    half_past = _finished_hour() + timedelta(minutes=30)
    ada.upload(("n-1", half_past, "85", "finance"), ("n-2", half_past, "45", "research"))
    ada.upload(("n-1", half_past, "85", "finance"), ("n-2", half_past, "45", "research"))
    say("Northwind renders 130 pages, tagged by team; its log is sent twice and counted once")
    bram.upload(("l-1", half_past, "62.5", "design"))
    say("Lumen Labs renders 62.5 pages")
    chen.upload(("h-1", timezone.now() - timedelta(minutes=50), "12.25", ""))
    say("Harbor & Co renders 12.25 pages")

    chen.cancel()
    aws.advance(timedelta(minutes=1))
    stage.until(
        lambda: chen.has(Agreement.Status.ENDING), "The end of Chen's subscription", run=tasks.poll_events
    )
    say("Chen cancels on AWS; access ends, and an hour is left to bill the last usage")

    aws.set_offset(0)
    _wait_for_usage(stage, ~Q(metering_record=None), "The closing of the hour", run=tasks.close_hours)
    say("The hour is closed: usage becomes metering records, the included pages are taken off")
    _wait_for_usage(
        stage,
        Q(metering_record__state__in=[MeteringRecord.State.ACCEPTED, MeteringRecord.State.NOT_DUE]),
        "The acceptance by AWS",
        run=tasks.submit_metering,
    )
    say("BatchMeterUsage accepts the overage, and the last usage of the cancelled subscription")
    return buyers


def _entitled(*buyers: Buyer) -> int:
    return sum(agreement.entitlements.current().count() for buyer in buyers for agreement in buyer.agreements)


def _finished_hour() -> datetime:
    """The newest hour that was over five minutes ago."""
    now = timezone.now() - timedelta(minutes=5)
    return now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)


def _wait_for_usage(stage: Stage, condition: Q, what: str, *, run: Task) -> None:
    everything = UsageEvent.objects.count()
    stage.until(lambda: UsageEvent.objects.filter(condition).count() == everything, what, run=run)
