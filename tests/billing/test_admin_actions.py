"""Repairs in the console: what the page that asks says, who may press its button, and what it then does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core import signing
from django.test import Client
from django.utils import timezone

from billing import decisions
from billing.admin.actions import asking, wishes
from billing.admin.columns import list_url
from billing.aws.window import HOUR, hour_of
from billing.models import MarketplaceEvent, MeteringRecord, OperatorTask, Product, UsageEvent
from billing.repairs import running
from billing.repairs.known import REPAIRS
from tests.billing.arriving import at_once
from tests.billing.ledger import make_agreement, make_record
from tests.billing.repairing import REASON, ask, confirm, in_group, repair, token_of, trail
from tests.billing.test_admin import HOSTILE, page_url

LONG, ODD = "reason " * 2000, "\u202eتم الاتفاق 🤝 مع المشتري"


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme, activated_at=timezone.now() - timedelta(days=3))


@pytest.fixture
def billing_operator(client, make_user):
    user = in_group(make_user, "Billing operator")
    client.force_login(user)
    return user


@pytest.fixture
def owner(client, make_user):
    user = in_group(make_user, "Owner")
    client.force_login(user)
    return user


def records(agreement, *states, quantity=1):
    hour = hour_of(timezone.now())
    return [
        make_record(agreement, hour - n * HOUR, quantity, state=state) for n, state in enumerate(states, 1)
    ]


def state_of(row):
    row.refresh_from_db()
    return row.state


def text_of(page):
    return page.content.decode()


# --- The page that asks


def test_it_says_exactly_what_would_happen_and_what_not_and_why(
    client, billing_operator, catalog, acme, payg
):
    other = make_agreement(catalog, acme, activated_at=timezone.now() - timedelta(days=3))
    rows = records(payg, "parked", "parked", "accepted", quantity=600) + records(other, "parked", quantity=4)

    page = ask(client, "retry", *rows)

    assert page.context["foreseen"].amount == "3 records of 2 agreements: 1,204 pages"
    assert "1 row cannot be done" in text_of(page)
    assert "AWS has billed it" in text_of(page)
    assert page_url(rows[2]) in text_of(page)
    assert {state_of(row) for row in rows} == {"parked", "accepted"}, "It only asks."
    assert not OperatorTask.objects.exists()


@pytest.mark.parametrize("name", [name for name, each in REPAIRS.items() if each.model is MeteringRecord])
@pytest.mark.parametrize("state", MeteringRecord.State.values)
def test_what_it_foresees_is_what_is_done(client, billing_operator, payg, name, state):
    [row] = records(payg, state)
    page = ask(client, name, row)
    foreseen = page.context["foreseen"].decided
    decided = getattr(decisions, name)([row], by=billing_operator, reason=REASON, now=timezone.now())
    assert (foreseen.done, foreseen.unchanged, foreseen.refused) == (
        decided.done,
        decided.unchanged,
        decided.refused,
    )
    assert page.context["is_possible"] == bool(decided.done)


@pytest.mark.parametrize("reason", ["", "too short", " " * 30, LONG, "nul \x00 in the reason"])
def test_without_a_reason_nothing_is_done(client, billing_operator, payg, reason):
    [row] = records(payg, "parked")
    response = confirm(client, ask(client, "void", row), reason=reason)
    assert response.status_code == 200
    assert response.context["reason"].errors
    assert 'aria-describedby="id_reason_help id_reason_errors"' in text_of(response)
    assert (state_of(row), OperatorTask.objects.count()) == ("parked", 0)


@pytest.mark.parametrize("reason", [HOSTILE, ODD, "x" * 500])
def test_a_reason_may_be_anything_that_people_write(client, billing_operator, payg, reason):
    [row] = records(payg, "parked")
    response = confirm(client, ask(client, "void", row), reason=reason)
    page = client.get(response["Location"])
    assert OperatorTask.objects.get().reason == reason
    assert HOSTILE not in text_of(page)
    assert trail(payg)[0][2]["reason"] == reason


def test_the_row_whose_page_it_came_from_is_where_cancel_leads(client, billing_operator, payg):
    rows = records(payg, "parked", "parked")
    assert ask(client, "void", rows[0]).context["back"] == page_url(rows[0])
    assert ask(client, "void", *rows).context["back"] == list_url(MeteringRecord)


def test_nothing_answers_a_link(client, billing_operator, payg):
    for name in (*REPAIRS, "no_such_repair"):
        assert client.get(f"/admin/billing/operatortask/ask/{name}/").status_code == 405
    assert client.post("/admin/billing/operatortask/ask/no_such_repair/").status_code == 404


# --- Done


def test_a_short_repair_is_done_at_once_and_told(client, billing_operator, payg):
    rows = records(payg, "parked", "expired", "accepted")
    task = repair(client, "void", *rows)

    page = client.get(page_url(task))
    assert (task.state, task.done, task.unchanged, task.refused) == ("done", 2, 0, 1)
    assert [state_of(row) for row in rows] == ["void", "void", "accepted"]
    assert "AWS has billed it" in text_of(page)
    assert page_url(rows[2]) in text_of(page)
    assert "Refresh" not in page
    assert trail(payg) == [
        (
            f"user:{billing_operator.pk}",
            "records_voided",
            {"reason": REASON, "records": sorted(row.pk for row in rows[:2])},
        )
    ]


def test_pressing_twice_is_pressing_once(client, billing_operator, payg):
    [row] = records(payg, "parked")
    page = ask(client, "void", row)
    first, second = confirm(client, page), confirm(client, page, reason="another reason entirely")
    assert first["Location"] == second["Location"]
    assert OperatorTask.objects.get().reason == REASON
    assert len(trail(payg)) == 1


def test_a_row_that_changed_meanwhile_is_refused_and_told(client, billing_operator, payg):
    [row] = records(payg, "parked")
    page = ask(client, "write_off", row)
    MeteringRecord.objects.update(state="waiting")
    result = client.get(confirm(client, page)["Location"])
    assert state_of(row) == "waiting"
    assert "It has changed since you looked at it" in text_of(result)


def test_the_result_leads_back_to_the_rows(client, billing_operator, payg):
    rows = records(payg, "parked", "parked")
    page = client.get(page_url(repair(client, "void", *rows)))
    listed = client.get(page.context["rows_url"])
    assert {row.pk for row in listed.context["cl"].result_list} == {row.pk for row in rows}


def test_long_ones_are_handed_to_the_worker_and_show_how_far_they_are(
    client, billing_operator, payg, monkeypatch
):
    rung = []
    monkeypatch.setattr(asking.tasks, "ring", rung.append)
    monkeypatch.setattr(running, "SHORT", 1)
    rows = records(payg, "parked", "parked")
    page = ask(client, "void", *rows)
    assert "in the background" in text_of(page)

    response = confirm(client, page)

    assert rung == [asking.tasks.run_operator_tasks]
    waiting = client.get(response["Location"])
    assert waiting["Refresh"] == "3"
    assert "Waiting for the worker" in text_of(waiting)
    asking.tasks.run_operator_tasks()
    done = client.get(response["Location"])
    assert "Refresh" not in done
    assert [state_of(row) for row in rows] == ["void", "void"]


def test_everything_the_filters_leave_is_taken_up_to_a_bound(client, billing_operator, payg, monkeypatch):
    monkeypatch.setattr(asking, "MOST", 3)
    rows = records(payg, *["parked"] * 5, "accepted")
    page = client.post(
        f"{list_url(MeteringRecord)}?state__exact=parked",
        {"action": "repair_void", "select_across": "1", "index": "0", "_selected_action": [rows[0].pk]},
    )
    assert "first 3 of them" in text_of(page)
    assert page.context["foreseen"].amount.startswith("3 records of 1 agreement")
    confirm(client, page)
    assert sorted(state_of(row) for row in rows) == ["accepted", "parked", "parked", "void", "void", "void"]


def test_the_list_offers_them_to_those_who_may(client, make_user, payg):
    records(payg, "parked")
    offered = {}
    for group in ("", "Auditor", "Support", "Billing operator", "Owner"):
        client.force_login(in_group(make_user, group))
        page = client.get(list_url(MeteringRecord))
        offered[group] = page.status_code == 200 and "repair_void" in text_of(page)
    assert offered == {"": False, "Auditor": False, "Support": False, "Billing operator": True, "Owner": True}


def test_a_page_offers_what_fits_its_row(client, owner, payg):
    parked, accepted = records(payg, "parked", "accepted")
    for row, names in ((parked, ["Send again", "Void", "Write off"]), (accepted, [])):
        buttons = client.get(page_url(row)).context["row_repairs"]
        assert [str(button.title) for button in buttons] == names


# --- Of each kind, once through the pages


def test_an_event_is_applied_again(client, make_user, catalog):
    client.force_login(in_group(make_user, "Support"))
    event = MarketplaceEvent.objects.create(
        channel="eventbridge",
        source_id="1",
        kind="unparsable",
        occurred_at=timezone.now(),
        body="{",
        state="failed",
    )
    page = ask(client, "replay", event)
    assert not page.context["is_possible"]
    assert "cannot be read" in text_of(page)


def test_a_purchase_moves_to_the_workspace_whose_address_was_typed(client, owner, payg, outsider):
    page = ask(client, "transfer", payg)
    assert page.context["answers"] is not None
    for wrong in ("", "nowhere", "x" * 10_000, HOSTILE, "nul\x00"):
        page = confirm(client, page, reason=REASON, to=wrong)
        assert page.context["answers"].errors, wrong
        assert HOSTILE not in text_of(page)
    page = confirm(client, page, to="https://acme.example/o/other/")
    assert "To: Other (other)" in text_of(page)
    assert not OperatorTask.objects.exists()

    confirm(client, page)

    payg.refresh_from_db()
    assert payg.organization.slug == "other"
    assert OperatorTask.objects.get().parameters["to"] == "other"


def test_a_purchase_is_said_to_continue_another(client, owner, catalog, acme, payg):
    new = make_agreement(catalog, None, account=payg.customer.aws_account_id)
    assert repair(client, "link_renewal", new, continues=payg.agreement_id).done == 1
    new.refresh_from_db()
    assert (new.previous, new.organization) == (payg, acme)
    assert (f"user:{owner.pk}", "linked_by_hand") in [link[:2] for link in trail(new)]


def test_a_stranger_continues_nothing(client, owner, catalog, acme, outsider, payg):
    foreign = make_agreement(catalog, acme)
    page = confirm(client, ask(client, "link_renewal", foreign), continues=payg.license_arn)
    assert "neither continues the other" in text_of(page)
    assert not page.context["is_possible"]


def test_the_welcome_is_sent_again_once_while_it_is_on_its_way(client, owner, payg):
    assert repair(client, "resend_welcome", payg).done == 1
    page = ask(client, "resend_welcome", payg)
    assert not page.context["is_possible"]
    assert [effect.cause.partition(":")[0] for effect in payg.effects.all()] == ["buyer_welcome"]


def test_a_flag_is_taken_away_and_only_the_one_that_was_seen(client, owner, payg):
    def flag(reason):
        type(payg).objects.filter(pk=payg.pk).update(flagged_at=timezone.now(), flag_reason=reason)

    flag("AWS has issued an advisory.")
    page = ask(client, "settle_flag", payg)
    assert "AWS has issued an advisory." in text_of(page)
    flag("Something else.")
    confirm(client, page)
    payg.refresh_from_db()
    assert payg.flag_reason == "Something else."
    assert repair(client, "settle_flag", payg).done == 1
    payg.refresh_from_db()
    assert payg.flagged_at is None
    assert trail(payg)[-1][2] == {"reason": REASON, "flag": "Something else."}


def test_usage_that_came_too_late_is_counted_and_billed(client, billing_operator, payg):
    for number in range(3):
        UsageEvent.objects.create(
            organization=payg.organization,
            agreement=payg,
            dimension=payg.product.dimensions.get(key="pages"),
            quantity=500,
            occurred_at=timezone.now() - timedelta(hours=40),
            key=f"late-{number}",
            disposition="too_late",
        )
    page = ask(client, "bill_late_usage", *UsageEvent.objects.all())
    assert page.context["foreseen"].amount == "3 uses of 1 agreement: 1,500 pages"
    confirm(client, page)
    assert set(UsageEvent.objects.values_list("disposition", flat=True)) == {"billable"}


def test_what_asks_aws_never_does_so_within_the_request(client, billing_operator, catalog, payg):
    records(payg, "due", quantity=7)
    page = ask(client, "submit_now")
    assert page.context["foreseen"].amount == "1 record of 1 agreement: 7 pages"
    task = repair(client, "submit_now")
    assert (task.state, MeteringRecord.objects.get().state) == ("waiting", "due")
    task = repair(client, "walk_product", catalog["reports-team"])
    assert task.state == "waiting"


# --- Attacks


@pytest.mark.parametrize("name", list(REPAIRS))
def test_who_may_not_is_refused_before_anything_is_told(client, make_user, payg, name):
    [row] = records(payg, "parked")
    rows = {MeteringRecord: row, MarketplaceEvent: 1, UsageEvent: 1, Product: payg.product, None: ""}
    target = rows.get(REPAIRS[name].model, payg)
    for group in ("", "Auditor"):
        client.force_login(in_group(make_user, group))
        assert ask(client, name, target).status_code == 403
    client.force_login(payg.organization.members.get())
    assert ask(client, name, target).status_code == 403
    client.logout()
    assert ask(client, name, target)["Location"].startswith("/accounts/login/")


def test_a_right_that_is_taken_away_before_the_button_is_pressed_is_gone(client, billing_operator, payg):
    [row] = records(payg, "parked")
    page = ask(client, "void", row)
    billing_operator.groups.clear()
    assert confirm(client, page).status_code == 403
    assert (state_of(row), OperatorTask.objects.count()) == ("parked", 0)


def test_a_right_to_repair_is_no_right_to_see(client, make_user, payg):
    user = in_group(make_user, "")
    only = Group.objects.create(name="Only void")
    only.permissions.set(Group.objects.get(name="Owner").permissions.filter(codename="void_record"))
    user.groups.add(only)
    client.force_login(user)
    assert ask(client, "void", *records(payg, "parked")).status_code == 403


def test_who_repaired_sees_the_result_of_it_and_of_no_other(client, make_user, billing_operator, payg):
    rows = records(payg, "parked", "parked")
    task = repair(client, "void", rows[0])
    few = in_group(make_user, "")
    client.force_login(few)
    assert client.get(page_url(task)).status_code == 403
    OperatorTask.objects.update(asked_by=few)
    assert client.get(page_url(task)).status_code == 200
    assert client.get(list_url(OperatorTask)).status_code == 403


def test_a_page_made_by_another_for_another_repair_or_long_ago_does_nothing(
    client, billing_operator, make_user, payg, monkeypatch
):
    [row] = records(payg, "parked")
    page = ask(client, "void", row)
    token = token_of(page)
    wish = wishes.read(token, REPAIRS["void"], by=billing_operator)
    other = in_group(make_user, "Owner")
    with monkeypatch.context() as earlier:
        earlier.setattr(signing.time, "time", lambda: 0)
        old = wish.signed(billing_operator)
    altered = token[:-1] + ("E" if token.endswith("A") else "A")
    forged = [wish.signed(other), old, altered, "", signing.dumps({"r": {"parked": [row.pk]}})]
    for name, text in [("void", each) for each in forged] + [("write_off", token)]:
        client.post(f"/admin/billing/operatortask/ask/{name}/", {"token": text, "reason": REASON})
    assert (state_of(row), OperatorTask.objects.count()) == ("parked", 0)


@pytest.mark.parametrize("pks", [["0"], ["-1"], ["abc"], ["9" * 30], ["1 OR 1=1"], ["\x00"], ["٣"], []])
def test_rows_that_are_none_are_none(client, billing_operator, payg, pks):
    records(payg, "parked")
    response = client.post("/admin/billing/operatortask/ask/void/", {"row": pks})
    assert response["Location"] == list_url(MeteringRecord)
    assert not OperatorTask.objects.exists()


def test_another_site_cannot_press_the_button(make_user, payg):
    client = Client(enforce_csrf_checks=True)
    client.force_login(in_group(make_user, "Owner"))
    [row] = records(payg, "parked")
    assert ask(client, "void", row).status_code == 403
    assert state_of(row) == "parked"


@pytest.mark.django_db(transaction=True)
def test_two_operators_who_press_at_once_do_it_once(make_user, payg):
    rows = records(payg, *["parked"] * 4)

    def presses(number):
        client = Client()
        client.force_login(in_group(make_user, "Billing operator", number=number))
        page = ask(client, "void", *rows)
        return lambda: confirm(client, page).status_code

    assert at_once(*(presses(number) for number in range(3))) == [302, 302, 302]
    done = list(OperatorTask.objects.order_by("done").values_list("done", "unchanged", "refused"))
    assert sum(row[0] for row in done) == 4
    assert all(sum(row) == 4 for row in done)
    assert sum(len(link[2]["records"]) for link in trail(payg)) == 4


@pytest.mark.django_db(transaction=True)
def test_one_page_pressed_by_two_hands_is_one_repair(make_user, payg):
    [row] = records(payg, "parked")
    client = Client()
    client.force_login(in_group(make_user, "Billing operator"))
    page = ask(client, "void", row)
    answers = at_once(*(lambda: confirm(client, page)["Location"] for _ in range(4)))
    assert len(set(answers)) == 1, answers
    assert OperatorTask.objects.get().done == 1


def test_the_page_that_asks_takes_few_queries(client, billing_operator, payg, django_assert_max_num_queries):
    rows = records(payg, *["parked"] * 20, *["accepted"] * 20)
    with django_assert_max_num_queries(16):
        ask(client, "void", *rows)
