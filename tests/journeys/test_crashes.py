"""A process may die on any line between claim and commit: the next run loses and doubles nothing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from billing import crashpoints
from billing.aws.window import HOUR
from billing.models import Agreement, Dimension, MeteringRecord, UsageEvent
from tests.billing.ledger import NOON, bought_agreement, entitle, use
from tests.journeys.crashes import (
    assert_billed_once,
    close_and_submit,
    dies_after,
    dies_at,
    free_the_lease,
    go_on,
)

NOW = NOON + timedelta(minutes=5)
PRODUCTS = ("reports-payg", "reports-flex", "reports-classic")

State = MeteringRecord.State

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bought(aws, catalog, acme):
    """A license, a contract with an allowance and a legacy purchase; one dimension is unknown to AWS."""
    aws.control.freeze(NOW)
    Dimension.objects.create(product=catalog["reports-payg"], key="ghosts", label="Ghosts", kind="metered")
    agreements = [bought_agreement(aws, catalog, acme, code) for code in PRODUCTS]
    entitle(agreements[1], 8)
    return agreements


def use_all(bought: list[Agreement]) -> None:
    for agreement in bought:
        for back in (1, 2, 3):
            use(agreement, "2.5", at=NOON - back * HOUR + timedelta(minutes=5), tags={"team": "ml"})
            use(agreement, 3, at=NOON - back * HOUR + timedelta(minutes=15))
    use(bought[0], 1, at=NOON - HOUR, dimension="ghosts")


@pytest.mark.parametrize("point", crashpoints.POINTS)
def test_killed_at_any_named_line_the_next_run_converges(aws, bought, point):
    use_all(bought)
    assert dies_at(point, lambda: close_and_submit(NOW)), f"{point} is never reached"
    go_on(NOW)
    assert_billed_once(aws)
    assert set(MeteringRecord.objects.values_list("state", flat=True)) == {
        State.ACCEPTED,
        State.NOT_DUE,
        State.PARKED,
    }
    assert MeteringRecord.objects.get(state=State.PARKED).dimension.key == "ghosts"


@pytest.mark.slow
@pytest.mark.ledger
@pytest.mark.timeout(900)
def test_two_hundred_random_kills_under_load(aws, bought, catalog, acme, tmp_path):
    """Half of them at a named line, half at any moment; a new buyer uses the product each time."""
    chance = random.Random(20261123)
    recorded, died, turn = tmp_path / "recorded", 0, 0
    while died < 200:
        turn += 1
        now = NOW + timedelta(seconds=10 * turn)
        aws.control.freeze(now)
        agreement = bought_agreement(aws, catalog, acme, chance.choice(list(PRODUCTS)))
        work = _load(agreement, turn, now=now, recorded=recorded)
        if turn % 2:
            died += dies_at(chance.choice(crashpoints.POINTS), work, hit=chance.randint(1, 2))
        else:
            died += dies_after(chance.uniform(0.01, 0.15), work)
    now += HOUR
    aws.control.freeze(now)
    go_on(now)
    assert_billed_once(aws)
    keys = set(recorded.read_text().split())
    assert len(keys) > 1000
    assert keys <= set(UsageEvent.objects.values_list("key", flat=True))
    assert not UsageEvent.objects.open().filter(occurred_at__lt=NOON).exists()


def _load(agreement: Agreement, turn: int, *, now: datetime, recorded: Path) -> Callable[[], None]:
    """Use the product in six hours, be told so, close and submit; again and again."""

    def work() -> None:
        with recorded.open("a") as told:
            for repeat in itertools.count():
                free_the_lease()
                for back in range(1, 7):
                    key = f"turn-{turn}-{repeat}-{back}"
                    use(agreement, 1, at=NOON - back * HOUR, now=now, key=key)
                    print(key, file=told, flush=True)
                close_and_submit(now)
                if repeat == 2:
                    return

    return work
