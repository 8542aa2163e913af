"""Log lines tell what they are about, and nothing that must not be read."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import subprocess
import sys
import time

import pytest
import sentry_sdk
from celery import signals
from django.core import mail
from django.core.exceptions import MiddlewareNotUsed
from django.test import Client
from django.urls import path
from sentry_sdk.transport import Transport

from accounts import log_context
from billing.error_reports import TOKEN_FIELD
from marketplace_saas import redaction, request_id, urls
from marketplace_saas.celery import app
from marketplace_saas.logs import AccessLogMiddleware, ScrubbedAdminEmails
from tests.test_production import ENVIRONMENT

# What nobody may read, as it would be found in the text.
SECRETS = {
    "a marketplace token": "eyJhbGciOiJIUzI1NiJ9+Zm9v/YmFy==QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0123456789",
    "a marketplace token as a form sends it": "abcDEF123%2BghiJKL456%2FmnoPQR789%3D%3D",
    "a short token": "tok-1",
    "a password": "correct horse",
    "a key id": "AKIAIOSFODNN7EXAMPLE",
    "a session's key id": "ASIAIOSFODNN7EXAMPLE",
    "a secret key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "an address": "ada.lovelace+aws@acme.example",
    "an address in a query": "ada%40acme.example",
    "a cookie": "sessionid=k2j3h4k2j3h4",
    "an invitation": "Zk3vQ9xYb7LmN2pRtUvWx8Ac4De6FgHi",
    "a database's password": "hunter2hunter2",
}

# Lines as people and libraries write them; %s is the secret of that name.
LINES = [
    (f"POST data: {TOKEN_FIELD}=%s&x=1", "a marketplace token as a form sends it"),
    (f"<QueryDict: {{'{TOKEN_FIELD}': ['%s']}}>", "a short token"),
    (f'{{"{TOKEN_FIELD}": "%s"}}', "a short token"),
    ('{\\"RegistrationToken\\": \\"%s\\"}', "a short token"),
    ("RegistrationToken=%s", "a marketplace token"),
    ("something long: %s", "a marketplace token"),
    ("('csrfmiddlewaretoken', '%s')", "a short token"),
    ("GET /accounts/verify/?token=%s HTTP/1.1", "a short token"),
    ("Authorization: Bearer %s", "a short token"),
    ("'HTTP_AUTHORIZATION': 'Bearer %s'", "a short token"),
    ("sent Bearer %s to them", "a marketplace token"),
    (
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261126/us-east-1/s/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=%s",
        "a short token",
    ),
    ("X-Amz-Security-Token: %s", "a short token"),
    ("Set-Cookie: %s; HttpOnly; Path=/", "a cookie"),
    ("{'HTTP_COOKIE': '%s; csrftoken=x'}", "a cookie"),
    ("Cookie: lang=en; %s", "a cookie"),
    ("credentials %s", "a key id"),
    ("The AWS Access Key Id %s does not exist", "a session's key id"),
    ("aws_secret_access_key=%s", "a secret key"),
    ("key '%s' was refused", "a secret key"),
    ("postgres://app:%s@db:5432/app", "a database's password"),
    ("cannot reach redis://:%s@redis:6379/0", "a database's password"),
    ("No mail to %s was sent", "an address"),
    ("<%s>: 550 no such user", "an address"),
    ("GET /find?email=%s", "an address in a query"),
    ("Not Found: /invitations/%s/", "an invitation"),
    ("password='%s'", "a password"),
    ('{"new_password": "%s"}', "a password"),
    ("[('password1', '%s')]", "a password"),
    ("-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----", "a short token"),
    ("STATUS_TOKEN: %s", "a short token"),
]

# What a person needs to find the row again.
KEPT = [
    "Agreement 17: arn:aws:license-manager:us-east-1:123456789012:license:l-0123456789abcdef0123456789abcdef",
    "Metering record 4711 of 2026-11-26T12:00:00+00:00: TimestampOutOfBoundsException",
    "Audit head of agreement:17 is 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
    "Task billing.tasks.submit_metering[3f0c3a52-6f1c-4b53-9d5a-0b8e6a7f3f7a] succeeded in 0.12s: None",
    'File "/venv/lib/python3.13/site-packages/django/core/handlers/base.py", line 197, in _get_response',
    "Polling https://sqs.us-east-1.amazonaws.com/123456789012/marketplace-events: InvalidClientTokenId",
    "ExpiredTokenException: The customer's token has expired",
    "InvalidClientTokenId: The security token included in the request is invalid",
    "A basic plan of 12 pages; 3 tokens were used, and a secret was rotated",
    "SignatureDoesNotMatch: The request signature we calculated does not match",
    "Retry in 7.00 seconds (3/100); request 1a2b3c4d5e6f7a8b",
    "한국어 문장, 사용량 12.5쪽",
]


@pytest.fixture
def written(settings):
    """What the console gets, as production logs it."""
    stream = io.StringIO()
    console = {**settings.LOGGING["handlers"]["console"], "formatter": "json", "stream": stream}
    handlers = {"console": console}
    only = {**settings.LOGGING, "handlers": handlers, "root": {"handlers": ["console"], "level": "DEBUG"}}
    only["loggers"] = {"django": {"handlers": ["console"], "level": "DEBUG", "propagate": False}}
    logging.config.dictConfig(only)
    yield stream
    logging.config.dictConfig(settings.LOGGING)


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(("line", "name"), LINES)
def test_a_secret_is_cut_out_wherever_it_stands_in_a_line(written, line, name):
    secret = SECRETS[name]
    logger = logging.getLogger("billing.somewhere")

    logger.error(line.replace("%s", secret))
    logger.error(line.replace("%", "%%").replace("%%s", "%s"), secret)
    try:
        raise ValueError(line.replace("%s", secret))
    except ValueError:
        logger.exception("It failed")
    logger.error("%s", {"a": [line.replace("%s", secret)]})

    assert len(lines(written)) == 4
    assert secret not in written.getvalue()
    assert redaction.CUT in written.getvalue()


def test_the_worst_at_once_shows_nothing(written):
    worst = "\n".join(line.replace("%s", SECRETS[name]) for line, name in LINES) + "\n"
    logging.getLogger("django.request").critical(worst * 20, stack_info=True)

    for secret in SECRETS.values():
        assert secret not in written.getvalue()


@pytest.mark.parametrize("text", KEPT)
def test_what_finds_the_row_again_is_kept(text):
    assert redaction.scrub(text) == text


def test_this_installation_s_own_secrets_are_known_by_value(settings):
    settings.SECRET_KEY, settings.REDIS_URL = "plain words as a key", "redis://:plainword@redis:6379/0"
    redaction._configured.cache_clear()
    try:
        assert redaction.scrub("it is plain words as a key, or plainword") == (
            f"it is {redaction.CUT}, or {redaction.CUT}"
        )
    finally:
        redaction._configured.cache_clear()


def test_arguments_that_do_not_fit_are_not_printed_either(written, capsys):
    logging.getLogger("x").error("%d uses", SECRETS["an address"])

    assert "[redacted]" in lines(written)[0]["message"]
    assert SECRETS["an address"] not in written.getvalue() + capsys.readouterr().err


def test_a_line_break_forges_no_line(written):
    logging.getLogger("x").error('bad\n{"level": "INFO", "message": "forged"}')

    [line] = lines(written)
    assert line["level"] == "ERROR"


STRANGE = [
    "ب",
    "🦊",
    "aA1",
    "a@",
    "token=",
    "a-",
    "a.",
    "://",
    "token='",
    "cookie: ",
    "\\",
    "bearer ",
    "token: ",
]


@pytest.mark.parametrize("piece", STRANGE)
def test_long_and_strange_text_is_scrubbed_in_time(piece):
    began = time.monotonic()
    redaction.scrub(piece * 100_000)
    assert time.monotonic() - began < 5


def test_a_line_names_request_organization_agreement_and_task(written):
    with request_id.carried("abcdefgh"), log_context.fresh(task_id="t-1"):
        log_context.note(organization=7)
        with log_context.about(agreement=17):
            logging.getLogger("billing.metering").warning("Closed late")
        logging.getLogger("billing.metering").warning("Done")

    closed, done = lines(written)
    assert (
        closed.items()
        >= {
            "level": "WARNING",
            "logger": "billing.metering",
            "message": "Closed late",
            "request_id": "abcdefgh",
            "organization": 7,
            "agreement": 17,
            "task_id": "t-1",
        }.items()
    )
    assert closed["time"].endswith("+00:00")
    assert "agreement" not in done


def crash(request):
    raise ValueError(f"broken for {SECRETS['an address']}")


class WithACrash:
    urlpatterns = [*urls.urlpatterns, path("crash/", crash)]
    handler500 = staticmethod(urls.handler500)


def test_a_page_of_an_organization_is_logged_with_its_id(client, settings, acme, acme_member, written):
    settings.LOG_FORMAT = "json"
    client = Client()  # builds its middleware with this setting
    client.force_login(acme_member)
    response = client.get(f"/o/{acme.slug}/")

    [line] = [line for line in lines(written) if line["logger"] == "marketplace_saas.access"]
    assert line["organization"] == acme.pk
    assert line["request_id"] == response["X-Request-ID"]
    assert line["status"] == response.status_code
    assert line["message"].startswith("GET /o/<slug:slug>/")
    assert line["milliseconds"] >= 0


def test_the_next_request_does_not_inherit_it(settings, acme, acme_member, written):
    settings.LOG_FORMAT = "json"
    client = Client()
    client.force_login(acme_member)
    client.get(f"/o/{acme.slug}/")
    client.get("/")

    assert "organization" not in lines(written)[-1]


def test_an_address_that_is_a_secret_is_not_in_the_access_log(settings, written, db):
    settings.LOG_FORMAT = "json"
    secret = SECRETS["an invitation"]
    Client().get(f"/invitations/{secret}/?token={secret}")

    assert [line for line in lines(written) if line["logger"] == "marketplace_saas.access"]
    assert secret not in written.getvalue()


def test_a_laptop_has_no_access_log(settings):
    settings.LOG_FORMAT = "line"
    with pytest.raises(MiddlewareNotUsed):
        AccessLogMiddleware(lambda request: None)


def test_an_error_mail_shows_nothing_either(settings, db):
    settings.ADMINS = [("Operators", "ops@seller.example")]
    settings.ROOT_URLCONF = WithACrash
    logging.config.dictConfig(settings.LOGGING)
    client = Client(raise_request_exception=False)
    assert client.get("/crash/", {"token": SECRETS["an invitation"]}).status_code == 500

    [sent] = mail.outbox
    assert "ValueError" in sent.body
    assert SECRETS["an address"] not in sent.subject + sent.body
    assert SECRETS["an invitation"] not in sent.subject + sent.body


def test_pages_that_all_fail_send_no_flood_of_mails(settings, db):
    settings.ADMINS = [("Operators", "ops@seller.example")]
    settings.ROOT_URLCONF = WithACrash
    logging.config.dictConfig(settings.LOGGING)
    client = Client(raise_request_exception=False)
    for _ in range(30):
        client.get("/crash/")
    assert len(mail.outbox) == ScrubbedAdminEmails.most_of_pages
    logging.getLogger("billing.deadlines").critical("Expired: 3 records")
    assert len(mail.outbox) == ScrubbedAdminEmails.most_of_pages + 1


@app.task(name="tests.say")
def say() -> None:
    logging.getLogger("billing.tasks").warning("From the task")


def test_a_task_logs_its_own_id_and_that_of_the_request_that_rang(written):
    sent = []

    def publish(headers, **kwargs):
        sent.append(dict(headers))

    signals.before_task_publish.connect(publish)
    try:
        with request_id.carried("request-0001"), app.connection_for_write("memory://") as connection:
            say.apply_async(connection=connection)
    finally:
        signals.before_task_publish.disconnect(publish)
    [headers] = sent
    assert headers["request_id"] == "request-0001"

    say.apply(headers={"request_id": headers["request_id"]}, task_id="t-17")
    logging.getLogger("billing.tasks").warning("Afterwards")

    [line] = [line for line in lines(written) if line["message"] == "From the task"]
    assert (line["task"], line["task_id"], line["request_id"]) == ("tests.say", "t-17", "request-0001")
    [after] = [line for line in lines(written) if line["message"] == "Afterwards"]
    assert "task_id" not in after
    assert "request_id" not in after


class Kept(Transport):
    """Sentry's end of the line, here."""

    def __init__(self, options=None):
        super().__init__(options)
        self.envelopes = []

    def capture_envelope(self, envelope):
        self.envelopes.append(envelope)


def test_sentry_is_told_nothing_that_a_log_line_would_not_show():
    transport = Kept()
    with sentry_sdk.isolation_scope() as scope:
        client = sentry_sdk.Client(
            dsn="http://key@127.0.0.1:1/1",
            transport=transport,
            send_default_pii=False,
            include_local_variables=False,
            max_request_body_size="never",
            before_send=redaction.before_send,
        )
        scope.set_client(client)
        scope.set_user({"email": SECRETS["an address"]})
        scope.add_breadcrumb(message=f"Bearer {SECRETS['a marketplace token']}", data={"password": "tok-1"})
        scope.set_extra("request", {"headers": {"Authorization": "tok-1", "Cookie": SECRETS["a cookie"]}})
        try:
            raise ValueError(f"{TOKEN_FIELD}={SECRETS['a short token']} of {SECRETS['an address']}")
        except ValueError:
            scope.capture_exception()
        client.close()

    [envelope] = transport.envelopes
    said = json.dumps(envelope.get_event(), default=str)
    assert "ValueError" in said
    for secret in SECRETS.values():
        assert secret not in said


def test_sentry_is_not_even_imported_without_its_address():
    program = "import django, sys; django.setup(); print('sentry_sdk' in sys.modules)"
    for dsn, imported in (("", "False"), ("https://key@127.0.0.1:1/1", "True")):
        started = subprocess.run(
            [sys.executable, "-c", program],
            env={
                **ENVIRONMENT,
                "ENV_FILE": "",
                "SENTRY_DSN": dsn,
                "DJANGO_SETTINGS_MODULE": "marketplace_saas.settings",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert started.stdout.strip() == imported, started.stderr
