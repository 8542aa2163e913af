from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.simulator.clock import LATEST, Clock, Setting, epoch, parse_iso

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_a_fast_clock_stops_before_years_no_format_can_write():
    clock = Clock(speed=100_000)
    for ago in (timedelta(days=30), timedelta(days=300_000)):
        clock.setting = Setting(set_at=clock.real_now() - ago, stood_at=NOON, speed=100_000)
        assert clock.now() == LATEST
        assert clock.real_seconds_until(LATEST) == 0


def test_a_clock_goes_on_as_if_it_had_never_stopped():
    clock = Clock(timedelta(hours=5), speed=60)
    again = Clock()
    again.setting = clock.setting
    assert abs(again.now() - clock.now()) < timedelta(minutes=10)
    assert again.offset > timedelta(hours=4, minutes=59)


def test_a_frozen_clock_never_comes_to_a_later_moment():
    clock = Clock()
    clock.freeze()
    clock.set(NOON)
    assert clock.now() == NOON
    assert clock.real_seconds_until(NOON + timedelta(seconds=1)) is None
    clock.resume()
    clock.resume()
    assert not clock.frozen


def test_an_instant_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        parse_iso("2026-11-23T10:00:00")


def test_epoch_seconds_have_a_fraction_only_when_there_is_one():
    assert repr(epoch(NOON)) == "1795435200"
    assert repr(epoch(NOON + timedelta(milliseconds=500))) == "1795435200.5"
