"""Which hour takes which usage, for whatever is used and closed already: no database."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.aws.limits import MAX_QUANTITY
from billing.aws.window import HOUR, accepted_until, hour_of, month_of
from billing.closing.hours import Closable, Uses, oldest, plan

MOST = int(MAX_QUANTITY.scaleb(6))
MIDDLE = datetime(2026, 11, 23, 12, 5, tzinfo=UTC)
MONTH_ENDS = [datetime(2027, 3, 1, hour, 5, tzinfo=UTC) for hour in (0, 1, 3, 4, 5, 6, 9)]

instants = st.sampled_from([MIDDLE, *MONTH_ENDS])
agos = st.integers(0, 30)
amounts = st.integers(0, 10**9) | st.sampled_from([MOST, MOST - 1, MOST // 2, MOST // 2 + 1])
groups = st.lists(
    st.tuples(agos, st.sampled_from([(), (("team", "ml"),)]), st.lists(amounts, min_size=1, max_size=4)),
    max_size=8,
)


@st.composite
def cases(draw):
    """Usage of up to 30 hours ago, and what of those hours may be closed."""
    now = draw(instants)
    singles: dict[int, Uses] = {}
    usage = []
    for ago, tags, parts in draw(groups):
        hour = hour_of(now) - ago * HOUR
        pks = range(len(singles), len(singles) + len(parts))
        singles |= {pk: Uses(hour, tags, part, (pk,)) for pk, part in zip(pks, parts, strict=True)}
        usage.append(Uses(hour, tags, sum(parts), tuple(pks)))
    ending = draw(st.booleans())
    closable = Closable(
        now=now,
        end=hour_of(now) + (HOUR if ending else timedelta(0)),
        activated_at=now - draw(st.integers(31, 60)) * HOUR,
        closes_at=now + timedelta(minutes=draw(st.integers(1, 60))) if ending else None,
        taken={hour_of(now) - ago * HOUR for ago in draw(st.sets(agos))},
        ending=ending,
        final=ending,
    )
    if not ending:
        usage = [uses for uses in usage if uses.hour < closable.end]
    return usage, singles, closable


def planned(case):
    usage, singles, closable = case
    return plan(
        usage,
        closable,
        lambda some: [singles[pk] for uses in sorted(some, key=lambda uses: uses.hour) for pk in uses.pks],
    )


@settings(max_examples=150, deadline=None)
@given(cases())
def test_every_use_is_in_exactly_one_hour_or_left(case):
    taken, left = planned(case)
    found = Counter(pk for uses in (*taken.values(), left) for each in uses for pk in each.pks)
    assert found == Counter(pk for uses in case[0] for pk in uses.pks)
    total = sum(each.millionths for uses in (*taken.values(), left) for each in uses)
    assert total == sum(uses.millionths for uses in case[0])


@settings(max_examples=150, deadline=None)
@given(cases())
def test_an_hour_is_free_taken_by_aws_and_holds_no_more_than_its_maximum(case):
    _, _, closable = case
    for hour, uses in planned(case)[0].items():
        assert hour not in closable.taken
        assert max(oldest(closable.now), hour_of(closable.activated_at)) <= hour < closable.end
        assert accepted_until(hour, closes_at=closable.closes_at) > closable.now
        assert 0 <= sum(each.millionths for each in uses) <= MOST
        assert uses


@settings(max_examples=150, deadline=None)
@given(cases())
def test_only_last_months_usage_and_the_last_of_an_agreement_go_back_in_time(case):
    _, _, closable = case
    for hour, uses in planned(case)[0].items():
        for each in uses:
            if hour < each.hour and not closable.final:
                assert month_of(each.hour) == month_of(hour) < month_of(closable.now)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_at_the_end_nothing_is_left_while_an_hour_is_free_for_it(case):
    _, _, closable = case
    hours, left = planned(case)
    if not closable.final or not left:
        return
    hour = closable.end - HOUR
    while hour >= max(oldest(closable.now), hour_of(closable.activated_at)):
        assert not closable.is_free(hour) or hour in hours
        hour -= HOUR


@settings(max_examples=150, deadline=None)
@given(cases())
def test_last_months_usage_is_not_this_months_while_an_hour_of_last_month_is_free(case):
    _, _, closable = case
    this_month = month_of(closable.now)
    hours, _ = planned(case)
    late = any(each.hour < this_month <= hour for hour, uses in hours.items() for each in uses)
    hour = this_month - HOUR
    while late and hour >= oldest(closable.now):
        assert not closable.is_free(hour) or hour in hours
        hour -= HOUR
