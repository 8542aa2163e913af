"""The doctor: an installation in order, and each fault by itself, with its fix."""

from __future__ import annotations

import json
import socketserver
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from billing import entitlements, jobs, metering, registration, submission, triggers, usage
from billing.aws.probes import Probes
from billing.aws.types import Connection
from billing.doctor import evidence, examination, review
from billing.doctor.findings import Verdict, good
from billing.models import Dimension, JobRun, MarketplaceEvent, MeteringRecord, Product

ROLE = "arn:aws:iam::111111111111:role/marketplace"
HOUR = timedelta(hours=1)


class Site(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Mail(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        while line := self.rfile.readline():
            over = line.upper().startswith(b"QUIT")
            self.wfile.write(b"221 bye\r\n" if over else b"250 ok\r\n")
            if over:
                return


class Closing(socketserver.BaseRequestHandler):
    """Hangs up on whoever comes."""


@pytest.fixture
def serve():
    servers = []

    def start(handler):
        kind = ThreadingHTTPServer if issubclass(handler, BaseHTTPRequestHandler) else None
        server = (kind or socketserver.ThreadingTCPServer)(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server.server_address[1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def in_order(aws, serve, settings):
    """Everything that the doctor looks at is as in production."""
    settings.DEBUG = False
    settings.SECRET_KEY = "0123456789abcdefghij" * 3
    settings.AUDIT_KEY = "ABCDEFGHIJ0123456789" * 3
    settings.SITE_URL = f"http://127.0.0.1:{serve(Site)}"
    settings.SECURE_SSL_REDIRECT = settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", serve(Mail), 2
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.MARKETPLACE = {**settings.MARKETPLACE, "describe_agreements": True}
    now = timezone.now()
    for name in jobs.scheduled():
        jobs.begin(name, now=now)
        jobs.end(name, now=now, error=None)


@pytest.fixture
def examine(settings):
    def examine(*, now=None, **connection_options):
        probes = Probes(Connection(**{**settings.MARKETPLACE, **connection_options}))
        return [finding for _, finding in examination.examine(probes, now=now or timezone.now())]

    return examine


def failed(found):
    return [finding for finding in found if finding.verdict is Verdict.FAILED]


def the_failure(found, check):
    """The one thing that is not well; with a fix, as every one has."""
    bad = failed(found)
    assert [one.check for one in bad] == [check], bad
    assert bad[0].fix
    return bad[0]


def one(found, check):
    (finding,) = [one for one in found if one.check == check]
    return finding


# --- In order


def test_what_is_in_order_is_well_and_what_cannot_be_told_is_said(in_order, examine):
    found = examine()
    assert failed(found) == []
    open_ = {one.check for one in found if one.verdict is Verdict.NOT_CHECKED}
    assert open_ == {
        "account", "message age", "product reports-flex", "product reports-team", "usage of reports-flex",
        "usage of reports-payg", "usage of reports-classic",
    }  # fmt: skip
    for action in (
        "aws-marketplace:ResolveCustomer", "aws-marketplace:BatchMeterUsage",
        "aws-marketplace:GetEntitlements", "aws-marketplace:DescribeAgreement",
        "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:ReceiveMessage",
    ):  # fmt: skip
        assert one(found, action).verdict is Verdict.OK


def test_it_changes_nothing_at_aws(in_order, examine, aws):
    bought = aws.buy("reports-payg", agreement_created_after=0, license_updated_after=0)
    before = aws.control.state()
    examine()
    after = aws.control.state()
    for part in ("agreements", "queues"):
        assert after[part] == before[part]
    assert aws.control.invoice()["totals"] == []
    assert aws.control.requests("ReceiveMessage") == []
    assert all(call["request"]["UsageRecords"] == [] for call in aws.control.requests("BatchMeterUsage"))
    assert bought.token not in json.dumps(aws.control.requests())


def test_it_changes_nothing_here(in_order, examine, django_assert_max_num_queries):
    with django_assert_max_num_queries(60) as captured:
        examine()
    assert [one["sql"] for one in captured if not one["sql"].startswith(("SELECT", "\n", " "))] == []


# --- Account and permissions


def test_without_credentials_it_says_so_and_asks_aws_nothing_more(
    in_order, examine, monkeypatch, tmp_path, aws
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = examine()
    assert the_failure(found, "credentials").cause.startswith("NoCredentials")
    assert aws.control.requests() == []
    assert one(found, "permissions").verdict is Verdict.NOT_CHECKED


def test_a_role_that_cannot_be_assumed_is_named_with_its_trust(in_order, examine, aws, settings):
    settings.MARKETPLACE = {**settings.MARKETPLACE, "role_arn": ROLE, "role_external_id": "wrong-one-of-old"}
    aws.control.fault("AssumeRole", "error", code="AccessDenied", count=None)
    found = the_failure(examine(), "credentials")
    assert ROLE in found.text
    assert "MARKETPLACE_ROLE_EXTERNAL_ID" in found.fix
    assert "wrong-one-of-old" not in repr(found)


def test_a_role_is_assumed_and_who_it_is_is_told(in_order, examine, settings):
    settings.MARKETPLACE = {**settings.MARKETPLACE, "role_arn": ROLE, "role_external_id": "kit-42-of-the-kit"}
    found = examine()
    assert failed(found) == []
    assert "assumed-role" in one(found, "credentials").text
    assert "external id" not in {finding.check for finding in found}


def test_a_role_without_an_external_id_is_pointed_out(in_order, examine, settings):
    settings.MARKETPLACE = {**settings.MARKETPLACE, "role_arn": ROLE}
    assert one(examine(), "external id").verdict is Verdict.NOT_CHECKED


def test_keys_that_aws_does_not_know(in_order, examine, aws):
    aws.control.fault("GetCallerIdentity", "error", code="InvalidClientTokenId", count=None)
    assert "access key" in the_failure(examine(), "credentials").fix


@pytest.mark.parametrize(
    ("operation", "check"),
    [
        ("ResolveCustomer", "aws-marketplace:ResolveCustomer"),
        ("BatchMeterUsage", "aws-marketplace:BatchMeterUsage"),
        ("DescribeAgreement", "aws-marketplace:DescribeAgreement"),
        ("DeleteMessageBatch", "sqs:DeleteMessage"),
        ("ChangeMessageVisibility", "sqs:ChangeMessageVisibility"),
    ],
)
def test_each_permission_that_lacks_is_named(in_order, examine, aws, operation, check):
    aws.control.fault(operation, "error", code="AccessDeniedException", count=None)
    found = the_failure(examine(), check)
    assert found.fix.startswith(f"Allow {check}")
    assert "deploy/aws/marketplace.yaml" in found.fix
    assert found.cause.startswith("AccessDeniedException")


def test_entitlements_that_may_not_be_read_are_named_for_each_product(in_order, examine, aws):
    aws.control.fault("GetEntitlements", "error", code="AccessDeniedException", count=None)
    found = failed(examine())
    assert "aws-marketplace:GetEntitlements" in {one.check for one in found}
    assert all("Allow aws-marketplace:GetEntitlements" in one.fix for one in found)


@pytest.mark.parametrize("fault", ["throttle", "internal_error"])
def test_a_moment_of_trouble_at_aws_is_no_failure(in_order, examine, aws, fault):
    aws.control.fault("ResolveCustomer", fault, count=None)
    found = examine()
    assert failed(found) == []
    assert one(found, "aws-marketplace:ResolveCustomer").verdict is Verdict.NOT_CHECKED


def test_a_region_in_which_the_api_is_not_enabled(in_order, examine, aws, settings):
    settings.MARKETPLACE = {**settings.MARKETPLACE, "metering_region": "eu-west-1"}
    aws.control.switch(disabled_regions=["eu-west-1"])
    found = failed(examine())
    assert {one.check for one in found} == {
        "aws-marketplace:ResolveCustomer",
        "aws-marketplace:BatchMeterUsage",
    }
    assert all("MARKETPLACE_METERING_REGION" in one.fix for one in found)


def test_a_region_that_does_not_exist(in_order, examine, settings):
    settings.MARKETPLACE = {**settings.MARKETPLACE, "metering_region": "eu-nowhere-9"}
    assert "us-east-1" in the_failure(examine(), "region").fix


@pytest.mark.parametrize(("by", "word"), [(timedelta(minutes=6), "ahead"), (-timedelta(minutes=6), "behind")])
def test_a_clock_that_is_off(in_order, examine, by, word):
    now = timezone.now() + by
    JobRun.objects.update(due_at=now, succeeded_at=now, started_at=now, finished_at=now)
    found = the_failure(examine(now=now), "clock")
    assert word in found.text
    assert "NTP" in found.fix


def test_credentials_of_another_account_than_the_events(in_order, examine, aws):
    aws.buy("reports-payg", agreement_created_after=0, license_updated_after=0)
    aws.deliver()
    assert one(examine(), "account").verdict is Verdict.OK
    aws.control.switch(foreign_access_keys=["test"])
    found = the_failure(examine(), "account")
    assert "999999999999" in found.text
    assert "MARKETPLACE_ROLE_ARN" in found.fix


# --- Listing


def test_a_catalog_that_was_never_loaded(in_order, examine):
    Dimension.objects.filter(included_by__isnull=False).delete()
    Dimension.objects.all().delete()
    Product.objects.all().delete()
    assert "catalog" in {one.check for one in failed(examine())}
    assert "load_catalog" in one(examine(), "catalog").fix


def test_a_catalog_that_changed_since(in_order, examine, settings, tmp_path):
    catalog = json.loads(settings.MARKETPLACE_CATALOG.read_text())
    catalog["products"][0]["dimensions"].append(
        {"key": "exports", "label": "Exports", "unit": "", "kind": "metered"}
    )
    settings.MARKETPLACE_CATALOG = tmp_path / "catalog.json"
    settings.MARKETPLACE_CATALOG.write_text(json.dumps(catalog))
    assert "reports-flex" in the_failure(examine(), "catalog").text
    catalog["products"].pop(0)
    settings.MARKETPLACE_CATALOG.write_text(json.dumps(catalog))
    found = one(examine(), "catalog")
    assert found.verdict is Verdict.NOT_CHECKED
    assert "--prune" in found.fix


@pytest.mark.parametrize("content", ["", "{", "[]", '{"products": [{}]}', '{"products": [1]}'])
def test_a_catalog_that_cannot_be_read(in_order, examine, settings, tmp_path, content):
    settings.MARKETPLACE_CATALOG = tmp_path / "catalog.json"
    settings.MARKETPLACE_CATALOG.write_text(content)
    the_failure(examine(), "catalog")


def test_a_feature_that_no_listing_grants(in_order, examine, settings):
    settings.FEATURES = {**settings.FEATURES, "exports": {"dimensions": ["Exports"], "products": ["none"]}}
    found = the_failure(examine(), "feature exports")
    assert "Exports, none" in found.text


def test_a_catalog_with_the_codes_of_aws_beside_features_with_those_of_the_template(
    in_order, examine, settings, tmp_path
):
    text = settings.MARKETPLACE_CATALOG.read_text()
    new = {"reports-payg": "4dk2example", "prod-acmepayg00001": "prod-4dk2example"}
    for before, after in new.items():
        assert before in text
        text = text.replace(f'"{before}"', f'"{after}"')
    settings.MARKETPLACE_CATALOG = tmp_path / "catalog.json"
    settings.MARKETPLACE_CATALOG.write_text(text)
    call_command("load_catalog", stdout=StringIO())
    found = examine()
    assert "reports-payg" in one(found, "feature reports").text
    assert "4dk2example" in one(found, "features of 4dk2example").text
    assert "features of reports-flex" not in {each.check for each in found}


def test_a_product_code_that_aws_does_not_know(in_order, examine, aws):
    aws.control.fault("GetEntitlements", "error", code="InvalidParameterException", count=None)
    found = examine()
    assert {one.check for one in failed(found)} == {"product reports-flex", "product reports-team"}
    assert one(found, "product reports-payg").verdict is Verdict.NOT_CHECKED
    assert one(found, "aws-marketplace:GetEntitlements").verdict is Verdict.OK


def test_dimensions_that_the_catalog_lacks(in_order, examine, aws):
    aws.buy(quantities={"included_pages": 5})
    aws.control.advance(120)
    assert one(examine(), "product reports-flex").verdict is Verdict.OK
    Dimension.objects.filter(key="pages").update(included_by=None)
    Dimension.objects.filter(product__code="reports-flex", key="included_pages").delete()
    found = failed(examine())
    assert "included_pages" in one(found, "product reports-flex").text


def test_metered_dimensions_that_aws_refused(in_order, examine, purchase, acme):
    agreement = purchase("reports-payg")
    now = timezone.now()
    record = MeteringRecord.objects.create(
        agreement=agreement,
        dimension=agreement.product.dimensions.get(key="pages"),
        hour=(now - 2 * HOUR).replace(minute=0, second=0, microsecond=0),
        used=1,
        included=0,
        quantity=1,
        wire_license_arn=agreement.license_arn,
        wire_account_id=agreement.customer.aws_account_id,
        wire_region="us-east-1",
        wire_timestamp=now - 2 * HOUR,
        wire_quantity="1",
        submit_by=now + HOUR,
        state="parked",
        error_code="InvalidUsageDimensionException",
    )
    found = the_failure(examine(), "usage of reports-payg")
    assert "pages" in found.text
    MeteringRecord.objects.filter(pk=record.pk).update(state="accepted", error_code="")
    assert one(examine(), "usage of reports-payg").verdict is Verdict.OK


# --- Events


def test_nothing_brings_events(in_order, examine, settings):
    settings.MARKETPLACE_EVENT_QUEUES = []
    assert "MARKETPLACE_EVENT_QUEUES" in the_failure(examine(), "queue").fix
    settings.SNS_ENDPOINT_TOPICS = ["arn:aws:sns:us-east-1:287250355862:aws-mp-subscription-notification-x"]
    assert failed(examine()) == []


def test_a_queue_that_does_not_exist(in_order, examine, settings):
    settings.MARKETPLACE_EVENT_QUEUES = [settings.MARKETPLACE_EVENT_QUEUES[0] + "-of-old"]
    assert "marketplace-events-of-old" in the_failure(examine(), "queue").text


def test_a_queue_whose_attributes_may_not_be_read(in_order, examine, aws):
    aws.control.fault("GetQueueAttributes", "error", code="AccessDenied", count=None)
    assert the_failure(examine(), "queue").fix.startswith("Allow sqs:GetQueueAttributes")


def test_a_queue_that_was_never_read_because_it_may_not_be(in_order, examine):
    JobRun.objects.filter(name="poll_events").update(
        succeeded_at=None, failed_in_a_row=3, error="AccessDeniedException", outcome="failed"
    )
    found = failed(examine())
    assert {one.check for one in found} == {"sqs:ReceiveMessage", "job poll_events"}
    assert "sqs:ReceiveMessage" in one(found, "sqs:ReceiveMessage").fix


def test_a_queue_that_fills_up(in_order, examine, aws):
    aws.control.send("marketplace-events", "{}")
    assert failed(examine()) == []
    JobRun.objects.filter(name="poll_events").update(succeeded_at=timezone.now() - HOUR)
    assert "1 messages wait" in the_failure(examine(), "sqs:ReceiveMessage").text


def test_dead_letters(in_order, examine, aws):
    aws.control.send("marketplace-events-dead", "{}")
    assert "redrive" in the_failure(examine(), "dead letters").fix


def test_a_queue_without_dead_letters(in_order, examine, aws):
    aws.control.queue("marketplace-events", dead_letter_queue=None)
    the_failure(examine(), "dead letters")


def test_a_rule_that_does_not_send_to_the_queue(in_order, examine, aws):
    aws.control.queue("marketplace-events", receives=[])
    assert "Nothing may send" in the_failure(examine(), "rule").text


def test_a_queue_that_sns_feeds_needs_no_rule(in_order, examine, aws):
    aws.control.queue("marketplace-events", receives=["sns"])
    found = examine()
    assert failed(found) == []
    assert "SNS" in one(found, "rule").text


def test_a_rule_that_is_gone(in_order, examine, aws):
    aws.control.fault("DescribeRule", "error", code="ResourceNotFoundException", count=None)
    assert "marketplace-events" in the_failure(examine(), "rule").text


def test_a_rule_that_may_not_be_looked_at_is_not_checked(in_order, examine, aws):
    aws.control.fault("DescribeRule", "error", code="AccessDeniedException", count=None)
    found = examine()
    assert failed(found) == []
    assert "events:DescribeRule" in one(found, "rule").fix


@pytest.fixture
def rule(serve, monkeypatch, aws):
    """EventBridge answers that the rule is so."""

    def make(*, state="ENABLED", pattern='{"source": ["aws.agreement-marketplace"]}', targets=None):
        queue = "arn:aws:sqs:us-east-1:000000000000:marketplace-events"
        arns = [queue] if targets is None else targets
        answers = {
            "DescribeRule": {"Name": "marketplace-events", "State": state, "EventPattern": pattern},
            "ListTargetsByRule": {"Targets": [{"Id": "1", "Arn": arn} for arn in arns]},
        }

        class EventBridge(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                body = json.dumps(answers[self.headers["X-Amz-Target"].partition(".")[2]]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format, *arguments):
                pass

        monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", f"http://127.0.0.1:{serve(EventBridge)}")

    return make


def test_a_rule_that_is_disabled(in_order, examine, rule):
    rule(state="DISABLED")
    assert "enable-rule" in the_failure(examine(), "rule").fix


def test_a_rule_that_sends_elsewhere(in_order, examine, rule):
    rule(targets=["arn:aws:sqs:us-east-1:000000000000:another"])
    assert "does not send" in the_failure(examine(), "rule").text


@pytest.mark.parametrize(
    ("pattern", "missed"),
    [
        ('{"source": ["aws.ec2"]}', "License Updated"),
        (
            '{"source": ["aws.agreement-marketplace"], "detail-type": ["License Updated - Manufacturer"]}',
            "License Deprovisioned",
        ),
        ("", "everything"),
        ("not json", "everything"),
        ('{"source": ["aws.agreement-marketplace"], "region": ["eu-west-1"]}', "License Updated"),
    ],
)
def test_a_rule_that_passes_events_over(in_order, examine, rule, pattern, missed):
    rule(pattern=pattern)
    found = the_failure(examine(), "rule pattern")
    assert missed in found.text
    assert "aws.agreement-marketplace" in found.fix


def test_a_pattern_that_is_not_understood_is_not_checked(in_order, examine, rule):
    rule(pattern='{"source": [{"wildcard": "aws.agree*"}]}')
    found = examine()
    assert failed(found) == []
    assert one(found, "rule pattern").verdict is Verdict.NOT_CHECKED


def test_events_that_failed(in_order, examine):
    MarketplaceEvent.objects.create(
        channel="sns", source_id="x", kind="?", occurred_at=timezone.now(), body="{}", state="failed"
    )
    assert "Inbox" in the_failure(examine(), "inbox").fix


def test_events_that_nobody_applies(in_order, examine):
    long_ago = timezone.now() - HOUR
    MarketplaceEvent.objects.create(
        channel="sns", source_id="x", kind="?", occurred_at=long_ago, received_at=long_ago, body="{}"
    )
    assert "worker" in the_failure(examine(), "inbox").fix


# --- This installation


def test_triggers_that_are_missing(in_order, examine):
    triggers.drop_all(connection)
    try:
        assert "manage.py migrate" in the_failure(examine(), "triggers").fix
    finally:
        triggers.install(connection)


def test_migrations_that_are_not_applied_and_nothing_is_asked_of_tables(in_order, examine, aws):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'billing'")
    found = examine()
    assert "manage.py migrate" in the_failure(found, "migrations").fix
    assert one(found, "the rest").verdict is Verdict.NOT_CHECKED
    assert aws.control.requests() == []


def test_no_job_ever_ran(in_order, examine):
    JobRun.objects.all().delete()
    assert "beat" in the_failure(examine(), "beat and worker").fix


def test_beat_or_worker_stopped(in_order, examine):
    JobRun.objects.update(due_at=timezone.now() - HOUR, started_at=timezone.now() - 2 * HOUR)
    found = the_failure(examine(), "beat and worker")
    assert "submit_metering" in found.text
    assert "The last job of all began at" in found.cause


def test_one_job_that_is_never_rung(in_order, examine):
    JobRun.objects.filter(name="run_effects").delete()
    assert the_failure(examine(), "beat and worker").text.endswith("run_effects")


def test_a_job_that_fails(in_order, examine):
    JobRun.objects.filter(name="sync_entitlements").update(failed_in_a_row=4, error="AccessDeniedException")
    found = the_failure(examine(), "job sync_entitlements")
    assert ("4 times" in found.text, found.cause) == (True, "AccessDeniedException")


def test_a_mail_server_that_is_not_there(in_order, examine, settings):
    settings.EMAIL_PORT = 1
    assert "EMAIL_URL" in the_failure(examine(), "mail").fix


def test_a_mail_server_that_hangs_up(in_order, examine, settings, serve):
    settings.EMAIL_PORT = serve(Closing)
    the_failure(examine(), "mail")


def test_a_mail_server_that_refuses_the_password(in_order, examine, settings):
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = "a-password-of-ours"
    found = the_failure(examine(), "mail")
    assert "a-password-of-ours" not in repr(found)


@pytest.mark.parametrize("status", [301, 302, 400, 404, 500])
def test_a_fulfillment_url_that_does_not_answer_200(in_order, examine, settings, serve, status):
    handler = type("Other", (Site,), {"status": status})
    settings.SITE_URL = f"http://127.0.0.1:{serve(handler)}"
    assert str(status) in the_failure(examine(), "fulfillment URL").text


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1:1", "not a url"])
def test_a_fulfillment_url_that_does_not_answer(in_order, examine, settings, url):
    settings.SITE_URL = url
    the_failure(examine(), "fulfillment URL")


def test_the_fulfillment_url_of_the_site_answers(in_order, examine, settings, live_server):
    settings.SECURE_SSL_REDIRECT = False
    settings.SITE_URL = live_server.url
    assert one(examine(), "fulfillment URL").text.startswith(live_server.url + reverse("billing:register"))


@pytest.mark.parametrize(
    "change",
    [{"SECRET_KEY": "x" * 60}, {"AUDIT_KEY": "short"}, {"AUDIT_KEY": "0123456789abcdefghij" * 3}],
)
def test_secrets_that_are_weak_or_the_same(in_order, examine, settings, change):
    for name, value in change.items():
        setattr(settings, name, value)
    bad = [finding for finding in failed(examine()) if finding.check == "secrets"]
    assert len(bad) == 1
    assert "secrets.token_urlsafe" in bad[0].fix
    assert settings.SECRET_KEY not in repr(bad)


def test_old_secrets_that_are_still_taken_are_pointed_out(in_order, examine, settings):
    settings.SECRET_KEY_FALLBACKS = ["abcdefghij0123456789" * 3]
    assert one(examine(), "old secrets").verdict is Verdict.NOT_CHECKED


def test_what_djangos_own_checks_say_is_told(in_order, examine, settings):
    settings.SECURE_HSTS_SECONDS = 0
    assert the_failure(examine(), "deployment").text.startswith("security.W004")


def test_on_a_laptop_production_is_not_asked_for(in_order, examine, settings):
    settings.DEBUG = True
    found = examine()
    assert failed(found) == []
    assert one(found, "secrets").verdict is one(found, "deployment").verdict is Verdict.NOT_CHECKED


# --- The command


def run(*arguments):
    out = StringIO()
    try:
        call_command("marketplace_doctor", *arguments, stdout=out)
    except SystemExit as left:
        return left.code, out.getvalue()
    return 0, out.getvalue()


def test_the_command_tells_each_line_with_its_sign_and_leaves_with_0(in_order):
    code, text = run()
    assert code == 0
    assert "\nAWS account\n" in text
    assert "  ✓ Usage can be sent (aws-marketplace:BatchMeterUsage)\n" in text
    assert "✗" not in text.replace("0 ✗", "")


def test_the_command_tells_cause_and_fix_and_leaves_with_1(in_order, aws):
    aws.control.fault("BatchMeterUsage", "error", code="AccessDeniedException", count=None)
    code, text = run()
    assert code == 1
    assert (
        "  ✗ Usage can be sent (aws-marketplace:BatchMeterUsage)\n"
        "      Cause: AccessDeniedException: The credentials may not make this call.\n"
        "      Fix: Allow aws-marketplace:BatchMeterUsage"
    ) in text
    assert " 1 ✗ " in text


def test_the_command_speaks_json(in_order, aws):
    code, text = run("--json")
    told = json.loads(text)
    assert (code, told["ok"]) == (0, True)
    assert {"part", "check", "verdict", "text", "cause", "fix"} == set(told["findings"][0])
    aws.control.fault("ResolveCustomer", "error", code="AccessDeniedException", count=None)
    code, text = run("--json")
    told = json.loads(text)
    assert (code, told["ok"]) == (1, False)
    (bad,) = [finding for finding in told["findings"] if finding["verdict"] == "failed"]
    assert bad["check"] == "aws-marketplace:ResolveCustomer"


# --- The report for AWS's review


@pytest.fixture
def lived(in_order, purchase, acme, aws):
    """A purchase whose whole life was seen: bought, read, metered, ended."""
    agreement = purchase("reports-payg")
    now = timezone.now()
    usage.record(acme, "pages", 3, key="a", occurred_at=now - 2 * HOUR, now=now)
    metering.close_hours(region="us-east-1", now=now)
    submission.submit_due(aws.marketplace, now=now)
    aws.control.cancel(agreement.agreement_id)
    aws.control.advance(120)
    aws.deliver(now=now + timedelta(minutes=3))
    return agreement


def test_the_report_ticks_what_rows_prove_and_leaves_the_rest_open(lived):
    steps = {step.text: step for step in evidence.of(Product.objects.get(code="reports-payg"))}
    assert steps["BatchMeterUsage was accepted"].proof.startswith("3 pages at ")
    assert "MeteringRecordId" in steps["BatchMeterUsage was accepted"].proof
    ended = steps["The buyer unsubscribed, and access ended"].proof
    assert ended.startswith("Purchase Agreement Ended")
    assert steps["A failed subscription gave no access"].proof == ""
    assert all(step.proof == "" for step in evidence.of(Product.objects.get(code="reports-team")))

    code, text = run("--report")
    assert code == 0
    assert "- [x] BatchMeterUsage was accepted: 3 pages at" in text
    assert "- [ ] A failed subscription gave no access." in text
    assert "- [ ] At least one dimension is priced above 0" in text


def test_the_report_asks_of_each_pricing_only_the_calls_that_aws_verifies(catalog):
    texts = {
        product.code: " ".join(step.text for step in evidence.of(product))
        for product in Product.objects.all()
    }
    assert "GetEntitlements" not in texts["reports-payg"]
    assert "BatchMeterUsage" in texts["reports-payg"]
    assert "GetEntitlements" in texts["reports-team"]
    assert "BatchMeterUsage" not in texts["reports-team"]
    assert "GetEntitlements" in texts["reports-flex"]
    assert "BatchMeterUsage" in texts["reports-flex"]


def test_an_entitlement_that_was_read_is_a_proof(in_order, purchase, aws):
    agreement = purchase("reports-flex", quantities={"included_pages": 5})
    entitlements.sync(agreement, marketplace=aws.marketplace, now=timezone.now())
    proofs = [step.proof for step in evidence.of(agreement.product)]
    assert any(proof.startswith("included_pages = 5, last read ") for proof in proofs)


def test_a_failed_subscription_is_a_proof(in_order, aws):
    now = timezone.now()
    bought = aws.buy("reports-classic", payment_fails=True)
    registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=now)
    aws.control.advance(120)
    aws.deliver(now=now + timedelta(minutes=2))
    last = evidence.of(Product.objects.get(code="reports-classic"))[-1]
    assert last.proof.startswith("subscribe-fail of ")


def test_test_purchases_that_still_run_are_to_be_cancelled(in_order, purchase):
    purchase("reports-payg")
    assert "- [ ] 1 active: cancel what was a test" in run("--report")[1]


def test_nothing_from_elsewhere_becomes_markup(in_order, settings):
    settings.SITE_NAME = "<b>Acme</b>\n## Approved [x](http://evil)"
    hostile = good("x", "| <script>\n- [x] forged")
    text = review.report([("Part", hostile)], now=timezone.now())
    assert "<b>" not in text
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "\n## Approved" not in text
    assert "\n- [x] forged" not in text
