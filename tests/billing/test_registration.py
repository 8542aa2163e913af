"""From a token to an arrival: what AWS may answer, and where the token must never be."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from django.core import mail
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone
from django.utils.log import AdminEmailHandler
from django.views.debug import ExceptionReporter

from billing import customers, registration
from billing.aws import client as aws_client
from billing.aws.client import get_marketplace
from billing.aws.types import ResolvedCustomer
from billing.models import Agreement, AuditEvent, MarketplaceCustomer, Registration
from billing.onboarding import visitors
from billing.views import registering
from tests.billing.arriving import REGISTER, TOKEN_FIELD, WELCOME, at_once, land

LICENSE = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def rate_limits_start_afresh():
    cache.clear()


@pytest.fixture
def unreachable(aws, monkeypatch):
    """AWS as if its machines were off: port 9 of this one refuses."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_MARKETPLACE_METERING", "http://127.0.0.1:9")
    get_marketplace.cache_clear()


@pytest.fixture
def impatient(aws, settings):
    settings.MARKETPLACE = {**settings.MARKETPLACE, "connect_timeout": 0.3, "read_timeout": 0.2}
    get_marketplace.cache_clear()


@pytest.fixture
def speaking(aws, monkeypatch) -> Iterator[dict[str, bytes]]:
    """Something in AWS's place that answers every call with the ``body`` it is given."""
    says = {"body": b"{}"}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(says["body"])))
            self.end_headers()
            self.wfile.write(says["body"])

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(
            "AWS_ENDPOINT_URL_MARKETPLACE_METERING", f"http://127.0.0.1:{server.server_address[1]}"
        )
        get_marketplace.cache_clear()
        yield says
        server.shutdown()


def arrive(aws, token: str, **more):
    return registration.arrive(
        aws.marketplace, token=token, free_trial_hint=False, now=timezone.now(), **more
    )


class Answers:
    """A Marketplace that resolves every token to the given customer."""

    def __init__(self, **customer):
        nothing = dict.fromkeys(ResolvedCustomer.__dataclass_fields__)
        self.customer = ResolvedCustomer(**{**nothing, "product_code": "reports-flex", **customer})

    def resolve_customer(self, token):
        return self.customer


def arrived(token="some token", *, now=None, **customer):
    return registration.arrive(
        Answers(**customer), token=token, free_trial_hint=False, now=now or timezone.now()
    )


# --- What a landing leaves ---------------------------------------------------------------------------------


def test_a_landing_resolves_once_keeps_the_arrival_and_goes_on_to_a_plain_page(aws, client):
    bought = aws.buy()

    response = land(client, bought.token)

    assert (response.status_code, response["Location"]) == (303, WELCOME)
    assert len(aws.control.requests("ResolveCustomer")) == 1
    agreement = Agreement.objects.get()
    assert (agreement.license_arn, agreement.agreement_id) == (bought.license_arn, bought.agreement_id)
    assert (agreement.status, agreement.organization) == ("pending", None)
    assert agreement.customer.aws_account_id == bought.aws_account_id
    assert Registration.objects.get().digest == hashlib.sha256(bought.token.encode()).hexdigest()


def test_a_landing_posted_twice_is_one_purchase(aws, client):
    bought = aws.buy()

    assert [land(client, bought.token).status_code for _ in range(2)] == [303, 303]

    assert (Registration.objects.count(), Agreement.objects.count()) == (1, 1)
    assert list(AuditEvent.objects.values_list("action", flat=True).order_by("pk")) == [
        "agreement_created",
        "buyer_arrived",
    ]


def test_a_fresh_token_of_the_same_purchase_is_another_arrival_of_it(aws, client):
    bought = aws.buy()

    land(client, bought.token)
    land(client, aws.control.token(bought.agreement_id))

    assert (Registration.objects.count(), Agreement.objects.count()) == (2, 1)
    assert client.get(WELCOME).content.decode().count("Acme Reports Flex</h2>") == 1


@pytest.mark.django_db(transaction=True)
def test_a_landing_posted_twice_at_once_is_one_purchase(aws):
    bought = aws.buy()

    responses = at_once(*[lambda: land(Client(), bought.token)] * 2)

    assert [response.status_code for response in responses] == [303, 303]
    assert (Registration.objects.count(), Agreement.objects.count()) == (1, 1)
    assert MarketplaceCustomer.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_tokens_of_one_legacy_purchase_landing_at_once_are_one_purchase(aws):
    bought = aws.buy("reports-classic")
    tokens = [bought.token, aws.control.token(bought.agreement_id)]

    responses = at_once(*[lambda token=token: land(Client(), token) for token in tokens])

    assert [response.status_code for response in responses] == [303, 303]
    assert (Registration.objects.count(), Agreement.objects.count()) == (2, 1)


def test_two_purchases_landed_in_one_browser_are_both_shown(aws, client):
    land(client, aws.buy("reports-flex").token)
    land(client, aws.buy("reports-payg").token)

    page = client.get(WELCOME).content.decode()

    assert "Acme Reports Flex" in page
    assert "Acme Reports Pay As You Go" in page


def test_a_second_license_of_the_same_account_is_a_second_purchase(aws, client):
    first = aws.buy("reports-flex")
    land(client, first.token)
    land(client, aws.buy("reports-flex", aws_account_id=first.aws_account_id).token)

    assert MarketplaceCustomer.objects.count() == 1
    assert Agreement.objects.count() == 2
    assert client.get(WELCOME).content.decode().count("Acme Reports Flex</h2>") == 2


def test_a_legacy_answer_is_known_by_its_product_and_customer(aws, client):
    bought = aws.buy("reports-classic")

    assert land(client, bought.token).status_code == 303

    agreement = Agreement.objects.get()
    assert (agreement.identity, agreement.license_id) == ("legacy", None)
    assert agreement.customer.customer_identifier == bought.customer_identifier
    assert agreement.customer.aws_account_id == bought.aws_account_id


def test_a_legacy_answer_without_an_identifier_is_known_by_its_account(catalog):
    first = arrived("one", product_code="reports-classic", aws_account_id="123456789012")
    again = arrived("two", product_code="reports-classic", aws_account_id="123456789012")

    assert first.agreement == again.agreement
    assert first.agreement.customer.customer_identifier is None


def test_an_event_that_came_first_makes_the_purchase_active_on_arrival(aws, client):
    bought = aws.buy(started_at=timezone.now() - timedelta(hours=1))
    aws.deliver()

    land(client, bought.token)

    assert Agreement.objects.get().status == "active"


def test_the_free_trial_is_a_hint_and_no_other_field_is_believed(aws, client):
    bought, other = aws.buy("reports-team"), aws.buy("reports-flex")
    forged = {
        "x-amzn-marketplace-offer-type": "free-trial",
        "x-amzn-marketplace-agreement-id": other.agreement_id,
        "x-amzn-marketplace-product-id": "prod-acmeflex00001",
        "x-amzn-marketplace-fulfillment-url": "https://evil.example/",
        "next": "https://evil.example/",
    }

    response = land(client, bought.token, **forged)

    agreement = Agreement.objects.get()
    assert (agreement.product.code, agreement.agreement_id) == ("reports-team", bought.agreement_id)
    assert response["Location"] == WELCOME
    assert Registration.objects.get().free_trial_hint
    assert agreement.trial_ends_at is None
    assert "Free trial" in client.get(WELCOME).content.decode()


@pytest.mark.parametrize("offer", ["", "FREE-TRIAL", "paid"])
def test_only_the_documented_offer_type_hints_at_a_trial(aws, client, offer):
    land(client, aws.buy().token, **{"x-amzn-marketplace-offer-type": offer})

    assert not Registration.objects.get().free_trial_hint
    assert "Free trial" not in client.get(WELCOME).content.decode()


# --- What AWS refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "head"])
def test_the_fulfillment_url_answers_200_to_whoever_looks(client, method):
    response = getattr(client, method)(REGISTER)

    assert response.status_code == 200
    assert set(response.cookies) <= {"csrftoken"}  # of the language switch


def test_the_fulfillment_url_knows_no_other_method(client):
    assert client.put(REGISTER).status_code == 405


@pytest.mark.parametrize("fields", [{}, {TOKEN_FIELD: ""}, {TOKEN_FIELD: " \n "}])
def test_without_a_token_the_buyer_is_told_to_start_at_aws(aws, client, fields):
    response = client.post(REGISTER, fields)

    assert response.status_code == 400
    assert "We do not know which purchase is yours" in response.content.decode()
    assert aws.control.requests("ResolveCustomer") == []


@pytest.mark.parametrize(
    "token",
    ["garbage", "\x00", "%00", "a" * 100_000, "😀\ud800", "<script>alert(1)</script>", "{{ 7|add:7 }}"],
)
def test_a_garbled_token_is_refused_and_leaves_nothing(aws, client, token):
    response = land(client, token.encode(errors="surrogatepass").decode(errors="replace"))

    page = response.content.decode()
    assert response.status_code == 400
    assert "AWS does not recognize this link" in page
    assert token not in page
    assert "no-store" in response["Cache-Control"]
    assert not Registration.objects.exists()
    assert not Agreement.objects.exists()
    assert not response.cookies


def test_an_expired_token_leads_back_to_aws(aws, client):
    bought = aws.buy()
    aws.control.advance(timedelta(hours=4, seconds=1))

    response = land(client, bought.token)

    page = response.content.decode()
    assert response.status_code == 400
    assert "This link from AWS has expired" in page
    assert "Set up your account" in page
    assert bought.token not in page
    assert not Registration.objects.exists()


def test_another_sellers_product_is_refused_and_a_person_is_told(aws, client, settings, caplog):
    aws.control.add_product(
        {"code": "foreign", "product_id": "prod-foreign", "title": "F", "pricing": "subscription",
         "identity": "license", "dimensions": []}
    )  # fmt: skip
    response = land(client, aws.buy("foreign").token)

    assert response.status_code == 400
    assert "This purchase is for another product" in response.content.decode()
    assert not Agreement.objects.exists()
    assert not MarketplaceCustomer.objects.exists()
    [error] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "'foreign'" in error.getMessage()
    assert AuditEvent.objects.get(action="foreign_product_refused").data == {"product_code": "foreign"}


def test_a_throttled_call_is_tried_again_before_the_buyer_sees_anything(aws, client):
    bought = aws.buy()
    aws.control.fault("ResolveCustomer", "throttle", count=1)

    assert land(client, bought.token).status_code == 303
    assert len(aws.control.requests("ResolveCustomer")) == 2


def assert_can_be_posted_again(response, token):
    page = response.content.decode()
    assert response.status_code == 503
    assert f'<input type="hidden" name="{TOKEN_FIELD}" value="{token}">' in page
    assert page.count(token) == 1
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies
    assert not Registration.objects.exists()


def test_while_aws_has_a_fault_the_token_waits_in_the_page_and_works_later(aws, client):
    bought = aws.buy()
    aws.control.fault("ResolveCustomer", "internal_error", count=None)

    assert_can_be_posted_again(land(client, bought.token), bought.token)

    aws.control.clear_faults()
    assert land(client, bought.token).status_code == 303


def test_while_aws_is_down_the_token_waits_in_the_page(aws, client, unreachable):
    bought = aws.buy()

    assert_can_be_posted_again(land(client, bought.token), bought.token)


def test_while_aws_is_slow_the_token_waits_in_the_page(aws, client, impatient):
    bought = aws.buy()
    aws.control.fault("ResolveCustomer", "latency", count=None, seconds=1)

    assert_can_be_posted_again(land(client, bought.token), bought.token)


def test_the_waiting_token_is_escaped(unreachable, client):
    page = land(client, '"><script>').content.decode()

    assert 'value="&quot;&gt;&lt;script&gt;"' in page


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"ProductCode": "reports-flex"}',
        b'{"ProductCode": "", "CustomerAWSAccountId": "123456789012"}',
        b'{"ProductCode": "reports-flex", "LicenseArn": "%s"}' % LICENSE.encode(),
        b'{"ProductCode": "reports-flex", "CustomerAWSAccountId": "1", "LicenseArn": "arn:aws:x:y:z:odd"}',
        b"<html>a proxy's opinion</html>",
        b"",
    ],
)
def test_an_answer_that_names_nobody_is_no_answer(speaking, client, body):
    speaking["body"] = body

    response = land(client, "token-of-a-buyer")

    assert_can_be_posted_again(response, "token-of-a-buyer")
    assert not Agreement.objects.exists()


@pytest.mark.parametrize(
    ("known", "told", "reason"),
    [
        ({"license_arn": LICENSE}, {"license_arn": LICENSE + "f"}, customers.OTHER_LICENSE),
        ({"product_code": "reports-classic"}, {"agreement_id": "agmt-B"}, customers.OTHER_AGREEMENT),
    ],
)
def test_an_answer_that_contradicts_an_earlier_one_is_for_a_person(catalog, known, told, reason):
    ids = {"aws_account_id": "123456789012", "agreement_id": "agmt-A", **known}
    first = arrived("one", **ids).agreement

    with pytest.raises(registration.RegistrationRefused) as refused:
        arrived("two", **{**ids, **told})

    assert refused.value.reason == "unavailable"
    first.refresh_from_db()
    assert first.flag_reason == reason
    assert Agreement.objects.count() == Registration.objects.count() == 1


def test_the_buyer_of_another_agreement_is_not_led_to_the_first(catalog, acme):
    ids = {"product_code": "reports-classic", "aws_account_id": "123456789012", "customer_identifier": "c1"}
    first = arrived("one", **ids, agreement_id="agmt-A").agreement
    Agreement.objects.update(organization=acme)

    second = arrived("two", **ids, agreement_id="agmt-B", license_arn=LICENSE).agreement

    assert (second.pk != first.pk, second.organization, second.license_arn) == (True, None, LICENSE)
    first.refresh_from_db()
    assert first.license_id is None


def test_a_license_without_the_buyers_account_is_no_reason_to_turn_them_away(catalog):
    arrival = arrived(customer_identifier="c1", license_arn=LICENSE, agreement_id="agmt-1")

    assert arrival.agreement.customer.aws_account_id is None


@pytest.mark.parametrize("code", ["AccessDeniedException", "DisabledApiException", "NeverHeardOf"])
def test_a_refusal_of_the_seller_is_not_the_buyers_fault(catalog, caplog, code):
    class Refusing:
        def resolve_customer(self, token):
            raise aws_client.error_for(code, "No.")

    with pytest.raises(registration.RegistrationRefused) as refused:
        registration.arrive(Refusing(), token="token", free_trial_hint=False, now=timezone.now())

    assert refused.value.reason == "unavailable"
    assert caplog.records[-1].levelno == logging.ERROR
    assert code in caplog.records[-1].getMessage()


# --- Where the token must not be ---------------------------------------------------------------------------


def database_text() -> str:
    """Every value of every row of every table."""
    rows: list[str] = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            rows += [repr(row) for row in cursor.fetchall()]
    return "\n".join(rows)


@pytest.fixture
def every_log_line(caplog):
    """All that is logged, with LOG_LEVEL=DEBUG."""
    django_logger = logging.getLogger("django")
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="django")
    django_logger.addHandler(caplog.handler)  # it does not propagate
    yield caplog
    django_logger.removeHandler(caplog.handler)


@pytest.mark.parametrize("fault", [None, "throttle", "internal_error"])
def test_the_token_is_in_no_url_cookie_log_line_or_row(aws, client, every_log_line, fault):
    token = aws.buy().token
    if fault:
        aws.control.fault("ResolveCustomer", fault, count=None)

    response = land(client, token)
    client.get(WELCOME)

    assert token not in str(response.headers) + str(client.cookies)
    assert token not in every_log_line.text
    assert token not in database_text()
    assert hashlib.sha256(token.encode()).hexdigest() not in every_log_line.text
    if fault is None:
        assert hashlib.sha256(token.encode()).hexdigest() in database_text(), "The dump sees the rows."
    else:
        assert every_log_line.text


def test_a_refused_token_is_in_no_log_line(aws, client, every_log_line):
    token = aws.buy().token
    aws.control.advance(timedelta(hours=5))

    land(client, token)
    land(client, "never-issued-token")

    assert "ExpiredTokenException" in every_log_line.text
    assert "InvalidTokenException" in every_log_line.text
    assert token not in every_log_line.text
    assert "never-issued-token" not in every_log_line.text


def crash_in_our_code(monkeypatch, aws):
    def crash(agreement, *, now):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(registration.lifecycle, "replay_waiting", crash)


def crash_below_botocore(monkeypatch, aws):
    # The ClientError that is being handled brings botocore's frames, with the request, into the report.
    def crash(*args, **kwargs):
        raise RuntimeError("a bug of ours")

    aws.control.fault("ResolveCustomer", "internal_error", count=None)
    monkeypatch.setattr(aws_client, "error_for", crash)


def crash_in_the_answer(monkeypatch, aws):
    def crash(*args, **kwargs):
        raise RuntimeError("a bug of ours")

    aws.control.fault("ResolveCustomer", "internal_error", count=None)
    monkeypatch.setattr(registering, "render", crash)


@pytest.mark.parametrize("crash", [crash_in_our_code, crash_below_botocore, crash_in_the_answer])
def test_the_token_is_in_no_error_mail(aws, settings, monkeypatch, crash):
    settings.ADMINS = [("Operators", "ops@acme.example")]
    token = aws.buy().token
    crash(monkeypatch, aws)
    with_locals = AdminEmailHandler(include_html=True)
    logging.getLogger("django.request").addHandler(with_locals)
    try:
        response = land(Client(raise_request_exception=False), token)
    finally:
        logging.getLogger("django.request").removeHandler(with_locals)

    assert response.status_code == 500
    assert token not in response.content.decode()
    assert [bool(letter.alternatives) for letter in mail.outbox] == [True, False]
    for letter in mail.outbox:
        text = letter.body + "".join(str(alternative[0]) for alternative in letter.alternatives)
        assert "a bug of ours" in text
        assert TOKEN_FIELD in text, "The report shows the form that was sent."
        for spelling in (token, token.replace("+", "\\u002B"), token.replace("/", "\\/")):
            assert spelling not in text
        assert token[:40] not in text


def test_the_token_is_in_no_report_of_a_crash_of_the_flow_itself(aws, monkeypatch):
    token = aws.buy().token
    crash_below_botocore(monkeypatch, aws)

    with pytest.raises(RuntimeError) as crashed:
        arrive(aws, token)
    frames_of_the_flow = crashed.value.__traceback__.tb_next.tb_next  # without this test's own
    error = crashed.value.with_traceback(frames_of_the_flow)
    report = ExceptionReporter(None, RuntimeError, error, frames_of_the_flow).get_traceback_html()

    assert "resolve_customer" in report
    assert token[:40] not in report


def test_the_view_marks_the_token_sensitive_for_every_reporter(aws, client):
    request = land(client, aws.buy().token).wsgi_request

    assert request.sensitive_post_parameters == (TOKEN_FIELD,)


def test_the_token_is_in_no_error_mail_of_what_breaks_before_the_view(aws, settings):
    settings.ADMINS = [("Operators", "ops@acme.example")]
    token = aws.buy().token

    response = Client().post(
        REGISTER, {TOKEN_FIELD: token, "other": "shown"}, headers={"host": "evil.example"}
    )

    assert response.status_code == 400
    [letter] = mail.outbox
    assert "shown" in letter.body
    assert token[:40] not in letter.body


def test_error_mails_of_other_forms_show_what_was_sent(db, settings):
    settings.ADMINS = [("Operators", "ops@acme.example")]

    sent = {"login": "ada@acme.example", "next": "/shown/"}
    Client().post("/accounts/login/", sent, headers={"host": "evil.example"})

    assert "/shown/" in mail.outbox[0].body
    assert "ada@acme.example" not in mail.outbox[0].body  # marketplace_saas/redaction.py


# --- Who may post ------------------------------------------------------------------------------------------


def test_aws_posts_without_a_csrf_token_and_nobody_else_does(aws, acme_admin):
    client = Client(enforce_csrf_checks=True)
    assert land(client, aws.buy().token).status_code == 303

    client.force_login(acme_admin)
    for url in ("/marketplace/claim/", "/accounts/login/", "/accounts/signup/", "/accounts/logout/"):
        assert client.post(url, {}).status_code == 403, url


def test_a_landing_does_not_touch_the_session(aws, client, acme_admin):
    client.force_login(acme_admin)
    session = client.cookies["sessionid"].value
    bought = aws.buy()

    from_aws = Client()  # a cross-site POST: the browser keeps the Lax cookies to itself
    response = land(from_aws, bought.token)
    assert list(response.cookies) == [f"marketplace_arrival_{Registration.objects.get().pk}"]

    client.cookies.update(response.cookies)
    page = client.get(response["Location"])
    assert client.cookies["sessionid"].value == session
    assert page.wsgi_request.user == acme_admin
    assert "Acme Reports Flex" in page.content.decode()


def test_more_landings_than_a_buyer_can_need_are_refused_for_a_minute(aws, client):
    bought = aws.buy()
    for _ in range(30):
        land(client, "")

    refused = land(client, bought.token)

    assert refused.status_code == 429
    assert "no-store" in refused["Cache-Control"]
    assert "too fast" in refused.content.decode()
    assert bought.token not in refused.content.decode()
    assert aws.control.requests("ResolveCustomer") == []
    assert client.get(REGISTER).status_code == 200
    assert client.head(REGISTER).status_code == 200
    assert client.post(REGISTER, REMOTE_ADDR="203.0.113.9").status_code == 400, "Others are not held up."


@pytest.mark.parametrize(("proxies", "status"), [(0, 429), (1, 400)])
def test_the_rate_limit_counts_the_client_behind_the_trusted_proxies_only(
    client, db, settings, proxies, status
):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    for place in range(31):
        last = client.post(REGISTER, headers={"x-forwarded-for": f"10.9.9.9, 198.51.100.{place}"})

    assert last.status_code == status


def test_an_address_made_up_by_the_client_does_not_escape_the_rate_limit(client, db, settings):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    for place in range(31):
        last = client.post(REGISTER, headers={"x-forwarded-for": f"198.51.100.{place}, 203.0.113.7"})

    assert last.status_code == 429


def test_a_body_beyond_the_limit_is_refused(aws, client):
    assert land(client, "a" * 1_100_000).status_code == 400


# --- The cookie --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("https", [False, True])
def test_the_cookie_is_lax_out_of_reach_of_scripts_and_lasts_as_long_as_a_token(aws, client, settings, https):
    settings.SESSION_COOKIE_SECURE = https

    [cookie] = land(client, aws.buy().token).cookies.values()

    assert cookie["httponly"] is True
    assert cookie["samesite"] == "Lax"
    assert cookie["max-age"] == 4 * 3600
    assert cookie["path"] == "/"
    assert bool(cookie["secure"]) is https


@pytest.mark.parametrize("change", [lambda value: value[:-1], lambda value: "7" + value, lambda value: "7"])
def test_a_tampered_cookie_is_ignored(aws, client, change):
    land(client, aws.buy().token)
    [(name, cookie)] = client.cookies.items()
    client.cookies[name] = change(cookie.value)

    page = client.get(WELCOME)

    assert page.status_code == 200
    assert "No purchase is waiting here" in page.content.decode()


def test_a_cookie_older_than_a_token_is_ignored(aws, client, monkeypatch):
    land(client, aws.buy().token)

    monkeypatch.setattr(visitors, "TOKEN_LIFETIME", timedelta(seconds=-1))

    assert "No purchase is waiting here" in client.get(WELCOME).content.decode()
