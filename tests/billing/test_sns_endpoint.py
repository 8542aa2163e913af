"""SNS over HTTPS: off by default, deaf to strangers, and once on as good as a queue."""

from __future__ import annotations

import json
import logging
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import include, path
from django.utils import timezone

from billing import events, tasks
from billing.aws.types import QueueMessage
from billing.inbox import sns_endpoint
from billing.inbox.sns_endpoint import Refused, Unreachable
from billing.models import Agreement, MarketplaceEvent
from billing.views import sns as sns_view
from tests.billing.ledger import NOON
from tests.billing.signed_sns import HOST, TOPIC, Sns

URL = "/marketplace/sns/"
SECOND = timedelta(seconds=1)


@pytest.fixture
def sns():
    return Sns()


@pytest.fixture(autouse=True)
def _all_logs(caplog):
    caplog.set_level(logging.DEBUG)


def receive(sns, message, *, now=NOON, topics=(TOPIC,)):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return sns_endpoint.receive(body, topics=topics, now=now, fetch=sns.fetch, roots=sns.roots)


def refused(sns, message, **options):
    with pytest.raises(Refused) as caught:
        receive(sns, message, **options)
    return str(caught.value)


# --- Notifications


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_notification_is_stored_as_it_came(sns, db, version):
    message = sns.notification(NOON, version=version, Subject="Told", UnsubscribeURL=f"{HOST}/?x")
    assert receive(sns, message) is True
    event = MarketplaceEvent.objects.get()
    assert (event.channel, event.source_id) == ("sns", message["MessageId"])
    assert (event.kind, event.state) == ("subscribe-success", "received")
    assert event.occurred_at == NOON + timedelta(milliseconds=123)
    assert event.body == json.dumps(message)


def test_the_same_message_twice_or_from_a_queue_too_is_one_event(sns, db):
    message = sns.notification(NOON)
    for _ in range(2):
        assert receive(sns, message)
    events.store(QueueMessage("queue", "another", "receipt", json.dumps(message)), now=NOON)
    assert MarketplaceEvent.objects.count() == 1


def test_what_is_signed_and_says_nothing_that_we_know_is_kept(sns, db, caplog):
    assert receive(sns, sns.notification(NOON, Message="Hello, seller"))
    event = MarketplaceEvent.objects.get()
    assert (event.kind, event.state) == ("unparsable", "failed")
    assert "Hello" not in caplog.text


@pytest.mark.parametrize("topics", [[], [TOPIC.replace("classic", "others")], [TOPIC + "x"]])
def test_an_unexpected_topic_is_refused_before_anything_is_fetched(sns, topics):
    for message in (sns.notification(NOON), sns.confirmation(NOON)):
        assert refused(sns, message, topics=topics) == "Its TopicArn is not in SNS_ENDPOINT_TOPICS"
    assert sns.fetched == []


def test_a_changed_message_is_refused(sns):
    message = {**sns.notification(NOON), "Message": json.dumps({"action": "unsubscribe-success"})}
    assert refused(sns, message) == "Its Signature is not of what it says"


def test_a_certificate_elsewhere_is_refused_and_not_fetched(sns):
    message = {
        **sns.notification(NOON),
        "SigningCertURL": "https://sns.us-east-1.amazonaws.com.evil.example/a.pem",
    }
    assert "SigningCertURL" in refused(sns, message)
    assert sns.fetched == []


def test_a_good_message_dressed_as_an_event_of_eventbridge_is_refused(sns):
    disguise = {"detail-type": "License Updated - Manufacturer", "id": "e-1", "detail": {}}
    assert "EventBridge" in refused(sns, {**sns.notification(NOON), **disguise})


@pytest.mark.parametrize(
    ("late", "is_taken"),
    [
        (timedelta(hours=23, minutes=59), True),
        (timedelta(hours=24, minutes=1), False),
        (-timedelta(minutes=4), True),
        (-timedelta(minutes=6), False),
    ],
)
def test_an_old_message_is_refused_and_one_of_tomorrow(sns, db, late, is_taken):
    message = sns.notification(NOON - late)
    if is_taken:
        assert receive(sns, message)
    else:
        assert refused(sns, message) == "Its Timestamp is not of today"
        assert sns.fetched == []


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        "now",
        "2026-11-23",
        "2026-11-23T12:00:00",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_what_is_no_time_is_refused(sns, timestamp):
    assert refused(sns, sns.notification(NOON, Timestamp=timestamp)).startswith("Its Timestamp")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b'"text"', b"7", b"\xff\xfe{\x00}\x00", b"[" * 100_000, b"9" * 5000,
        b"{}", b'{"TopicArn": null}', b'{"TopicArn": ["%s"]}' % TOPIC.encode(),
        b'{"TopicArn": "%s"}' % TOPIC.encode(), b'{"TopicArn": "%s", "Timestamp": 7}' % TOPIC.encode(),
    ],
)  # fmt: skip
def test_garbage_is_refused(sns, body):
    assert refused(sns, body)
    assert sns.fetched == []


def test_a_message_that_is_no_text_is_refused(sns):
    assert refused(sns, {**sns.notification(NOON), "Message": {"action": "x"}}) == "It has no Message"


def test_a_subject_of_null_is_none(sns, db):
    assert receive(sns, {**sns.notification(NOON), "Subject": None})


def test_a_certificate_server_that_is_down_puts_the_message_off(sns, db):
    page, sns.pages[sns.certificate_url] = sns.pages[sns.certificate_url], OSError("down")
    message = sns.notification(NOON)
    with pytest.raises(Unreachable, match="down"):
        receive(sns, message)
    assert not MarketplaceEvent.objects.exists()
    sns.pages[sns.certificate_url] = page
    assert receive(sns, message, now=NOON + timedelta(minutes=20))


# --- Subscriptions


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_subscription_is_confirmed_where_sns_says(sns, caplog, version):
    message = sns.confirmation(NOON, version=version)
    sns.pages[message["SubscribeURL"]] = b"<ConfirmSubscriptionResponse/>"
    assert receive(sns, message) is False
    assert sns.fetched[-1] == message["SubscribeURL"]
    assert sns.fetched.count(message["SubscribeURL"]) == 1
    assert f"This endpoint is subscribed to {TOPIC}" in caplog.text
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.us-east-1.amazonaws.com.evil.example/?Action=ConfirmSubscription",
        "https://sns.us-east-1.amazonaws.com@evil.example/",
        "https://sns.us-east-1.amazonaws.com:444/",
        "https://sns.eu-west-1.amazonaws.com/",
        "https://169.254.169.254/latest/meta-data/",
    ],
)
def test_a_subscription_elsewhere_is_not_confirmed(sns, url):
    sns.pages[url] = b"welcome"
    assert "SubscribeURL" in refused(sns, sns.confirmation(NOON, SubscribeURL=url))
    assert url not in sns.fetched


def test_a_subscription_that_nobody_signed_is_not_confirmed(sns):
    message = sns.confirmation(NOON)
    assert refused(sns, {**message, "Token": "another"}) == "Its Signature is not of what it says"
    assert message["SubscribeURL"] not in sns.fetched


@pytest.mark.parametrize(("page", "raised"), [(OSError, Unreachable), (FileNotFoundError, Refused)])
def test_a_confirmation_that_fails_is_told_without_its_token(sns, page, raised):
    message = sns.confirmation(NOON)
    sns.pages[message["SubscribeURL"]] = page(message["SubscribeURL"])
    with pytest.raises(raised, match="SubscribeURL") as caught:
        receive(sns, message)
    assert "secret-token" not in str(caught.value)


def test_the_end_of_a_subscription_is_logged_and_not_taken_back(sns, caplog):
    message = sns.confirmation(NOON, type_="UnsubscribeConfirmation")
    assert receive(sns, message) is False
    assert message["SubscribeURL"] not in sns.fetched
    assert [
        (r.levelname, TOPIC in r.message) for r in caplog.records if r.name == "billing.inbox.sns_endpoint"
    ] == [("WARNING", True)]


# --- The address


@pytest.fixture
def rung(monkeypatch):
    names = []
    monkeypatch.setattr(tasks.apply_events, "delay", lambda: names.append("apply_events"))
    return names


@pytest.fixture
def post(sns, settings):
    """Post as SNS does; what the view would fetch is on this machine."""
    here = {"fetch": sns.fetch, "roots": sns.roots}
    settings.ROOT_URLCONF = (path(URL[1:], sns_view.sns, here), path("", include("marketplace_saas.urls")))
    settings.SNS_ENDPOINT_TOPICS = [TOPIC]
    client = Client(enforce_csrf_checks=True)

    def post(message):
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        kind = message.get("Type", "") if isinstance(message, dict) else ""
        return client.post(
            URL, body, content_type="text/plain; charset=UTF-8", headers={"x-amz-sns-message-type": kind}
        )

    return post


def test_it_is_off_by_default(client, db, rung, sns):
    for answer in (
        client.get(URL),
        client.post(URL, json.dumps(sns.notification(timezone.now())), "text/plain"),
    ):
        assert answer.status_code == 404
    assert not MarketplaceEvent.objects.exists()


@pytest.mark.parametrize("method", ["get", "head", "put", "delete"])
def test_it_is_only_posted_to(client, settings, method):
    settings.SNS_ENDPOINT_TOPICS = [TOPIC]
    answer = getattr(client, method)(URL)
    assert (answer.status_code, answer["Allow"]) == (405, "POST")


def test_what_is_posted_is_stored_and_the_bell_is_rung(
    post, sns, db, rung, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        answer = post(sns.notification(timezone.now()))
    assert (answer.status_code, answer.content) == (200, b"")
    assert "no-store" in answer["Cache-Control"]
    assert MarketplaceEvent.objects.get().state == "received"
    assert rung == ["apply_events"]


def test_a_confirmation_rings_no_bell(post, sns, db, rung, django_capture_on_commit_callbacks):
    message = sns.confirmation(timezone.now())
    sns.pages[message["SubscribeURL"]] = b""
    with django_capture_on_commit_callbacks(execute=True):
        assert post(message).status_code == 200
    assert rung == []


def test_a_refusal_tells_the_log_and_nobody_else(post, sns, db, caplog):
    message = {**sns.notification(timezone.now()), "Message": "changed: secret-body", "Token": "secret-token"}
    answer = post(message)
    assert (answer.status_code, answer.content) == (403, b"")
    (record,) = (record for record in caplog.records if record.name == "billing.views.sns")
    assert record.levelname == "WARNING"
    assert record.message.endswith("Its Signature is not of what it says")
    for secret in ("secret-body", "secret-token", message["Signature"]):
        assert secret not in caplog.text
    assert post(b"garbage").status_code == 403
    assert not MarketplaceEvent.objects.exists()


def test_it_answers_503_while_the_certificate_cannot_be_had(post, sns, db, caplog):
    sns.pages[sns.certificate_url] = OSError("down")
    answer = post(sns.notification(timezone.now()))
    assert (answer.status_code, answer.content) == (503, b"")
    assert "must come again. The certificate of SNS cannot be had: down" in caplog.text
    assert not MarketplaceEvent.objects.exists()


def test_a_body_without_end_is_not_read(post, db, settings):
    assert post(b"x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)).status_code in (400, 413)


def test_many_posts_are_not_throttled(post, sns, db):
    assert {post(b"garbage").status_code for _ in range(40)} == {403}
    assert post(sns.notification(timezone.now())).status_code == 200


@pytest.mark.parametrize("bell", ["apply_events", "poll_events"])
def test_what_was_posted_is_applied_at_the_bell_or_when_that_was_lost_at_the_next_turn(
    post, sns, aws, settings, rung, bell
):
    settings.MARKETPLACE_EVENT_QUEUES = []
    assert post(sns.notification(timezone.now() - SECOND)).status_code == 200
    getattr(tasks, bell)()
    assert MarketplaceEvent.objects.get().state == "applied"
    assert Agreement.objects.get().status == "active"
