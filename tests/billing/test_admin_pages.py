"""What the pages of the chain tell: why a buyer was billed, what a call was; and ranges of time."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta

import pytest
from django.utils import timezone

from billing import effects, metering, submission, usage
from billing.admin import advice
from billing.admin.columns import list_url
from billing.admin.filters import instant_of
from billing.aws.errors import MarketplaceError
from billing.aws.window import HOUR, hour_of
from billing.models import MarketplaceEvent, MeteringRecord, Submission, SubmissionLine, UsageEvent
from billing.sending import sent
from tests.billing.ledger import NOON, ScriptedAws, entitle, make_agreement, make_record, use
from tests.billing.test_admin import HOSTILE, page_url, rows_of


@pytest.fixture
def signed_in(client, operator):
    client.force_login(operator)
    return client


@pytest.fixture
def agreement(catalog, acme):
    return make_agreement(catalog, acme)


def panels(client, row, **asked):
    return {str(panel.title): panel for panel in client.get(page_url(row), asked).context["panels"]}


def texts(row):
    return [html.unescape(re.sub(r"<[^>]+>", "", str(cell))).strip() for cell in row]


# --- Three clicks


def test_why_a_buyer_was_billed_is_three_clicks_away(signed_in, aws, purchase, acme):
    agreement = purchase("reports-flex", quantities={"included_pages": 100})
    now = timezone.now()
    effects.run_due(aws.marketplace, now=now)
    hour = hour_of(now) - HOUR
    for key, quantity in (("a", 412), ("b", 100)):
        usage.record(acme, "pages", quantity, key=key, tags={"team": "ml"}, occurred_at=hour)
    metering.close_hours(region="us-east-1", now=now)
    submission.submit_due(aws.marketplace, now=now)
    record = MeteringRecord.objects.get()

    [found] = rows_of(signed_in.get(f"{list_url(type(agreement))}?q={acme.name}"))
    [chart] = [panel.chart for panel in panels(signed_in, found).values() if panel.chart]
    [bar] = [bar for bar in chart.bars if bar.parts]
    told = signed_in.get(bar.url)

    assert bar.url == page_url(record)
    assert f"{hour:%H}:00" in bar.title
    steps = {row[0]: texts(row)[1] for row in told.context["panels"][0].table["rows"]}
    assert steps == {
        "Used in this hour": "512",
        "Allowance": "100",
        "Drawn by earlier hours": "0",
        "Left for this hour": "100",
        "Included in this hour": "100",
        "Billed": "412",
    }
    page = told.content.decode()
    for text in ("team: ml", "Success", record.aws_record_id, Submission.objects.get().aws_request_id):
        assert text in page
    for event in UsageEvent.objects.all():
        assert page_url(event) in page


def test_the_allowance_of_a_month_is_told_from_its_begin(signed_in, catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex", activated_at=NOON - timedelta(days=60))
    pages = agreement.product.dimensions.get(key="pages")
    pages.allowance_period = "month"
    pages.save()
    entitle(agreement, 10, since=NOON - timedelta(days=60))
    make_record(agreement, NOON - timedelta(days=40), 0, used=9, included=9)
    make_record(agreement, NOON - timedelta(days=2), 0, used=4, included=4)
    make_record(agreement, NOON - timedelta(days=1), 0, used=3, included=3, state="void")
    record = make_record(agreement, NOON, 1, used=7, included=6)
    rows = [texts(row) for row in panels(signed_in, record)["How it came to this"].table["rows"]]
    assert rows[2] == ["Drawn by earlier hours", "4", "Since the month began, at 2026-11-01 00:00 UTC"]
    assert rows[3][1] == "6"


def test_without_an_allowance_all_of_it_is_billed(signed_in, agreement):
    steps = panels(signed_in, make_record(agreement, NOON, 5))["How it came to this"].table["rows"]
    assert [texts(row)[1] for row in steps] == ["5", "0", "5"]


def test_charts_of_usage_go_back_a_week_at_a_time(signed_in, agreement):
    record = make_record(agreement, NOON, 5)
    asked = {"until": (NOON + timedelta(minutes=5)).isoformat()}
    newest = panels(signed_in, agreement, **asked)["Report pages per hour"]
    assert page_url(record) in [bar.url for bar in newest.chart.bars]
    assert len(newest.chart.bars) == 7 * 24
    older = signed_in.get(newest.more)
    assert not [
        bar for panel in older.context["panels"] if panel.chart for bar in panel.chart.bars if bar.parts
    ]
    assert signed_in.get(page_url(agreement), {"until": "<b>"}).status_code == 200


def test_aws_messages_stand_folded_on_the_agreements_page_and_are_never_run(signed_in, agreement):
    for channel in ("eventbridge", "clock"):
        MarketplaceEvent.objects.create(
            channel=channel,
            source_id=channel,
            kind="License Updated",
            occurred_at=NOON,
            body=f"{channel} {HOSTILE}",
            agreement=agreement,
        )
    response = signed_in.get(page_url(agreement))
    [panel] = [panel for panel in response.context["panels"] if panel.folds]
    assert [fold.text for fold in panel.folds] == [f"eventbridge {HOSTILE}"]
    assert HOSTILE not in response.content.decode()


# --- Calls


def test_a_request_is_told_as_it_was_sent_byte_for_byte(aws, purchase, acme):
    agreement = purchase("reports-payg")
    now = timezone.now()
    for number in range(3):
        occurred = max(hour_of(now) - HOUR, agreement.activated_at)
        usage.record(
            acme, "pages", number + 1, key=f"k{number}", tags={"n": str(number)}, occurred_at=occurred
        )
    metering.close_hours(region="us-east-1", now=now + HOUR)
    submission.submit_due(aws.marketplace, now=now + HOUR)
    [request] = aws.control.requests("BatchMeterUsage")
    assert json.loads(sent.request(Submission.objects.get())) == request["request"]


def test_an_answer_names_each_record(agreement):
    record, other = make_record(agreement, NOON), make_record(agreement, NOON - HOUR)
    call = Submission.objects.create(token=1, record_count=2, started_at=NOON, outcome="answered")
    SubmissionLine.objects.create(submission=call, record=record, status="Success", aws_record_id="id-1")
    SubmissionLine.objects.create(submission=call, record=other, status="Unprocessed")
    assert json.loads(sent.response(call)) == {
        "Results": [{"record": record.pk, "Status": "Success", "MeteringRecordId": "id-1"}],
        "UnprocessedRecords": [{"record": other.pk}],
    }
    assert sent.response(Submission(outcome="sent")) == ""
    refused = Submission(outcome="refused", error_code="X", error_message="no")
    assert json.loads(sent.response(refused)) == {"__type": "X", "message": "no"}


def test_the_tree_of_halves_is_the_same_on_each_of_its_pages(signed_in, agreement):
    poison = make_record(agreement, NOON - HOUR, state="due", submit_by=NOON + HOUR)
    for back in range(2, 6):
        make_record(agreement, NOON - back * HOUR, submit_by=NOON + HOUR)

    def script(lines):
        if poison.pk in [line.reference for line in lines]:
            raise MarketplaceError("InvalidLicenseException", "not active")

    submission.submit_due(ScriptedAws(script), now=NOON)
    calls = list(Submission.objects.order_by("pk"))
    assert len(calls) > 3
    trees = []
    for call in calls:
        tree = [texts(row) for row in panels(signed_in, call)["How it was halved"].table["rows"]]
        assert [row[0] for row in tree if "this one" in row[0]] == [f"#{call.pk}, this one"]
        trees.append([row[1:] for row in tree])
    assert all(tree == trees[0] for tree in trees)
    assert len(trees[0]) == len(calls)
    alone = poison.submission_lines.order_by("pk").last().submission
    assert "Compare the agreement&#x27;s license and dates" in signed_in.get(page_url(alone)).content.decode()


def test_a_call_that_was_never_halved_has_no_tree(signed_in, agreement):
    call = Submission.objects.create(token=1, record_count=1, started_at=NOON)
    SubmissionLine.objects.create(submission=call, record=make_record(agreement, NOON))
    assert "How it was halved" not in panels(signed_in, call)


def test_there_is_advice_for_what_is_open_and_none_for_what_is_settled():
    parked, accepted = MeteringRecord(state="parked"), MeteringRecord(state="accepted")
    for status in (
        "",
        "Unprocessed",
        "CustomerNotSubscribed",
        "DuplicateRecord",
        "InvalidTagException",
        "New",
    ):
        assert advice.of(status, parked)
        assert advice.of(status, accepted) == ""
    assert advice.of("Success", parked) == ""


# --- Time ranges and states


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-11-23T12:00", 12),
        ("2026-11-23T12:00:00+00:00", 12),
        ("2026-11-23T12:00:00Z", 12),
        ("2026-11-23T21:00+09:00", 12),
        ("2026-11-23", 0),
    ],
)
def test_an_instant_is_read_as_a_browser_or_a_link_writes_it(text, hour):
    assert instant_of(text) == NOON.replace(hour=hour)


@pytest.mark.parametrize("model", [UsageEvent, MeteringRecord])
def test_a_range_of_time_has_its_begin_and_not_its_end(signed_in, agreement, model):
    for number in range(3):
        record = make_record(agreement, NOON + number * HOUR)
        event = use(agreement, at=NOON + number * HOUR)
        UsageEvent.objects.filter(pk=event.pk).update(metering_record=record)
    field = "hour" if model is MeteringRecord else "occurred_at"
    asked = {f"{field}__gte": "2026-11-23T13:00", f"{field}__lt": "2026-11-23T14:00"}
    page = signed_in.get(list_url(model), asked)
    assert [getattr(row, field) for row in rows_of(page)] == [NOON + HOUR]
    assert 'value="2026-11-23T13:00"' in page.content.decode(), "The filter shows what is asked for."


def test_times_are_utc_whatever_zone_the_operator_lives_in(signed_in, operator, agreement):
    operator.time_zone = "Asia/Seoul"
    operator.save()
    make_record(agreement, NOON)
    page = signed_in.get(list_url(MeteringRecord, hour__gte="2026-11-23T12:00"))
    assert len(rows_of(page)) == 1
    assert "2026-11-23 12:00" in page.content.decode()
    assert "2026-11-23 21:00" not in page.content.decode()


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-11-23T99:00", "<b>", "0"])
def test_what_is_no_time_leads_back_to_the_whole_list(signed_in, db, text):
    response = signed_in.get(list_url(MeteringRecord), {"hour__gte": text})
    assert (response.status_code, response["Location"]) == (302, "/admin/billing/meteringrecord/?e=1")


def test_an_empty_range_is_no_range(signed_in, agreement):
    make_record(agreement, NOON)
    assert len(rows_of(signed_in.get(list_url(MeteringRecord), {"hour__gte": "", "hour__lt": ""}))) == 1


def test_answers_are_found_by_the_time_of_their_call(signed_in, agreement):
    record = make_record(agreement, NOON)
    lines = []
    for number in range(3):
        call = Submission.objects.create(token=1, record_count=1, started_at=NOON + number * HOUR)
        lines.append(SubmissionLine.objects.create(submission=call, record=record))
    since = {"submission__started_at__gte": "2026-11-23T13:00"}
    assert rows_of(signed_in.get(list_url(SubmissionLine), since)) == [lines[2], lines[1]]
    within = {**since, "submission__started_at__lt": "2026-11-23T13:30"}
    assert rows_of(signed_in.get(list_url(SubmissionLine), within)) == [lines[1]]
    assert (
        rows_of(signed_in.get(list_url(SubmissionLine), {"submission__started_at__lt": "2020-01-01"})) == []
    )


def test_records_are_found_by_one_state_or_by_several(signed_in, agreement):
    for number, state in enumerate(MeteringRecord.State):
        make_record(agreement, NOON - number * HOUR, state=state)
    for asked in (["due"], ["accepted"], ["due", "held"], ["void", "not_due"], list(MeteringRecord.State)):
        found = rows_of(signed_in.get(list_url(MeteringRecord, state__in=",".join(asked))))
        assert {row.state for row in found} == set(asked)
    assert [row.state for row in rows_of(signed_in.get(list_url(MeteringRecord, state__exact="parked")))] == [
        "parked"
    ]
    assert rows_of(signed_in.get(list_url(MeteringRecord, state__exact="nonsense"))) == []


def test_rows_are_found_by_their_product(signed_in, catalog, acme, agreement):
    other = make_agreement(catalog, acme, "reports-flex")
    mine, theirs = make_record(agreement, NOON), make_record(other, NOON)
    for record in (mine, theirs):
        product = record.agreement.product_id
        assert rows_of(signed_in.get(list_url(MeteringRecord, product=product))) == [record]
    assert signed_in.get(list_url(MeteringRecord, product="x")).status_code == 302


def test_a_range_keeps_the_other_filters_and_drops_the_page(signed_in, agreement):
    make_record(agreement, NOON)
    page = signed_in.get(list_url(MeteringRecord, agreement=agreement.pk, q="1", p=1)).content.decode()
    form = page.partition('type="datetime-local"')[0].rpartition("<form")[2]
    assert f'name="agreement" value="{agreement.pk}"' in form
    assert 'name="q"' in form
    assert 'name="p"' not in form


def test_a_list_is_called_on_its_page_as_in_the_sidebar(signed_in, agreement):
    for entry in signed_in.get("/admin/").context["sidebar_navigation"]:
        for item in entry["items"]:
            page = signed_in.get(item["link"])
            title = str(page.context["title"])
            assert title == str(item["title"]), f"{item['title']} is called {title}"
