"""Redis is gone: what is only remembered is forgotten, what is limited is put off, arrivals go on."""

from __future__ import annotations

import time

import pytest
from django.core.cache import cache, caches
from django.urls import reverse
from redis.exceptions import RedisError

from billing.error_reports import TOKEN_FIELD
from billing.models import Registration
from marketplace_saas import cache as outages
from tests.plugin import PASSWORD


@pytest.fixture
def no_redis(settings, monkeypatch):
    monkeypatch.setattr(outages, "_last_said", float("-inf"))
    gone = {"BACKEND": "marketplace_saas.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = {"default": gone}
    assert type(caches["default"]) is outages.RedisCache


def test_reading_finds_nothing_and_writing_is_forgotten(no_redis):
    assert cache.get("name") is None
    assert cache.get("name", 5) == 5
    assert cache.get("name", default=6) == 6
    cache.set("name", 1)
    assert cache.get_many(["a", "b"]) == {}
    assert cache.delete("name") is False


def test_a_lock_is_never_taken_for_granted(no_redis):
    with pytest.raises(RedisError):
        cache.add("lock", True)


def test_it_is_said_once_a_minute(no_redis, caplog):
    for _ in range(20):
        cache.get("name")
    assert len([record for record in caplog.records if "Redis does not answer" in record.message]) == 1


def test_a_buyer_arrives_all_the_same(client, aws, no_redis, caplog):
    bought = aws.buy("reports-flex")

    for _ in range(2):
        response = client.post(reverse("billing:register"), {TOKEN_FIELD: bought.token})
        assert response.status_code == 303
    assert Registration.objects.count() == 1
    assert "Arrivals are not limited" in caplog.text
    assert bought.token not in caplog.text


def test_signing_in_is_put_off_politely(client, acme_admin, no_redis):
    assert client.get(reverse("account_login")).status_code == 200
    response = client.post(reverse("account_login"), {"login": acme_admin.email, "password": PASSWORD})

    assert response.status_code == 503
    assert response["Retry-After"] == "30"
    assert "Try again in a moment" in response.content.decode()
    assert "redis" not in response.content.decode().lower()


def test_who_is_signed_in_goes_on(client, acme, acme_admin, operator, no_redis):
    client.force_login(acme_admin)
    assert client.get(f"/o/{acme.slug}/").status_code == 200
    client.force_login(operator)
    assert client.get("/admin/").status_code == 200


def test_no_page_waits_long_for_it(client, aws, no_redis):
    began = time.monotonic()
    client.get("/")
    client.post(reverse("billing:register"), {TOKEN_FIELD: aws.buy("reports-flex").token})
    assert time.monotonic() - began < 3


def test_arrivals_are_limited_while_redis_is_there(client, db, settings):
    answers = {client.post(reverse("billing:register"), {}).status_code for _ in range(31)}
    assert answers == {400, 429}


def test_only_redis_counts_as_an_outage(rf):
    middleware = outages.OutageMiddleware(lambda request: None)
    assert middleware.process_exception(rf.get("/"), ValueError("x")) is None
