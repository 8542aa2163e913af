"""What falls due: in order, once, and never faster than it can be done."""

from __future__ import annotations

from datetime import timedelta

from billing.simulator.lifecycle.schedule import Schedule
from billing.simulator.records import Scheduled
from billing.simulator.tables import Table
from tests.simulator.conftest import NOON


def event(schedule: Schedule, seconds: int, agreement_id: str = "agmt-1", kind: str = "Ended") -> Scheduled:
    return Scheduled(schedule.new_number(), NOON + timedelta(seconds=seconds), agreement_id, kind)


def test_what_is_added_while_others_are_taken_comes_in_its_turn():
    schedule = Schedule(Table())
    for seconds in (10, 30):
        schedule.add(event(schedule, seconds))
    taken = []
    for due in schedule.take_due(NOON + timedelta(seconds=30)):
        taken.append((due.due - NOON).seconds)
        if len(taken) == 1:
            schedule.add(event(schedule, 20))
            schedule.add(event(schedule, 31))
    assert taken == [10, 20, 30]
    assert [(due.due - NOON).seconds for due in schedule.in_order] == [31]


def test_forgetting_concerns_one_agreement_and_what_is_asked_for():
    schedule = Schedule(Table())
    for agreement_id in ("agmt-1", "agmt-2"):
        for kind in ("Ended", "Created"):
            schedule.add(event(schedule, 1, agreement_id, kind))
    assert schedule.forget("agmt-1", lambda one: one.kind == "Ended")
    assert not schedule.forget("agmt-1", lambda one: one.kind == "Ended")
    assert not schedule.forget("agmt-3", lambda one: True)
    left = [(one.agreement_id, one.kind) for one in schedule.take_due(NOON + timedelta(seconds=1))]
    assert left == [("agmt-1", "Created"), ("agmt-2", "Ended"), ("agmt-2", "Created")]


def test_numbers_go_on_behind_those_that_are_known():
    table: Table[int, Scheduled] = Table()
    first = Schedule(table)
    first.add(event(first, 1))
    assert Schedule(table).new_number() == 2
    assert Schedule(table, numbered_from=9).new_number() == 9


def test_a_clock_that_runs_ahead_of_the_renewals_does_not_keep_an_answer_waiting(shop):
    """Each renewal brings the next, sooner than it is done, when a day passes within a microsecond."""
    shop.control.time(contract_term=86400)
    shop.control.subscribe("reports-flex", auto_renew=True)
    clock = shop.state.clock

    class Racing:
        """A clock that is a day further whenever it is looked at."""

        def __getattr__(self, name):
            return getattr(clock, name)

        def now(self):
            with shop.state.lock:
                clock.advance(timedelta(days=1))
                return clock.now()

    shop.state.clock = Racing()
    renewed = shop.control.state()["agreements"]
    assert 1 < len(renewed) < 100
