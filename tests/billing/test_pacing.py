"""Calls leave evenly, at AWS's quota and no faster."""

import time

import pytest

from billing.sending import pacing
from billing.sending.pacing import Pace


@pytest.fixture
def clock(monkeypatch):
    """A second that passes when somebody sleeps through it."""

    class Clock:
        now = 1000.0
        slept = 0.0
        late = 0.0

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.slept += seconds
            self.now += seconds + (self.late if seconds else 0)

    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    return clock


def leave(pace, clock, calls, region="us-east-1"):
    """The instants at which so many calls leave, one after the other."""
    left = []
    for _ in range(calls):
        pace.wait_for(pace.reserve(region))
        left.append(clock.now)
    return left


def most_in_a_second(left):
    return max(sum(at <= other < at + 1 for other in left) for at in left)


def test_ten_calls_a_second_and_hardly_fewer(clock):
    left = leave(Pace(10), clock, 300)
    assert most_in_a_second(left) == 10
    assert 299 / (left[-1] - left[0]) >= 9.5
    assert min(after - before for before, after in zip(left, left[1:], strict=False)) >= 0.0999


@pytest.mark.parametrize("late", [0.001, 0.014, 0.05, 0.3, 3])
def test_calls_that_leave_late_are_followed_no_faster(clock, late):
    pace = Pace(10)
    clock.late = late
    left = leave(pace, clock, 50)
    clock.late = 0
    left += leave(pace, clock, 50)
    assert most_in_a_second(left) == 10


def test_a_little_lateness_costs_no_speed(clock):
    clock.late = 0.02
    left = leave(Pace(10), clock, 300)
    assert 299 / (left[-1] - left[0]) >= 9.5


def test_each_region_has_a_quota_of_its_own(clock):
    pace = Pace(10)
    leave(pace, clock, 1)
    at = clock.now
    leave(pace, clock, 1, region="eu-west-1")
    assert clock.now == at


def test_only_what_leaves_soon_is_made_ready(clock):
    pace = Pace(10)
    ready = 0
    while pace.open_slots("us-east-1", most=10):
        pace.reserve("us-east-1")
        ready += 1
    assert ready == 5
    assert pace.closed_regions() == ["us-east-1"]
    assert 0 < pace.opens_in() < 0.1
    assert pace.open_slots("eu-west-1", most=10) == 5
    assert pace.open_slots("eu-west-1", most=2) == 2
    clock.sleep(pace.opens_in())
    assert pace.open_slots("us-east-1", most=10) == 1
    assert pace.closed_regions() == []
    assert pace.opens_in() is None


def test_without_a_quota_nothing_waits(clock):
    pace = Pace(None)
    assert pace.open_slots("us-east-1", most=10) == 10
    leave(pace, clock, 100)
    pace.finish()
    assert clock.slept == 0
    assert pace.closed_regions() == []


@pytest.mark.parametrize("per_second", [10, None])
def test_throttled_it_pauses_longer_each_time_until_aws_answers(clock, per_second):
    pace = Pace(per_second)
    pauses = []
    for _ in range(8):
        pace.throttled()
        pace.throttled()  # another call's answer, during the same pause
        assert pace.is_paused
        assert pace.open_slots("us-east-1", most=10) == 0
        pauses.append(pace.opens_in())
        clock.sleep(pauses[-1])
        assert not pace.is_paused
    assert pace.throttles == 8
    assert 0.5 <= pauses[0] <= 1
    assert all(2.0**n / 2 <= pause <= 2.0**n for n, pause in enumerate(pauses[:5]))
    assert pauses[-1] <= 30
    assert pauses[0] != pauses[1] / 2
    pace.answered()
    pace.throttled()
    assert pace.opens_in() <= 1


def test_it_ends_when_the_next_process_may_call(clock):
    pace = Pace(10)
    (left,) = leave(pace, clock, 1)
    pace.finish()
    assert 0.1 <= clock.now - left <= 0.2
    waited = clock.slept
    pace.finish()
    assert clock.slept == waited


def test_real_time_passes(monkeypatch):
    pace = Pace(100)
    started = time.monotonic()
    for _ in range(11):
        pace.wait_for(pace.reserve("us-east-1"))
    assert time.monotonic() - started >= 0.1
