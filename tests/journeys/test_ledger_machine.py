"""Whatever happens in whatever order: the ledger equation holds after every step, the invoice in the end.

Hypothesis invents the order: usage early, late and cancelled, hours closed, calls that fail in each way,
purchases amended, renewed, cancelled and moved to licenses, operators who decide, and a month that ends.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounts.models import Organization, User
from billing import (
    clock,
    decisions,
    effects,
    identity,
    metering,
    reconciliation,
    registration,
    submission,
    usage,
)
from billing.aws.window import HOUR
from billing.models import Agreement, MeteringRecord, UsageEvent
from tests.billing.ledger import REGION
from tests.journeys.crashes import assert_billed_once
from tests.plugin import Aws

BEGIN = datetime(2026, 11, 30, 17, 30, tzinfo=UTC)
PRODUCTS = ("reports-payg", "reports-flex", "reports-classic")

State = MeteringRecord.State

quantities = st.integers(0, 3 * 10**8).map(lambda millionths: Decimal(millionths).scaleb(-6))
minutes_ago = st.integers(0, 300) | st.integers(0, 2000)
tag_sets = st.sampled_from([{}, {}, {"team": "ml"}, {"team": "web", "env": "x"}])
which = st.integers(0, 20)
faults = st.sampled_from([None, None, "throttle", "internal_error", "unprocessed", "drop_after_accept"])


class Ledger(RuleBasedStateMachine):
    aws: ClassVar[Aws]
    acme: ClassVar[Organization]
    acme_admin: ClassVar[User]
    operator: ClassVar[User]

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.numbers = itertools.count(1)
        self.keys: list[str] = []
        self.most = 100  # pages that anybody has bought ahead
        self.now = BEGIN
        self.aws.control.reset()
        self.aws.list_products()
        self.aws.control.freeze(BEGIN)
        for code in PRODUCTS:
            self.buy(code)
        self.pass_time(timedelta(minutes=1))
        self.listen()

    def buy(self, code: str, **options: Any) -> None:
        """Buy and come with the token, as a buyer does; the purchase is our one organization's."""
        bought = self.aws.buy(code, **options)
        arrival = registration.arrive(
            self.aws.marketplace, token=bought.token, free_trial_hint=False, now=self.now
        )
        registration.claim(arrival, by=self.acme_admin, organization=self.acme, now=self.now)

    def pass_time(self, by: timedelta) -> None:
        self.now += by
        self.aws.control.freeze(self.now)

    @property
    def agreements(self) -> list[Agreement]:
        return list(Agreement.objects.order_by("pk"))

    def listen(self) -> None:
        """Take in what AWS has sent; what renews itself goes on for the same organization."""
        self.aws.deliver(now=self.now)
        effects.run_due(self.aws.marketplace, now=self.now)
        clock.advance(now=self.now)
        Agreement.objects.filter(organization=None).update(organization=self.acme, claimed_at=self.now)

    def row(self, index: int, quantity: Decimal, ago: int, tags: dict[str, str]) -> dict[str, Any]:
        key = f"use-{next(self.numbers)}"
        self.keys.append(key)
        return {
            "organization": self.acme,
            "dimension": "pages",
            "quantity": quantity,
            "key": key,
            "tags": tags,
            "occurred_at": self.now - timedelta(minutes=ago),
            "agreement": self.agreements[index % len(self.agreements)],
        }

    @rule(index=which, quantity=quantities, ago=minutes_ago, tags=tag_sets)
    def record(self, index: int, quantity: Decimal, ago: int, tags: dict[str, str]) -> None:
        usage.record(**self.row(index, quantity, ago, tags), now=self.now)

    @rule(uses=st.lists(st.tuples(which, quantities, minutes_ago, tag_sets), min_size=1, max_size=6))
    def record_many(self, uses: list[tuple[int, Decimal, int, dict[str, str]]]) -> None:
        rows = [usage.Use(**self.row(*use)) for use in uses]
        report = usage.record_many([*rows, rows[0]], now=self.now)
        assert (report.accepted.total(), len(report.known), len(report.refused)) == (len(rows), 1, 0)

    @precondition(lambda self: self.keys)
    @rule(index=which)
    def cancel(self, index: int) -> None:
        try:
            usage.cancel(self.acme, self.keys[index % len(self.keys)], reason="taken back", now=self.now)
        except usage.AlreadyMetered:
            pass

    @rule(minutes=st.integers(1, 200))
    def wait(self, minutes: int) -> None:
        self.pass_time(timedelta(minutes=minutes))
        self.listen()

    @rule()
    def close(self) -> None:
        metering.close_hours(region=REGION, now=self.now)

    @rule(fault=faults, count=st.integers(1, 3), share=st.floats(0, 1))
    def submit(self, fault: str | None, count: int, share: float) -> None:
        if fault is not None:
            self.aws.control.fault("BatchMeterUsage", fault, count=count, share=share)
        submission.submit_due(self.aws.marketplace, now=self.now)
        self.aws.control.clear_faults()

    @rule(more=st.integers(1, 50))
    def amend(self, more: int) -> None:
        for agreement in self.alive("reports-flex")[:1]:
            self.most += more
            self.aws.control.amend(agreement["agreement_id"], {"included_pages": self.most})

    @rule()
    def renew(self) -> None:
        for agreement in self.alive("reports-flex")[:1]:
            self.aws.control.renew(agreement["agreement_id"])

    @rule(code=st.sampled_from(PRODUCTS), comes_back=st.booleans())
    def cancel_purchase(self, code: str, comes_back: bool) -> None:
        for agreement in self.alive(code)[:1]:
            self.aws.control.cancel(agreement["agreement_id"])
            self.listen()
            self.buy(code, aws_account_id=agreement["aws_account_id"] if comes_back else None)

    @rule()
    def move_to_licenses(self) -> None:
        for agreement in self.alive("reports-classic")[:1]:
            if agreement["identity"] == "legacy":
                self.aws.control.opt_in(agreement["agreement_id"])

    @rule(index=which)
    def switch(self, index: int) -> None:
        chosen = self.agreements[index % len(self.agreements)]
        try:
            identity.switch_to_license(chosen.pk, by=self.operator, reason="opted in", now=self.now)
        except identity.SwitchRefused:
            assert chosen.identity == "legacy"

    @rule(decision=st.sampled_from(["retry", "hold", "resume", "void", "write_off"]), index=which)
    def decide(self, decision: str, index: int) -> None:
        records = list(MeteringRecord.objects.order_by("pk"))
        if records:
            chosen = [records[index % len(records)]]
            getattr(decisions, decision)(chosen, by=self.operator, reason="tried", now=self.now)

    @rule(index=which, written_off=st.booleans())
    def decide_on_late_usage(self, index: int, written_off: bool) -> None:
        late = list(UsageEvent.objects.filter(disposition="too_late").order_by("pk"))
        if late:
            decide = decisions.write_off_usage if written_off else decisions.bill_late_usage
            decide([late[index % len(late)]], by=self.operator, reason="tried", now=self.now)

    @invariant()
    def ledger_equation_holds(self) -> None:
        assert [breach.text for breach in reconciliation.verify()] == []

    def alive(self, code: str) -> list[dict[str, Any]]:
        return [
            each
            for each in self.aws.control.state()["agreements"]
            if each["product_code"] == code and each["status"] == "ACTIVE" and each["license_active"]
        ]

    def teardown(self) -> None:
        """Without further accidents everything settles, and AWS bills what the ledger holds as accepted."""
        try:
            for _ in range(40):
                self.pass_time(timedelta(minutes=10))
                self.listen()
                metering.close_hours(region=REGION, now=self.now)
                submission.submit_due(self.aws.marketplace, now=self.now)
            assert not MeteringRecord.objects.filter(state__in=[State.DUE, State.IN_DOUBT]).exists()
            assert_billed_once(self.aws)
            assert not UsageEvent.objects.open().filter(occurred_at__lt=self.now - 26 * HOUR).exists()
        finally:
            transaction.set_rollback(True)
            self.example.__exit__(None, None, None)


def play(aws: Aws, acme: Organization, *, examples: int, steps: int) -> None:
    Ledger.aws, Ledger.acme = aws, acme
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture(autouse=True)
def people(acme_admin, operator):
    Ledger.acme_admin, Ledger.operator = acme_admin, operator


@pytest.mark.timeout(300)
def test_the_ledger_holds_in_any_order(aws, acme):
    play(aws, acme, examples=8, steps=25)


@pytest.mark.slow
@pytest.mark.ledger
@pytest.mark.timeout(1200)
def test_the_ledger_holds_in_many_more_orders(aws, acme):
    play(aws, acme, examples=40, steps=50)
