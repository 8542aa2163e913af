"""Lists as files: what the filters leave, streamed, safe in a spreadsheet, told in the trail."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Invitation, User
from billing import audit
from billing.admin import exporting
from billing.admin.columns import list_url
from billing.admin.exporting import as_csv, as_json
from billing.admin.site import admin_site
from billing.models import AuditEvent, AuditHead, MeteringRecord, Registration, Submission, UsageEvent
from tests.billing.test_admin import EDITABLE, PEOPLE, READ_ONLY, make_story

SECRET = ("password", "body", "payload")
PROVING = (Registration, Invitation)  # whose digest stands for a token


@pytest.fixture
def signed_in(client, operator):
    client.force_login(operator)
    return client


def export(client, model, kind="csv", **filters):
    base, _, asked = list_url(model, **filters).partition("?")
    return client.get(f"{base}export.{kind}?{asked}")


def text_of(response):
    assert response.streaming
    return b"".join(response.streaming_content).decode()


def table(response):
    return list(csv.DictReader(io.StringIO(text_of(response))))


def exported():
    """The newest link of the staff's trail that tells of one."""
    return AuditEvent.objects.filter(stream=audit.STAFF, action="exported").order_by("-sequence").first()


@pytest.mark.parametrize("model", READ_ONLY + EDITABLE + PEOPLE)
def test_every_list_is_taken_away_as_csv_and_json(signed_in, acme, model):
    row = make_story(acme, number=1)[model]
    rows = table(export(signed_in, model))
    objects = json.loads(text_of(export(signed_in, model, "json")))

    assert str(row.pk) in [one["id"] for one in rows]
    exports = {str(link.pk) for link in AuditEvent.objects.filter(action="exported")}
    ids = [str(one["id"]) for one in objects]
    assert ids == [one["id"] for one in rows] or (model in (AuditEvent, AuditHead) and exports)
    assert not set(SECRET) & set(objects[0])
    assert model not in PROVING or "digest" not in objects[0]
    page = signed_in.get(list_url(model)).content.decode()
    assert f"{list_url(model)}export.csv" in page


def test_the_filters_and_the_search_of_the_list_are_those_of_the_file(signed_in, acme, outsider):
    mine = make_story(acme, number=1)
    make_story(outsider.organizations.get(), number=2)

    found = table(export(signed_in, UsageEvent, q="agmt-1"))
    assert [row["id"] for row in found] == [str(mine[UsageEvent].pk)]
    assert found[0]["agreement.agreement_id"] == "agmt-1"
    agreement = mine[MeteringRecord].agreement_id
    assert len(table(export(signed_in, MeteringRecord, agreement=agreement))) == 1
    assert table(export(signed_in, MeteringRecord, agreement=agreement, state__exact="void")) == []
    page = signed_in.get(list_url(MeteringRecord, agreement=agreement, p=1)).content.decode()
    assert f"export.json?agreement={agreement}&quot;" not in page
    assert f'export.json?agreement={agreement}"' in page


def test_a_file_goes_past_the_pages_of_the_list_in_few_queries(signed_in, acme, monkeypatch):
    monkeypatch.setattr(exporting, "_CHUNK", 50)
    event = make_story(acme, number=1)[UsageEvent]
    for number in range(119):
        event.pk, event.key = None, f"more-{number}"
        event.save(force_insert=True)
    with CaptureQueriesContext(connection) as queries:
        rows = table(export(signed_in, UsageEvent))

    assert len(rows) == 120
    assert len({row["key"] for row in rows}) == 120
    assert [int(row["id"]) for row in rows] == sorted((int(row["id"]) for row in rows), reverse=True)
    assert len(queries) <= 15
    assert not any("COUNT(" in query["sql"].upper() for query in queries)


def test_an_export_is_in_the_trail_before_its_first_row_leaves(signed_in, operator, acme):
    make_story(acme, number=1)
    response = export(signed_in, MeteringRecord, "json", state__exact="due", q="ada@acme.example")

    link = exported()
    assert link.actor == f"user:{operator.pk}"
    assert link.data == {
        "model": "billing.meteringrecord",
        "format": "json",
        "filters": ["state__exact"],
        "searched": True,
    }
    text_of(response)


def test_who_may_see_a_list_may_take_it_away_and_nobody_else(client, operator, acme):
    make_story(acme, number=1)
    operator.is_superuser = False
    operator.save()
    operator.user_permissions.set(Permission.objects.filter(codename="view_meteringrecord"))
    client.force_login(operator)

    assert export(client, MeteringRecord).status_code == 200
    assert export(client, UsageEvent).status_code == 403
    assert export(client, User).status_code == 403
    assert client.post(f"{list_url(MeteringRecord)}export.csv").status_code in (403, 405)
    client.force_login(User.objects.get(email="ada@acme.example"))
    assert export(client, MeteringRecord).status_code == 403
    client.logout()
    assert export(client, MeteringRecord).status_code == 302
    assert AuditEvent.objects.filter(action="exported").count() == 1


def test_what_cannot_be_filtered_by_leads_back_to_the_list(signed_in, acme):
    response = export(signed_in, MeteringRecord, hour__gte="yesterday")
    assert response["Location"] == f"{list_url(MeteringRecord)}?e=1"
    assert exported() is None


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＠"])
def test_a_spreadsheet_reckons_with_no_text_of_a_buyers(signed_in, acme, start):
    event = make_story(acme, number=1)[UsageEvent]
    event.pk, event.key = None, f"{start}cmd|' /C calc'!A0"
    event.save(force_insert=True)

    [row] = [row for row in table(export(signed_in, UsageEvent)) if "calc" in row["key"]]
    assert row["key"].startswith("'")


def test_a_file_is_private_and_named_after_its_list(signed_in, acme):
    response = export(signed_in, Submission)
    assert response["Content-Disposition"].startswith('attachment; filename="submissions-20')
    assert "no-store" in response["Cache-Control"]
    assert response["Content-Type"] == "text/csv; charset=utf-8"


def test_values_are_written_exactly():
    row = (
        None,
        True,
        Decimal("-0.000001"),
        datetime(2026, 11, 3, 12, tzinfo=UTC),
        '한빛, "x"\n',
        {"a": 1},
        7,
    )
    names = list("abcdefg")
    [told] = csv.reader(io.StringIO("".join(as_csv(names, iter([[row]]))).partition("\r\n")[2]))
    assert told == ["", "true", "-0.000001", "2026-11-03T12:00:00Z", '한빛, "x"\n', '{"a": 1}', "7"]
    assert json.loads("".join(as_json(names, iter([[row], [row]])))) == [
        {
            "a": None, "b": True, "c": "-0.000001", "d": "2026-11-03T12:00:00Z",
            "e": '한빛, "x"\n', "f": {"a": 1}, "g": 7,
        }
    ] * 2  # fmt: skip
    assert json.loads("".join(as_json(names, iter([])))) == []


def test_no_two_columns_of_a_file_have_one_name():
    for model, model_admin in admin_site._registry.items():
        if isinstance(model_admin, exporting.WithExport):
            assert max(Counter(model_admin.exported()).values()) == 1, model
