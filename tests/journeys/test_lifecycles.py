"""Whatever AWS tells in whatever order, and whenever the buyer comes: the same purchase comes of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from billing import audit, catalog
from billing.reconciliation import verification
from tests.billing.ledger import NOON
from tests.journeys.lifecycles import LEGACY_CONTRACT, Telling, kinds, live, make_owner

LICENSE_ACTIONS = (
    "amend", "renew", "replace", "cancel", "expire", "fail_payment", "another", "issue_advisory",
    "resolve_advisory", "stop auto-renewal", "suspend", "reinstate",
)  # fmt: skip
# Of two legacy purchases one after the other nothing says for which the buyer came: test_events has those.
LEGACY_ACTIONS = ("amend", "renew", "replace", "cancel", "expire", "fail_payment", "resubscribe")
PRODUCTS = ("reports-payg", "reports-team", "reports-flex", "reports-classic", "reports-vintage")

pauses = st.sampled_from(
    [timedelta(seconds=2), timedelta(minutes=7), timedelta(minutes=50), timedelta(days=2)]
)


@st.composite
def lives(draw: st.DrawFn) -> dict[str, Any]:
    product = draw(st.sampled_from(PRODUCTS))
    legacy = product in ("reports-classic", "reports-vintage")
    actions = LEGACY_ACTIONS if legacy else LICENSE_ACTIONS
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["free_trial"] = draw(st.sampled_from([7, 30]))
    elif product not in ("reports-payg", "reports-classic") and draw(st.booleans()):
        options["auto_renew"] = True
    if not legacy and draw(st.booleans()):
        options |= draw(st.sampled_from([{"private_offer": True}, {"channel_partner": "333333333333"}]))
    if draw(st.integers(0, 4)) == 0:
        options["started_at"] = NOON + timedelta(hours=6)
    story = draw(st.lists(st.tuples(st.sampled_from(actions), pauses), max_size=4))
    return {"product": product, "options": options, "story": story}


def shuffled_is_as_in_order(aws: Any, how: dict[str, Any], data: st.DataObject, number: int) -> None:
    life = live(aws, start=NOON, **how)
    note(f"{how} told {kinds(life)}")
    in_order = list(range(len(life.messages)))
    doubled = data.draw(st.lists(st.sampled_from(in_order), max_size=3) if in_order else st.just([]))
    order = data.draw(st.permutations([*in_order, *doubled]))
    place = data.draw(st.integers(0, len(order)))
    told = []
    for told_in, registers_at in ((in_order, 0), (order, place)):
        with transaction.atomic():
            told.append(Telling(aws, life, told_in, registers_at, make_owner(number)).tell())
            assert list(audit.verify()) == []
            assert list(verification.verify()) == []
            transaction.set_rollback(True)
    found = differences(*told)
    assert not found, "\n".join(found)


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Only what differs: the whole of two lives is no reading."""
    if expected.keys() != found.keys():
        return [f"purchases: {sorted(expected)} in order, {sorted(found)} otherwise"]
    return [
        f"{name}: {key}: {_but(of[key], found[name][key])} in order, {_but(found[name][key], of[key])} else"
        for name, of in expected.items()
        for key in of
        if of[key] != found[name][key]
    ]


def _but(ours: Any, theirs: Any) -> Any:
    return [each for each in ours if each not in theirs] if isinstance(ours, list) else ours


@pytest.fixture
def vintage(aws):
    catalog.load({"products": [LEGACY_CONTRACT]})


COMMON: dict[str, Any] = {
    "deadline": None,
    # A smaller example takes minutes to find, and is read no easier than the notes of any.
    "phases": (Phase.explicit, Phase.generate),
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@settings(max_examples=8, **COMMON)
@given(how=lives(), data=st.data())
def test_a_life_told_in_any_order_is_the_same_life(aws, vintage, how, data):
    shuffled_is_as_in_order(aws, how, data, 1)


@pytest.mark.slow
@pytest.mark.ledger
@settings(max_examples=40, **COMMON)
@given(how=lives(), data=st.data())
def test_many_lives_told_in_any_order_are_the_same_lives(aws, vintage, how, data):
    shuffled_is_as_in_order(aws, how, data, 2)
