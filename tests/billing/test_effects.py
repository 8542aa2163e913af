"""What a change owes the world is done once it is committed, and never lost."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from billing import effects, owed
from billing.aws.errors import MarketplaceUnavailable
from billing.models import Effect, MeteringRecord
from billing.owed import Debt
from tests.billing.ledger import NOON, ScriptedAws, granted, make_agreement, use

MINUTE = timedelta(minutes=1)
Kind, State = Effect.Kind, Effect.State


@pytest.fixture
def flex(catalog, acme):
    return make_agreement(catalog, acme, "reports-flex")


def answers(*readings):
    return ScriptedAws(entitlements=readings or [[granted("included_pages", 100)]])


def owe(agreement, kind=Kind.SYNC_ENTITLEMENTS, cause="event 1", **options):
    owed.owe(agreement, [Debt(kind, cause, **{"caused_at": NOON, **options})])


def test_one_cause_owes_one_effect(flex):
    for _ in range(2):
        owe(flex)
    owe(flex, cause="event 2")
    owe(flex, Kind.FLUSH_USAGE)
    assert Effect.objects.count() == 3


def test_an_effect_goes_with_the_change_that_owes_it(flex):
    with transaction.atomic():
        owe(flex)
        transaction.set_rollback(True)
    assert not Effect.objects.exists()


def test_a_reading_that_is_due_is_done_once_and_counts_from_its_cause(flex):
    owe(flex, due_at=NOON + MINUTE)
    assert effects.run_due(answers(), now=NOON) == 0
    aws = answers()
    assert effects.run_due(aws, now=NOON + 2 * MINUTE) == 1
    row = flex.entitlements.get()
    assert (row.valid_from, row.opened_because) == (NOON, "event 1")
    effect = Effect.objects.get(kind=Kind.SYNC_ENTITLEMENTS)
    assert (effect.state, effect.attempts, effect.done_at) == (State.DONE, 1, NOON + 2 * MINUTE)
    # The change it found is told to the seller; nothing is read again.
    assert effects.run_due(aws, now=NOON + 3 * MINUTE) == 1
    assert effects.run_due(aws, now=NOON + 4 * MINUTE) == 0
    assert len(aws.filters) == 1


def test_a_flush_closes_the_agreements_hours(catalog, acme):
    agreement = make_agreement(catalog, acme, ended_at=NOON, closes_at=NOON + timedelta(hours=1))
    use(agreement, 3, at=NOON - 5 * MINUTE)
    owe(agreement, Kind.FLUSH_USAGE)
    assert effects.run_due(ScriptedAws(), now=NOON + 11 * MINUTE) == 1
    assert MeteringRecord.objects.get().used == 3


def test_what_aws_does_not_answer_stays_due_and_is_put_off_longer_each_time(flex, caplog):
    owe(flex)
    down = answers()
    down.get_entitlements = _raise(MarketplaceUnavailable("NoAnswer", "ReadTimeoutError"))
    pauses, now = [], NOON
    for _ in range(8):
        assert effects.run_due(down, now=now) == 0
        effect = Effect.objects.get(kind=Kind.SYNC_ENTITLEMENTS)
        pauses.append((effect.due_at - now).total_seconds())
        now = effect.due_at
    assert pauses == [15, 30, 60, 120, 240, 480, 600, 600]
    assert (effect.state, effect.attempts, effect.error) == (State.DUE, 8, "NoAnswer: ReadTimeoutError")
    assert effects.run_due(down, now=now - MINUTE) == 0
    assert Effect.objects.get(kind=Kind.SYNC_ENTITLEMENTS).attempts == 8
    assert effects.run_due(answers(), now=now) == 1
    assert Effect.objects.get(kind=Kind.SYNC_ENTITLEMENTS).error == ""


def test_one_effects_trouble_does_not_keep_the_others_from_being_done(catalog, acme, flex, caplog):
    other = make_agreement(catalog, acme, "reports-flex")
    owe(flex)
    owe(other, cause="event 2")
    aws = answers()
    read = aws.get_entitlements

    def read_of(of):
        if of.license_arn == flex.license_arn:
            raise KeyError("odd")
        return read(of)

    aws.get_entitlements = read_of
    assert effects.run_due(aws, now=NOON) == 1
    assert other.entitlements.count() == 1
    broken = Effect.objects.get(agreement=flex)
    assert (broken.state, broken.error) == (State.DUE, "KeyError: 'odd'")
    assert f"Effect {broken.pk} of agreement {flex.pk} failed" in caplog.text


def _raise(error):
    def raises(*arguments, **options):
        raise error

    return raises
