"""What a change owes the world is done once it is committed, and never lost."""

from __future__ import annotations

import smtplib
import socket
from datetime import timedelta
from typing import ClassVar

import pytest
from django.conf import settings as project_settings
from django.core import mail
from django.core.mail.backends import locmem
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import effects, entitlements, metering, owed
from billing.aws.client import BotoMarketplace, Connection
from billing.aws.errors import MarketplaceError, MarketplaceUnavailable
from billing.models import Agreement, Effect, MeteringRecord
from billing.owed import Debt
from tests.billing.arriving import at_once
from tests.billing.ledger import BEGIN, NOON, REGION, ScriptedAws, entitle, granted, make_agreement, use
from tests.billing.notices import license_updated
from tests.billing.stage import HOUR, MINUTE, SECOND, take

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
    assert effects.run_due(aws, now=NOON + 2 * MINUTE) == 2  # the change it found was told to the seller
    row = flex.entitlements.get()
    assert (row.valid_from, row.opened_because) == (NOON, "event 1")
    effect = Effect.objects.get(kind=Kind.SYNC_ENTITLEMENTS)
    assert (effect.state, effect.attempts, effect.done_at) == (State.DONE, 1, NOON + 2 * MINUTE)
    assert effects.run_due(aws, now=NOON + 3 * MINUTE) == 0
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
    assert effects.run_due(answers(), now=now) == 2
    assert Effect.objects.get(kind=Kind.SYNC_ENTITLEMENTS).error == ""


@pytest.mark.parametrize("poison", [KeyError("odd"), MarketplaceError("Odd", "\x00\ud800"), OSError("odd")])
def test_one_effects_trouble_does_not_keep_the_others_from_being_done(catalog, acme, flex, caplog, poison):
    others = [make_agreement(catalog, acme, "reports-flex") for _ in range(2)]
    owe(others[0], due_at=NOON - MINUTE)
    owe(flex)
    owe(others[1], cause="event 2")
    aws = answers()
    read = aws.get_entitlements
    aws.get_entitlements = lambda of: _raise(poison)() if of.license_arn == flex.license_arn else read(of)
    assert effects.run_due(aws, now=NOON) == 4  # each of the others', and the seller's mail of its change
    assert [other.entitlements.count() for other in others] == [1, 1]
    broken = Effect.objects.get(agreement=flex)
    assert broken.state == State.DUE
    assert "odd" in broken.error.lower()
    assert f"Effect {broken.pk} of agreement {flex.pk}" in caplog.text


def test_an_effect_that_fails_for_days_alarms_once_a_day(flex, caplog):
    owe(flex)
    aws = answers()
    aws.get_entitlements = _raise(KeyError("odd"))
    Effect.objects.update(attempts=effects.ALARM_EVERY - 2)
    for hour in range(1, 5):
        effects.run_due(aws, now=NOON + hour * HOUR)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "ERROR", "WARNING"]


# --- Runners


def test_what_a_runner_had_in_hand_when_it_died_is_done_by_another(flex):
    owe(flex)
    dying = answers()
    dying.get_entitlements = _raise(SystemExit())
    with pytest.raises(SystemExit):
        effects.run_due(dying, now=NOON)
    effect = Effect.objects.get()
    assert (effect.state, effect.attempts) == (State.DUE, 1)
    assert effects.run_due(answers(), now=NOON + effects.IN_HAND - MINUTE) == 0
    assert effects.run_due(answers(), now=NOON + effects.IN_HAND + MINUTE) == 2
    effect.refresh_from_db()
    assert (effect.state, effect.attempts) == (State.DONE, 2)


def test_a_mail_whose_sender_died_goes_out_again_under_the_same_message_id(flex, settings):
    settings.SELLER_EMAILS = ["sales@seller.example"]
    owe(flex, Kind.MAIL, "seller_new:")
    MailServer.script(settings, {"sales@seller.example": [SystemExit(), None]}, sends_first=True)
    with pytest.raises(SystemExit):
        effects.run_due(answers(), now=NOON)
    effects.run_due(answers(), now=NOON + HOUR)
    first, again = mail.outbox
    assert first.message()["Message-ID"] == again.message()["Message-ID"]
    assert first.message()["Message-ID"].endswith("@testserver>")


def test_an_effect_is_in_hand_from_when_it_is_taken_not_from_when_the_run_began(
    catalog, acme, flex, monkeypatch
):
    seconds = [0.0]
    monkeypatch.setattr(effects, "monotonic", lambda: seconds[0])
    aws = answers()

    def slow(of):
        if of.license_arn != flex.license_arn:
            raise SystemExit
        seconds[0] += 59
        return [granted("included_pages", 100)]

    aws.get_entitlements = slow
    other = make_agreement(catalog, acme, "reports-flex")
    owe(flex)
    owe(other)
    with pytest.raises(SystemExit):
        effects.run_due(aws, now=NOON)
    in_hand = Effect.objects.get(agreement=other)
    assert in_hand.due_at == NOON + 59 * SECOND + effects.IN_HAND


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_two_runners_at_once_do_each_effect_once(catalog, acme):
    for number in range(12):
        owe(make_agreement(catalog, acme, "reports-flex"), cause=f"event {number}")
    aws = answers()
    mail.outbox.clear()
    done = at_once(*[lambda: effects.run_due(aws, now=NOON + MINUTE)] * 3)
    assert sum(done) == 24, done
    assert len(aws.filters) == len({of.license_arn for of in aws.filters}) == 12
    assert len({letter.body for letter in mail.outbox}) == len(mail.outbox) == 12
    assert set(Effect.objects.values_list("state", "attempts")) == {("done", 1)}


def test_an_effect_that_another_runner_took_meanwhile_is_not_settled_by_the_first(flex):
    owe(flex)
    aws = answers()

    def too_slow(of):
        later = NOON + effects.IN_HAND + MINUTE
        assert effects.run_due(answers(), now=later) == 2
        raise KeyError("too late")

    aws.get_entitlements = too_slow
    assert effects.run_due(aws, now=NOON) == 0
    effect = Effect.objects.get(kind=Kind.SYNC_ENTITLEMENTS)
    assert (effect.state, effect.attempts, effect.error) == (State.DONE, 2, "")


def test_however_many_are_due_a_run_works_through_them_a_few_at_a_time(flex, monkeypatch):
    monkeypatch.setattr(effects, "_CHUNK", 3)
    for number in range(10):
        owe(flex, Kind.LINK, f"event {number}", due_at=NOON - number * MINUTE)
    with CaptureQueriesContext(connection) as queries:
        assert effects.run_due(answers(), now=NOON) == 10
    looks = [
        query["sql"] for query in queries if "ORDER BY" in query["sql"] and '"due_at" ASC' in query["sql"]
    ]
    assert len(looks) == 6  # four threes, the last of which is short, and one look for more; one for mails
    assert all("LIMIT 3" in look for look in looks)
    assert Effect.objects.filter(state=State.DUE).count() == 0


def test_a_run_that_takes_long_leaves_the_rest_to_the_next(catalog, acme, flex, monkeypatch):
    monkeypatch.setattr(effects, "TURN", timedelta(0))
    for number in range(3):
        owe(flex, Kind.LINK, f"event {number}")
        owe(flex, Kind.MAIL, f"seller_ended:{number}")
    for left in (4, 2, 0):
        effects.run_due(answers(), now=NOON)
        assert Effect.objects.filter(state=State.DUE).count() == left


def test_mails_wait_until_all_else_is_done(flex, settings):
    """A mail server that hangs must not keep usage from AWS."""
    owe(flex, Kind.MAIL, "seller_new:", due_at=NOON - HOUR)
    owe(flex, Kind.LINK)
    MailServer.script(settings, {"support@acme.example": [SystemExit()]})
    with pytest.raises(SystemExit):
        effects.run_due(answers(), now=NOON)
    assert Effect.objects.get(kind=Kind.LINK).state == State.DONE


# --- Readings


def test_what_was_announced_before_a_reading_is_answered_by_it(flex):
    for number in range(3):
        owe(flex, cause=f"event {number}", due_at=NOON - number * MINUTE)
    owe(flex, cause="event 9", due_at=NOON + SECOND)
    aws = answers()
    effects.run_due(aws, now=NOON)
    assert len(aws.filters) == 1
    reading = Effect.objects.get(cause="event 2")
    assert dict(Effect.objects.filter(kind=Kind.SYNC_ENTITLEMENTS).values_list("cause", "outcome")) == {
        "event 2": "read",
        "event 1": f"read with effect {reading.pk}",
        "event 0": f"read with effect {reading.pk}",
        "event 9": "",
    }


def test_what_is_announced_while_aws_is_being_read_is_read_once_more(flex):
    aws = answers()
    read = aws.get_entitlements

    def and_an_event_comes(of):
        owe(flex, cause="event 2", due_at=NOON + SECOND)
        return read(of)

    aws.get_entitlements = and_an_event_comes
    owe(flex)
    effects.run_due(aws, now=NOON)
    assert Effect.objects.get(cause="event 2").state == State.DUE
    effects.run_due(aws, now=NOON + SECOND)
    assert len(aws.filters) == 2
    assert Effect.objects.get(cause="event 2").outcome == "read"


def test_an_event_that_another_worker_applies_while_aws_is_read_is_read_once_more(flex):
    """That worker's run began before ours: by its clock, what it owes was due already."""
    entitle(flex, 100)
    use(flex, 500, at=NOON - 20 * MINUTE)
    readings = [100, 1000]  # AWS has the upgrade only when it has told of it

    class Upgrading(ScriptedAws):
        def get_entitlements(self, of):
            if len(readings) == 2:
                owe(flex, cause="License Updated", caused_at=NOON - 30 * MINUTE, due_at=NOON - SECOND)
            return [granted("included_pages", readings.pop(0))]

    owe(flex, cause="Amended", caused_at=NOON - 31 * MINUTE)
    effects.run_due(Upgrading(), now=NOON)
    metering.close_hours(region=REGION, now=NOON + 5 * MINUTE)
    assert MeteringRecord.objects.values_list("used", "included", "quantity").get() == (500, 500, 0)
    assert dict(Effect.objects.filter(kind=Kind.SYNC_ENTITLEMENTS).values_list("cause", "outcome")) == {
        "Amended": "read",
        "License Updated": "read",
    }
    assert readings == []


def test_a_reading_is_as_new_as_the_call_not_as_the_run(catalog, acme, flex, monkeypatch):
    """At the end of a long run it is newer than one of another runner that began meanwhile, and counts."""
    seconds = [0.0]
    monkeypatch.setattr(effects, "monotonic", lambda: seconds[0])
    other = make_agreement(catalog, acme, "reports-flex")
    owe(flex)
    owe(other)

    class Slow(ScriptedAws):
        def get_entitlements(self, of):
            if of.license_arn == flex.license_arn:
                early = ScriptedAws(entitlements=[[granted("included_pages", 100)]])
                entitlements.sync(other, marketplace=early, now=NOON + 10 * SECOND)
                seconds[0] += 50
            return [granted("included_pages", 1000)]

    effects.run_due(Slow(), now=NOON)
    assert Effect.objects.get(agreement=other, kind=Kind.SYNC_ENTITLEMENTS).outcome == "read"
    assert other.entitlements.current().get().value == 1000
    other.refresh_from_db()
    assert other.entitlements_read_at == NOON + 50 * SECOND


def test_what_a_later_call_finds_again_is_back_although_another_runner_missed_it_since(
    catalog, acme, flex, monkeypatch
):
    """The other's reading began after this run and before this call."""
    seconds = [0.0]
    monkeypatch.setattr(effects, "monotonic", lambda: seconds[0])
    take(license_updated(BEGIN), now=BEGIN)
    other = Agreement.objects.exclude(pk=flex.pk).get()
    effects.run_due(answers(), now=BEGIN)
    owe(flex)
    owe(other)

    class Slow(ScriptedAws):
        def get_entitlements(self, of):
            if of.license_arn == flex.license_arn:
                nothing = ScriptedAws(entitlements=[[]])
                entitlements.sync(other, marketplace=nothing, now=NOON + 10 * SECOND)
                other.refresh_from_db()
                assert (other.status, other.end_reason) == ("ending", "GONE")
                seconds[0] += 50
            return [granted("included_pages", 100)]

    effects.run_due(Slow(), now=NOON)
    other.refresh_from_db()
    assert (other.status, other.ended_at) == ("active", None)


def test_a_reading_that_a_later_one_overtook_says_so(flex):
    owe(flex)
    Agreement.objects.filter(pk=flex.pk).update(entitlements_read_at=NOON + SECOND)
    effects.run_due(answers(), now=NOON)
    assert Effect.objects.get().outcome == "a later reading was applied before"


# --- Trial and renewal chain


def describe(agreement, marketplace, now):
    owed.owe(agreement, [Debt(Kind.DESCRIBE, f"at {now}", now)])
    effects.run_due(marketplace, now=now)
    return Effect.objects.get(kind=Kind.DESCRIBE, cause=f"at {now}")


@pytest.fixture
def permitted(aws):
    return BotoMarketplace(Connection(describe_agreements=True))


def test_where_it_is_permitted_trial_and_chain_are_told(aws, permitted, purchase):
    agreement = purchase("reports-flex", free_trial=14)
    now = timezone.now()
    Effect.objects.all().delete()
    unknown = "trial end and renewal chain stay unknown"

    effect = describe(agreement, aws.marketplace, now)
    assert (effect.state, effect.outcome) == (
        State.SKIPPED,
        f"MARKETPLACE_DESCRIBE_AGREEMENTS is off: {unknown}",
    )
    aws.control.fault("DescribeAgreement", "error", code="AccessDeniedException")
    effect = describe(agreement, permitted, now + SECOND)
    assert (effect.state, effect.outcome) == (
        State.SKIPPED,
        f"the credentials lack aws-marketplace:DescribeAgreement: {unknown}",
    )
    # Of trouble with the credentials nobody may lose a trial's end: it is asked for again.
    aws.control.fault("DescribeAgreement", "error", code="UnrecognizedClientException")
    effect = describe(agreement, permitted, now + 2 * SECOND)
    assert (effect.state, effect.error.partition(":")[0]) == (State.DUE, "UnrecognizedClientException")
    agreement.refresh_from_db()
    assert agreement.trial_ends_at is None

    effects.run_due(permitted, now=now + MINUTE)
    effect.refresh_from_db()
    assert (effect.state, effect.outcome) == (State.DONE, "told something new")
    agreement.refresh_from_db()
    assert agreement.trial_ends_at == agreement.term_starts_at + timedelta(days=14)
    assert agreement.initial_agreement_id == agreement.agreement_id
    assert agreement.free_trial
    assert describe(agreement, permitted, now + HOUR).outcome == "nothing new"


def test_an_agreement_that_aws_does_not_answer_about_is_asked_for_again(flex):
    owe(flex, Kind.DESCRIBE)
    down = answers()
    down.describe_agreement = _raise(MarketplaceUnavailable("NoAnswer", "ReadTimeoutError"))
    effects.run_due(down, now=NOON)
    assert Effect.objects.values_list("state", "error").get() == (State.DUE, "NoAnswer: ReadTimeoutError")


def test_an_agreement_that_aws_does_not_show_stays_undescribed(permitted, flex):
    effect = describe(flex, permitted, NOON)
    assert effect.state == State.SKIPPED
    assert effect.outcome.startswith("AWS shows no such agreement to this account")


# --- Renewals


def test_a_renewals_other_agreement_is_looked_for_for_a_day(catalog, acme):
    renewed = make_agreement(catalog, acme, "reports-flex", intent="RENEW", previous_agreement_id="agmt-0")
    owe(renewed, Kind.LINK)
    for now in (NOON, NOON + HOUR, NOON + 24 * HOUR - SECOND):
        effects.run_due(answers(), now=now)
        effect = Effect.objects.get()
        assert (effect.state, effect.error) == (State.DUE, "the other agreement is not known yet")
    effects.run_due(answers(), now=NOON + 25 * HOUR)
    effect.refresh_from_db()
    assert (effect.state, effect.outcome) == (State.SKIPPED, "the other agreement is not known yet")


# --- Mail servers


class MailServer(locmem.EmailBackend):
    """Takes mails, unless its script says otherwise of an address: one answer a try, the last for ever."""

    answers: ClassVar[dict[str, list[BaseException | None]]] = {}
    down: ClassVar[Exception | None] = None
    sends_first: ClassVar[bool] = False

    @classmethod
    def script(cls, settings, answers=None, *, down=None, sends_first=False):
        settings.EMAIL_BACKEND = "tests.billing.test_effects.MailServer"
        cls.answers, cls.down, cls.sends_first = answers or {}, down, sends_first

    def open(self):
        if self.down:
            raise self.down

    def send_messages(self, messages):
        for message in messages:
            script = self.answers.get(message.to[0], [None])
            answer = script.pop(0) if len(script) > 1 else script[0]
            if answer is None or self.sends_first:
                super().send_messages([message])
            if answer is not None:
                raise answer
        return len(messages)


SALES, OPS, BOSS = (f"{name}@seller.example" for name in ("sales", "ops", "boss"))


@pytest.fixture
def letter(flex, settings):
    """Owed to three people of the seller's; runs at an instant, and answers who got it then."""
    settings.SELLER_EMAILS = [SALES, OPS, BOSS]
    owe(flex, Kind.MAIL, "seller_new:")

    def run(now):
        mail.outbox.clear()
        effects.run_due(answers(), now=now)
        return [each.to[0] for each in mail.outbox]

    return run


def refused(address, code=550):
    return smtplib.SMTPRecipientsRefused({address: (code, b"no")})


@pytest.mark.parametrize(
    "trouble", [ConnectionRefusedError("nobody"), TimeoutError(), smtplib.SMTPAuthenticationError(535, b"no")]
)
def test_a_mail_server_that_is_down_is_tried_again(letter, settings, trouble):
    MailServer.script(settings, down=trouble)
    assert letter(NOON) == []
    effect = Effect.objects.get()
    assert (effect.state, effect.due_at) == (State.DUE, NOON + 15 * SECOND)
    assert type(trouble).__name__ in effect.error
    MailServer.script(settings)
    assert letter(NOON + MINUTE) == [SALES, OPS, BOSS]
    effect.refresh_from_db()
    assert (effect.state, effect.outcome, effect.error) == (State.DONE, "sent to 3 of 3", "")


def test_a_mail_server_that_hangs_is_not_waited_for_for_ever(letter, settings):
    assert 0 < project_settings.EMAIL_TIMEOUT <= 10
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = silent.getsockname()
        settings.EMAIL_TIMEOUT = 0.05
        assert letter(NOON) == []
    effect = Effect.objects.get()
    assert effect.state == State.DUE
    assert "timed out" in effect.error


@pytest.mark.parametrize("refusal", [refused(OPS), smtplib.SMTPDataError(554, b"no")])
def test_who_is_refused_keeps_nobody_else_from_being_told(letter, settings, refusal):
    MailServer.script(settings, {OPS: [refusal]})
    assert letter(NOON) == [SALES, BOSS]
    assert Effect.objects.values_list("state", "outcome").get() == (State.DONE, "sent to 2 of 3")
    assert letter(NOON + HOUR) == []


def test_where_all_are_refused_nobody_was_told(letter, settings):
    MailServer.script(settings, {address: [refused(address)] for address in (SALES, OPS, BOSS)})
    assert letter(NOON) == []
    effect = Effect.objects.get()
    assert effect.state == State.SKIPPED
    assert effect.outcome.startswith("the mail server refused it: ")
    assert "550" in effect.outcome


@pytest.mark.parametrize(
    "trouble",
    [
        refused(OPS, 450),  # come back later
        smtplib.SMTPDataError(451, b"later"),
        smtplib.SMTPServerDisconnected("gone"),
        KeyError("of a mail service's library"),
    ],
)
def test_who_could_not_be_told_yet_is_told_later_and_nobody_twice(letter, settings, trouble):
    MailServer.script(settings, {OPS: [trouble, trouble, None]})
    assert letter(NOON) == [SALES, BOSS]
    assert Effect.objects.get(cause="seller_new:").outcome == "sent to 2 of 3, 1 tried again"
    assert letter(NOON + HOUR) == []
    assert letter(NOON + 2 * HOUR) == [OPS]
    assert letter(NOON + 3 * HOUR) == []
    assert set(Effect.objects.values_list("state", flat=True)) == {State.DONE}


def test_who_is_left_is_not_told_what_is_not_true_any_more(flex, letter, settings):
    MailServer.script(settings, {BOSS: [refused(BOSS, 450)]})
    letter(NOON)
    settings.SELLER_EMAILS = [SALES, OPS]
    assert letter(NOON + HOUR) == []
    left = Effect.objects.get(cause__startswith="seller_new@")
    assert (left.state, left.outcome) == (State.SKIPPED, "there is nobody to tell")


def test_each_reader_and_each_letter_has_a_message_id_of_its_own(flex, letter):
    owe(flex, Kind.MAIL, "seller_changed:2026-11-23T12:00:00+00:00")
    letter(NOON)
    ids = [each.message()["Message-ID"] for each in mail.outbox]
    assert len(ids) == len(set(ids)) == 6
    assert {each.message()["Auto-Submitted"] for each in mail.outbox} == {"auto-generated"}


def test_a_letter_that_a_fork_has_removed_is_not_sent(flex):
    owe(flex, Kind.MAIL, "buyer_congratulated:1")
    effects.run_due(answers(), now=NOON)
    assert Effect.objects.values_list("state", "outcome").get() == (
        State.SKIPPED,
        "there is no such letter any more",
    )


def _raise(error):
    def raises(*arguments, **options):
        raise error

    return raises
