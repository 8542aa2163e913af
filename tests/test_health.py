"""What machines ask: does the process answer, may requests come, does the whole work."""

from __future__ import annotations

import json
import re
import socket
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from kombu.exceptions import OperationalError

from billing import metering
from billing.models import Effect, JobRun, MarketplaceEvent
from marketplace_saas import health, status
from tests.billing.ledger import NOON, REGION, bought_agreement, use

TOKEN = "a long random token of an alarm 0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ADDRESSES = ["/healthz", "/readyz", "/status"]


@pytest.fixture(autouse=True)
def _nothing_was_asked_before(monkeypatch):
    monkeypatch.setattr(health, "_said", (float("-inf"), False))


@pytest.fixture
def settings(settings):
    settings.STATUS_TOKEN = TOKEN
    return settings


@pytest.fixture
def all_well(db):
    """Each job has just run, and a broker in memory answers."""
    now = timezone.now()
    for name in status.jobs.scheduled():
        JobRun.objects.create(
            name=name,
            started_at=now,
            finished_at=now,
            succeeded_at=now,
            outcome="ok",
            due_at=now + timedelta(hours=1),
        )
    return now


def look(client, **headers) -> dict:
    response = client.get("/status", headers={**BEARER, **headers})
    return {"code": response.status_code, **response.json()}


def no_database(monkeypatch, *, port: int, host: str = "127.0.0.1"):
    """As when it is elsewhere: PostgreSQL at another port, SQLite in a folder that is not there."""
    real = connection.copy

    def elsewhere(*args, **kwargs):
        other = real(*args, **kwargs)
        if other.vendor == "postgresql":
            other.settings_dict |= {"HOST": host, "PORT": port}
        else:
            other.settings_dict["NAME"] = "/no/such/folder/db.sqlite3"
        return other

    monkeypatch.setattr(connection, "copy", elsewhere)


def test_the_process_answers_without_any_database(client):
    # No django_db here: a query would fail the test.
    client.cookies["sessionid"] = "some session that would be looked up"
    response = client.get("/healthz")

    assert (response.status_code, response.content) == (200, b"ok\n")


@pytest.mark.django_db
def test_requests_may_come_while_the_database_answers(client):
    assert client.get("/readyz").status_code == 200


@pytest.mark.django_db
def test_requests_may_come_though_no_worker_runs_and_the_broker_is_gone(
    client, settings, monkeypatch, all_well
):
    JobRun.objects.update(due_at=timezone.now() - timedelta(days=1))
    monkeypatch.setattr(status, "_broker", lambda: {"ok": False, "messages_waiting": None})

    assert client.get("/readyz").status_code == 200
    assert look(client)["code"] == 503


@pytest.mark.django_db
def test_no_requests_may_come_without_the_database(client, monkeypatch, settings):
    no_database(monkeypatch, port=1)

    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert look(client)["problems"] == ["The database does not answer"]


@pytest.mark.django_db
@pytest.mark.postgresql
def test_a_database_that_says_nothing_is_not_waited_for(client, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        no_database(monkeypatch, port=silent.getsockname()[1])
        began = time.monotonic()
        assert client.get("/readyz").status_code == 503
        assert time.monotonic() - began < 5


@pytest.mark.django_db
def test_strangers_who_ask_often_cost_one_connection_a_second(client, monkeypatch):
    asked = []
    monkeypatch.setattr(health, "_ask_database", lambda: asked.append(1) or True)

    for _ in range(50):
        assert client.get("/readyz").status_code == 200
    assert len(asked) <= 2


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/healthz", "/readyz"])
def test_a_load_balancer_asks_by_any_host_and_over_plain_http(client, settings, address):
    settings.SECURE_SSL_REDIRECT = True

    response = client.get(address, headers={"Host": "10.0.3.17:8000"})

    assert response.status_code == 200
    assert client.get("/").status_code == 301
    assert client.post(address).status_code == 405


@pytest.mark.django_db
def test_the_status_is_told_over_plain_http_but_to_a_known_host_only(client, settings, all_well):
    settings.SECURE_SSL_REDIRECT = True

    assert look(client)["code"] == 200
    assert client.get("/status", headers={**BEARER, "Host": "10.0.3.17"}).status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize("address", ADDRESSES)
def test_no_answer_is_kept_or_framed(client, settings, address):
    response = client.get(address, headers=BEARER)

    assert "no-store" in response["Cache-Control"]
    assert response["X-Frame-Options"] == "DENY"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "sent",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "밥",
    ],
)
def test_who_sends_another_token_learns_nothing(client, settings, sent):
    response = client.get("/status", headers={"Authorization": sent})

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert b"close_hours" not in response.content


@pytest.mark.django_db
def test_without_a_configured_token_none_opens(client, settings):
    settings.STATUS_TOKEN = ""

    for sent in ("", "Bearer", "Bearer ", "Bearer None"):
        assert client.get("/status", headers={"Authorization": sent}).status_code == 401


def test_operators_may_look_and_buyers_may_not(client, settings, operator, acme_admin, all_well):
    client.force_login(operator)
    assert client.get("/status").status_code == 200
    client.force_login(acme_admin)
    assert client.get("/status").status_code == 401


def test_an_operator_without_a_second_factor_may_not(client, make_user):
    client.force_login(make_user("new@seller.example", is_staff=True))
    assert client.get("/status").status_code == 401


@pytest.mark.django_db
def test_all_is_well(client, settings, all_well):
    seen = look(client)

    assert (seen["code"], seen["ok"], seen["problems"]) == (200, True, [])
    assert seen["broker"]["ok"] is True
    assert seen["jobs"]["close_hours"]["late_seconds"] == 0
    assert seen["deadlines"]["nearest"] is None


@pytest.mark.django_db
def test_a_new_installation_says_that_no_job_has_run(client, settings):
    assert look(client)["problems"] == ["No job has ever run: are beat and a worker running?"]


@pytest.mark.django_db
def test_dead_workers_show_as_late_jobs(client, settings, all_well):
    JobRun.objects.filter(name="submit_metering").update(due_at=all_well - timedelta(minutes=30))
    JobRun.objects.filter(name="poll_events").update(failed_in_a_row=3, error="AccessDenied")

    seen = look(client)

    assert seen["code"] == 503
    assert "poll_events has failed 3 times in a row: AccessDenied" in seen["problems"]
    assert any(re.match(r"submit_metering is late by 180\d seconds", each) for each in seen["problems"])


@pytest.mark.django_db
def test_a_broker_that_is_gone_is_a_problem(client, settings, all_well, monkeypatch):
    def gone(**kwargs):
        raise OperationalError("Error 111 connecting to redis://:hunter2@redis:6379")

    monkeypatch.setattr(status.current_app, "connection_for_read", gone)
    response = client.get("/status", headers=BEARER)

    assert response.json()["problems"] == ["The broker does not answer: is Redis up?"]
    assert b"hunter2" not in response.content


@pytest.mark.django_db
def test_bells_that_nobody_hears_are_a_problem(client, settings, all_well, monkeypatch):
    monkeypatch.setattr(status, "_waiting", lambda channel: status.MANY_WAIT + 1)

    assert look(client)["problems"] == ["201 messages wait in the broker: is a worker running?"]


def test_deadlines_inbox_and_effects_are_told(client, settings, all_well, purchase):
    agreement = purchase("reports-payg")
    past = timezone.now() - timedelta(hours=1)
    Effect.objects.update(state=Effect.State.DUE, due_at=past, attempts=9)
    MarketplaceEvent.objects.update(state=MarketplaceEvent.State.FAILED)
    owed, failed = Effect.objects.count(), MarketplaceEvent.objects.count()

    problems = look(client)["problems"]

    assert agreement.pk
    assert owed
    assert failed
    assert problems == [
        f"{failed} events from AWS were not understood",
        f"{owed} effects are overdue",
        f"{owed} effects are failing",
    ]


def test_records_near_aws_s_deadline_are_told(client, settings, all_well, aws, catalog, acme):
    aws.control.freeze(NOON)
    use(bought_agreement(aws, catalog, acme, "reports-payg"), 1, at=NOON - timedelta(hours=1, minutes=5))
    metering.close_hours(region=REGION, now=NOON)
    seen = status.look(now=NOON + timedelta(hours=22, minutes=30))
    assert seen["deadlines"]["page"] == 1
    assert "1 metering records are within 1 h of AWS's deadline" in seen["problems"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "accept"),
    [("?format=prometheus", "*/*"), ("", "application/openmetrics-text,text/plain;q=0.5")],
)
def test_prometheus_reads_the_same(client, settings, all_well, query, accept):
    response = client.get(f"/status{query}", headers={**BEARER, "Accept": accept})
    text = response.content.decode()

    assert (response.status_code, response["Content-Type"].split(";")[0]) == (200, "text/plain")
    assert "\nmarketplace_saas_up 1\n" in text
    assert 'marketplace_saas_job_late_seconds{job="close_hours"} 0\n' in text
    assert "deadline_seconds_left" not in text  # nothing waits: no number would be true
    sample = re.compile(r'^[a-z_]+(\{[a-z]+="[a-z_]+"\})? [-+0-9.e]+$')
    named = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            named.add(line.split()[2])
        elif not line.startswith("#"):
            assert sample.match(line), line
            assert re.split(r"[{ ]", line)[0] in named


@pytest.mark.django_db
def test_prometheus_reads_trouble_too(client, settings):
    response = client.get("/status?format=prometheus", headers=BEARER)

    assert response.status_code == 200
    assert b"marketplace_saas_up 0\n" in response.content


@pytest.mark.django_db
def test_a_browser_gets_json(client, settings, all_well):
    accept = "text/html,application/xhtml+xml,*/*;q=0.8"
    response = client.get("/status", headers={**BEARER, "Accept": accept})
    assert json.loads(response.content)["ok"] is True


def test_the_status_takes_few_queries_and_names_no_buyer(
    client, settings, all_well, purchase, django_assert_max_num_queries
):
    purchase("reports-payg")
    with django_assert_max_num_queries(10):
        response = client.get("/status", headers=BEARER)
    text = response.content.decode()
    assert "acme" not in text.lower()
    assert "arn:" not in text


def test_the_three_have_names():
    assert [reverse(name) for name in ("healthz", "readyz", "status")] == ADDRESSES


@pytest.mark.django_db
def test_bad_news_that_was_asked_for_is_no_error_of_ours(client, settings, monkeypatch, caplog):
    no_database(monkeypatch, port=1)
    for address in ("/readyz", "/status"):
        assert client.get(address, headers=BEARER).status_code == 503
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
