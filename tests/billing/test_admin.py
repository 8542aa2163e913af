"""The console's lists and pages: every model is there, and what came from AWS or went there is only read."""

import re
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Invitation, Membership, Organization, User
from billing import audit, effects, metering, submission, usage
from billing.admin.columns import list_url
from billing.admin.site import admin_site
from billing.aws.window import HOUR, hour_of
from billing.models import (
    Agreement,
    AgreementMove,
    ArchivedUsageKey,
    AuditCheckpoint,
    AuditEvent,
    AuditHead,
    Dimension,
    Effect,
    Entitlement,
    JobRun,
    JoinRequest,
    Lease,
    MarketplaceCustomer,
    MarketplaceEvent,
    MeteringRecord,
    OperatorTask,
    Product,
    Registration,
    Submission,
    SubmissionLine,
    UsageArchive,
    UsageArchiveTotal,
    UsageEvent,
    UsageReport,
    UsageReportLine,
)

READ_ONLY = [
    Agreement,
    AgreementMove,
    ArchivedUsageKey,
    AuditCheckpoint,
    AuditEvent,
    AuditHead,
    Effect,
    Entitlement,
    JobRun,
    JoinRequest,
    Lease,
    MarketplaceCustomer,
    MarketplaceEvent,
    MeteringRecord,
    OperatorTask,
    Registration,
    Submission,
    SubmissionLine,
    UsageArchive,
    UsageArchiveTotal,
    UsageEvent,
    UsageReport,
    UsageReportLine,
]
EDITABLE = [Product, Dimension]
PEOPLE = [User, Organization, Membership, Invitation, Group]
HOSTILE = '<img src=x onerror="alert(1)">'
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


@pytest.fixture
def operator(client, make_user):
    """A superuser with a second factor, signed in."""
    user = make_user("olga@seller.example", name="Olga", is_staff=True, is_superuser=True)
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": "x"})
    client.force_login(user)
    return user


@pytest.fixture
def one_of_each(db, acme):
    """One purchase with a row of every model, and what is needed to make more of them."""
    return make_story(acme, number=1)


def make_story(organization, *, number, text="plain"):
    product, _ = Product.objects.get_or_create(
        code="flex", defaults={"product_id": "prod-1", "title": f"Flex {text}", "pricing": "subscription"}
    )
    dimension, _ = Dimension.objects.get_or_create(
        product=product, key="pages", defaults={"label": f"Pages {text}", "kind": "metered"}
    )
    customer = MarketplaceCustomer.objects.create(aws_account_id=f"{number:012}")
    agreement = Agreement.objects.create(
        product=product,
        customer=customer,
        identity="license",
        license_arn=f"arn:aws:license-manager::1:license:l-{number:032x}",
        license_id=f"l-{number:032x}",
        agreement_id=f"agmt-{number}",
        organization=organization,
        status="active",
        activated_at=NOON - 2 * HOUR,
        flag_reason=text,
    )
    record = MeteringRecord.objects.create(
        agreement=agreement,
        dimension=dimension,
        hour=NOON,
        used=Decimal("130.500000"),
        included=Decimal(0),
        quantity=Decimal("130.5"),
        wire_license_arn=agreement.license_arn,
        wire_account_id=customer.aws_account_id,
        wire_region="us-east-1",
        wire_timestamp=NOON,
        wire_quantity="130.5",
        wire_allocations='[{"quantity":"130.5","tags":{"team":"ml"}}]',
        submit_by=NOON + 24 * HOUR,
        error_message=text,
        aws_record_id=f"aws-record-{number}",
    )
    event = UsageEvent.objects.create(
        organization=organization,
        agreement=agreement,
        dimension=dimension,
        quantity=Decimal("0.000001"),
        occurred_at=NOON,
        key=f"key-{number}",
        tags={"team": text},
        metering_record=record,
    )
    call = Submission.objects.create(
        token=1, record_count=1, started_at=NOON, aws_request_id=f"request-{number}", error_message=text
    )
    archive = UsageArchive.objects.create(
        agreement=agreement,
        month=NOON.date(),
        name=f"{number}/2026-11.jsonl.gz",
        sha256="0" * 64,
        size=1,
        event_count=1,
        made_at=NOON,
    )
    archived = UsageArchiveTotal.objects.create(
        archive=archive,
        agreement=agreement,
        organization=organization,
        dimension=dimension,
        day=NOON.date(),
        disposition="billable",
        quantity=1,
        event_count=1,
    )
    arrival = Registration.objects.create(
        digest=f"{number:064x}", agreement=agreement, expires_at=NOON, user=User.objects.first()
    )
    half = Submission.objects.create(token=1, parent=call, record_count=1, started_at=NOON)
    report = UsageReport.objects.create(
        digest=f"{number:064x}", name=text, size=1, line_count=1, first_day=NOON.date(), last_day=NOON.date()
    )
    with transaction.atomic():
        link = audit.record(agreement, "claimed", by="aws", at=NOON, reason=text)
    return {
        Product: product,
        Dimension: dimension,
        MarketplaceCustomer: customer,
        Agreement: agreement,
        MeteringRecord: record,
        UsageReport: report,
        UsageReportLine: UsageReportLine.objects.create(
            report=report,
            number=2,
            key=f"{number:064x}",
            product_code=text,
            account=text,
            dimension_key=text,
            day=NOON.date(),
            quantity=Decimal("0.000001"),
            product=product,
            agreement=agreement,
            dimension=dimension,
        ),
        UsageEvent: event,
        Submission: half,
        SubmissionLine: SubmissionLine.objects.create(submission=call, record=record, status=text),
        Entitlement: Entitlement.objects.create(
            agreement=agreement,
            dimension_key="seats",
            string_value=text,
            valid_from=NOON,
            opened_because=text,
        ),
        MarketplaceEvent: MarketplaceEvent.objects.create(
            channel="sns",
            source_id=f"message-{number}",
            kind=text,
            occurred_at=NOON,
            body=text,
            payload={"text": text},
            agreement=agreement,
            error=text,
        ),
        Effect: Effect.objects.create(
            agreement=agreement, kind="sync_entitlements", cause=text, caused_at=NOON, error=text
        ),
        Registration: arrival,
        JoinRequest: JoinRequest.objects.create(
            registration=arrival,
            organization=organization,
            user=organization.members.first(),
            is_approved=True,
            answered_at=NOON,
            answered_by=organization.members.first(),
        ),
        UsageArchive: archive,
        UsageArchiveTotal: archived,
        ArchivedUsageKey: ArchivedUsageKey.objects.create(
            id=10**6 + number,
            organization=organization,
            digest=uuid.UUID(int=number),
            content=uuid.UUID(int=number),
            occurred_at=NOON,
            total=archived,
        ),
        AgreementMove: AgreementMove.objects.create(
            agreement=agreement,
            from_organization=organization,
            to_organization=Organization.objects.get_or_create(name=text, slug="elsewhere")[0],
            moved_at=NOON,
            moved_by=organization.members.first(),
        ),
        JobRun: JobRun.objects.get_or_create(
            name=f"job_{number}", defaults={"started_at": NOON, "finished_at": NOON, "error": text[:100]}
        )[0],
        AuditEvent: link,
        AuditHead: AuditHead.objects.get(stream=link.stream),
        AuditCheckpoint: AuditCheckpoint.objects.create(
            stream=f"agreement:9{number}", sequence=1, mac="m", removed=1, made_at=NOON, seal="s"
        ),
        Lease: Lease.objects.get_or_create(name="submit_metering", defaults={"expires_at": NOON})[0],
        OperatorTask: OperatorTask.objects.create(
            nonce=f"nonce-{number}",
            kind="retry",
            rows=[[record.pk, "parked"]],
            refusals=[[record.pk, text]],
            asked_by=User.objects.first(),
            reason=text,
        ),
        Organization: organization,
        Membership: organization.memberships.first(),
        Invitation: organization.invitations.create(
            email=f"invited-{number}@acme.example",
            role="member",
            digest=f"{number:064x}",
            invited_by=organization.members.first(),
            expires_at=NOON,
        ),
        User: organization.members.first(),
        Group: Group.objects.get_or_create(name="Auditors")[0],
    }


def page_url(row, page="change"):
    return f"{list_url(type(row))}{row.pk}/{page}/"


def submit(client, url, **fields):
    """Post a page's form as a browser would, with what its inlines add to it."""
    for inline in client.get(url).context["inline_admin_formsets"]:
        form = inline.formset.management_form
        fields.update({form.add_prefix(name): value for name, value in form.initial.items()})
    return client.post(url, fields)


def rows_of(response):
    return list(response.context["cl"].result_list)


def test_every_model_of_people_and_billing_is_registered():
    from django.apps import apps

    models = [model for app in ("accounts", "billing") for model in apps.get_app_config(app).get_models()]

    assert [model for model in models if not admin_site.is_registered(model)] == []
    assert set(READ_ONLY + EDITABLE + PEOPLE) == set(admin_site._registry)


def test_the_admin_passes_djangos_own_checks():
    assert [error for model_admin in admin_site._registry.values() for error in model_admin.check()] == []


@pytest.mark.parametrize("model", READ_ONLY + EDITABLE + PEOPLE)
def test_each_list_and_page_opens(client, operator, one_of_each, model):
    row = one_of_each[model]

    listed = client.get(list_url(model))
    shown = client.get(page_url(row))

    assert listed.status_code == shown.status_code == 200
    assert row in rows_of(listed)
    assert "9999999999" not in listed.content.decode(), "The paginator's stand-in for a count is not shown."


@pytest.mark.parametrize("model", READ_ONLY)
def test_what_came_from_aws_or_went_there_is_not_changed_here(client, operator, one_of_each, model):
    row = one_of_each[model]
    before = type(row).objects.filter(pk=row.pk).values().get()

    for url in (f"{list_url(model)}add/", page_url(row, "delete")):
        assert client.get(url).status_code == 403
        assert client.post(url, {"post": "yes"}).status_code == 403
    assert client.post(page_url(row), {"status": "failed", "state": "void"}).status_code == 403
    client.post(list_url(model), {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})

    assert type(row).objects.filter(pk=row.pk).values().get() == before
    assert b'name="_save"' not in client.get(page_url(row)).content


@pytest.mark.parametrize("model", READ_ONLY + EDITABLE + PEOPLE)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(client, operator, acme, model):
    make_story(acme, number=1)
    with CaptureQueriesContext(
        connection,
    ) as few:
        client.get(list_url(model))
    for number in range(2, 6):
        owner = User.objects.create_user(f"owner-{number}@acme.example")
        other = Organization.objects.create(name=f"Team {number}", slug=f"team-{number}")
        Membership.objects.create(organization=other, user=owner, role="owner")
        Dimension.objects.create(
            product=Product.objects.create(
                code=f"p{number}", product_id=f"prod-p{number}", title="P", pricing="contract"
            ),
            key="seats",
            label="Seats",
            kind="entitled",
        )
        make_story(other, number=number)
    with CaptureQueriesContext(connection) as many:
        client.get(list_url(model))

    assert Counter(query["sql"].split(" ")[0] for query in many) == Counter(
        query["sql"].split(" ")[0] for query in few
    )
    assert len(many) <= 15
    counted = [query["sql"] for query in many if "COUNT(" in query["sql"].upper()]
    assert counted == [] or model in (Product, Dimension, Group)


@pytest.mark.parametrize("model", READ_ONLY + EDITABLE)
def test_text_from_outside_is_shown_never_run(client, operator, acme, model):
    Organization.objects.filter(pk=acme.pk).update(name=HOSTILE)
    acme.refresh_from_db()
    story = make_story(acme, number=1, text=HOSTILE)

    for url in (list_url(model), page_url(story[model])):
        assert HOSTILE not in client.get(url).content.decode()


def test_the_raw_body_of_an_event_is_folded_and_escaped(client, operator, acme):
    event = make_story(acme, number=1, text=HOSTILE)[MarketplaceEvent]

    page = client.get(page_url(event)).content.decode()

    folded = re.search(r"<details><summary>\s*<h2[^>]*>\s*As received.*?</details>", page, re.DOTALL)
    assert folded
    assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;" in folded[0]


@pytest.mark.parametrize(
    ("model", "term"),
    [
        (Agreement, "000000000001"),
        (Agreement, "0000-0000-0001"),
        (Agreement, "agmt-1"),
        (Agreement, "arn:aws:license-manager::1:license:l-00000000000000000000000000000001"),
        (Agreement, "Ada@acme.example"),
        (MarketplaceCustomer, "000000000001"),
        (UsageEvent, "key-1"),
        (UsageEvent, "agmt-1"),
        (MeteringRecord, "aws-record-1"),
        (MeteringRecord, "000000000001"),
        (MeteringRecord, "request-1"),
        (SubmissionLine, "request-1"),
        (SubmissionLine, "aws-record-1"),
        (Agreement, "aCm"),
        (UsageEvent, "Acme"),
        (MarketplaceCustomer, "acme"),
        (JoinRequest, "agmt-1"),
        (SubmissionLine, "agmt-1"),
        (MarketplaceEvent, "message-1"),
        (Entitlement, "agmt-1"),
        (Effect, "agmt-1"),
        (Registration, "ada@acme.example"),
        (AuditEvent, "agmt-1"),
        (User, "ada@"),
        (Membership, "ada@acme.example"),
        (Invitation, "invited-1@acme.example"),
        (Organization, "acme"),
    ],
)
def test_rows_are_found_by_what_a_person_has_in_hand(client, operator, acme, outsider, model, term):
    wanted = make_story(acme, number=1)[model]
    make_story(outsider.organizations.get(), number=2)

    assert rows_of(client.get(list_url(model, q=term))) == [wanted]
    assert wanted in rows_of(client.get(list_url(model, q="   ")))
    assert rows_of(client.get(list_url(model, q="nothing-like-it"))) == []


@pytest.mark.parametrize("model", [MeteringRecord, Submission])
def test_a_row_is_found_by_the_number_that_the_logs_print(client, operator, one_of_each, model):
    row = one_of_each[model]

    assert rows_of(client.get(list_url(model, q=str(row.pk)))) == [row]


def test_a_call_is_found_by_its_aws_request_id(client, operator, one_of_each):
    assert rows_of(client.get(list_url(Submission, q="request-1"))) == [
        one_of_each[SubmissionLine].submission
    ]


def test_quantities_are_printed_plainly(client, operator, one_of_each):
    listed = client.get(list_url(UsageEvent)).content.decode()
    record = client.get(page_url(one_of_each[MeteringRecord])).content.decode()

    assert "0.000001" in listed
    assert "1E-" not in listed
    assert "130.5" in record
    assert "130.50" not in record


def test_the_chain_can_be_walked_by_links(client, operator, one_of_each):
    agreement, record = one_of_each[Agreement], one_of_each[MeteringRecord]
    call = one_of_each[SubmissionLine].submission
    walk = [
        (one_of_each[UsageEvent], [record, agreement, one_of_each[Organization]]),
        (record, [agreement, one_of_each[UsageEvent], call]),
        (call, [record, agreement, one_of_each[Submission]]),
        (
            agreement,
            [one_of_each[model] for model in (Organization, MarketplaceCustomer, Entitlement, Effect)],
        ),
        (
            agreement,
            [
                record,
                *(one_of_each[model] for model in (UsageEvent, MarketplaceEvent, AuditEvent, Registration)),
            ],
        ),
        (one_of_each[AuditEvent], [agreement]),
        (one_of_each[MarketplaceCustomer], [agreement]),
        (one_of_each[Organization], [agreement, one_of_each[UsageEvent]]),
    ]

    for start, ends in walk:
        page = client.get(page_url(start)).content.decode()
        assert [end for end in ends if page_url(end) not in page] == []
        for more in re.findall(r'<a href="([^"]+)" class="text-link ml-auto">', page):
            assert client.get(more.replace("&amp;", "&")).status_code == 200


def test_a_long_history_is_cut_and_says_so(client, operator, one_of_each, acme):
    record = one_of_each[MeteringRecord]
    for number in range(30):
        usage_event = one_of_each[UsageEvent]
        usage_event.pk, usage_event.key = None, f"more-{number}"
        usage_event.save(force_insert=True)

    page = client.get(page_url(record)).content.decode()

    assert "The first 10 are here: see all" in page
    assert page.count("more-") == 10


def test_a_system_stream_of_the_trail_has_no_agreement_to_link_to(client, operator):
    with transaction.atomic():
        link = audit.record(audit.SYSTEM, "started", by="job:x", at=NOON)

    assert client.get(page_url(link)).status_code == 200
    assert rows_of(client.get(list_url(AuditEvent, q="system"))) == [link]


def test_a_page_of_a_row_that_is_not_there_leads_to_the_front_page(client, operator):
    assert client.get(f"{list_url(Agreement)}999/change/")["Location"] == "/admin/"


def test_catalog_rows_are_edited_but_keep_their_names_at_aws(client, operator, one_of_each):
    product, dimension = one_of_each[Product], one_of_each[Dimension]

    submit(client, page_url(product), title="Flexible", pricing="contract", code="other")
    client.post(
        page_url(dimension), {"label": "Sheets", "unit": "", "allowance_period": "month", "key": "other"}
    )

    product.refresh_from_db()
    dimension.refresh_from_db()
    assert (product.title, product.code) == ("Flexible", "flex")
    assert (dimension.label, dimension.key, dimension.allowance_period) == ("Sheets", "pages", "month")


def test_a_product_and_its_dimensions_are_added(client, operator, one_of_each):
    submit(
        client, f"{list_url(Product)}add/", title="Team", code="team", product_id="prod-2", pricing="contract"
    )
    team = Product.objects.get(code="team")
    new = {
        "product": team.pk,
        "key": "seats",
        "label": "Seats",
        "kind": "entitled",
        "allowance_period": "term",
    }
    client.post(f"{list_url(Dimension)}add/", new)
    seats = Dimension.objects.get(key="seats")

    foreign = {
        **new,
        "product": one_of_each[Product].pk,
        "key": "calls",
        "kind": "metered",
        "included_by": seats.pk,
    }
    refused = client.post(f"{list_url(Dimension)}add/", foreign)

    assert "An allowance comes from a dimension of the same product." in refused.content.decode()
    client.post(f"{list_url(Dimension)}add/", {**foreign, "product": team.pk})
    assert Dimension.objects.get(key="calls").included_by == seats


def test_a_real_purchase_can_be_audited(client, operator, aws, purchase, acme):
    agreement = purchase("reports-flex", quantities={"included_pages": 100})
    now = timezone.now()
    effects.run_due(aws.marketplace, now=now)
    used_at = hour_of(now) - HOUR + timedelta(minutes=30)
    usage.record(acme, "pages", 130, key="report-1", tags={"team": "ml"}, occurred_at=used_at)
    metering.close_hours(region="us-east-1", now=now)
    submission.submit_due(aws.marketplace, now=now)
    record = MeteringRecord.objects.get()

    history = client.get(page_url(agreement)).content.decode()
    told = client.get(page_url(record)).content.decode()

    assert "report-1" in history
    assert "Claimed" in history
    for text in (
        record.aws_record_id,
        Submission.objects.get().aws_request_id,
        record.wire_license_arn,
        "Success",
    ):
        assert text in told


def history_of(client, agreement, **asked):
    """The panel of an agreement's page that tells what happened."""
    return history_in(client.get(page_url(agreement), asked))


def history_in(response):
    [panel] = [panel for panel in response.context["panels"] if panel.anchor == "history"]
    return panel


def test_an_agreements_page_tells_its_history_and_leads_to_what_was_before(client, operator, one_of_each):
    agreement, event = one_of_each[Agreement], one_of_each[MarketplaceEvent]
    with transaction.atomic():
        for minute in range(45):
            audit.record(agreement, f"step {minute}", by="aws", at=NOON + timedelta(days=1, minutes=minute))

    newest = history_of(client, agreement)
    older = client.get(newest.more)
    oldest = history_in(older)

    assert (newest.title, newest.more_text, len(newest.table["rows"])) == (
        "History",
        "What was before that",
        40,
    )
    assert newest.more.endswith("#history")
    assert 'id="history"' in older.content.decode()
    assert "operators.css" in older.content.decode(), "On a phone no sentence is cut off."
    assert oldest.title == "History before 2026-11-04 12:07"
    assert "Step 6" in oldest.table["rows"][0][1]
    assert not oldest.more
    assert page_url(event) in older.content.decode()
    assert "AWS: plain" in older.content.decode()


@pytest.mark.parametrize("asked", ["", "yesterday", "2026-13-40T00:00:00Z", "2026-11-03T12:00:00", "<b>"])
def test_what_is_no_instant_asks_for_all_of_the_history(client, operator, one_of_each, asked):
    assert history_of(client, one_of_each[Agreement], before=asked).title == "History"


@pytest.mark.parametrize("state", ["received", "waiting"])
def test_an_event_that_waits_is_found_by_what_it_names(client, operator, one_of_each, state):
    names = {"license_id": "l-9", "aws_agreement_id": "agmt-9", "customer_identifier": "cust-9"}
    waiting = MarketplaceEvent.objects.create(
        channel="sns", source_id="w", kind="?", occurred_at=NOON, state=state, alarmed_at=NOON, **names
    )

    for term in (*names.values(), "arn:aws:license-manager::1:license:l-9"):
        assert rows_of(client.get(list_url(MarketplaceEvent, q=term))) == [waiting]
    shown = client.get(page_url(waiting)).content.decode()
    assert [name for name in (*names.values(), "People were told that it waits") if name not in shown] == []


def test_the_pages_show_how_a_purchase_ended_and_what_it_continues(client, operator, one_of_each):
    agreement, effect = one_of_each[Agreement], one_of_each[Effect]
    known = {
        "end_reason": "REPLACED",
        "intent": "RENEW",
        "previous_agreement_id": "agmt-before",
        "initial_agreement_id": "agmt-first",
    }
    Agreement.objects.filter(pk=agreement.pk).update(
        ended_at=NOON,
        access_until=NOON + 24 * HOUR,
        advisory_issued_at=NOON - HOUR,
        auto_renews=True,
        **known,
    )
    Effect.objects.filter(pk=effect.pk).update(state="skipped", outcome="it renews by itself")

    page = client.get(page_url(agreement)).content.decode()
    shown = (
        "REPLACED",
        "Renews another",
        "agmt-before",
        "agmt-first",
        "2026-11-04 12:00",
        "2026-11-03 11:00",
    )
    assert [text for text in shown if text not in page] == []
    for url in (list_url(Effect), page_url(effect), page_url(agreement)):
        assert "it renews by itself" in client.get(url).content.decode()
