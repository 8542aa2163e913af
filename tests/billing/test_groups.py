"""The four groups of the seller's staff: made by migrate, kept current, others left alone."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command

from billing import groups
from billing.models import AuditEvent
from billing.models.operator_tasks import PERMISSIONS
from tests.billing.repairing import in_group
from tests.billing.test_admin import list_url, page_url, submit

CUSTOM = {codename for codename, _ in PERMISSIONS}


def held(name):
    return set(Group.objects.get(name=name).permissions.values_list("codename", flat=True))


@pytest.mark.django_db
def test_everybody_sees_everything_of_people_and_billing():
    seen = set(
        Permission.objects.filter(
            content_type__app_label__in=["accounts", "billing"], codename__startswith="view_"
        ).values_list("codename", flat=True)
    )
    assert len(seen) > 15
    for name in groups.MORE:
        assert seen <= held(name)


@pytest.mark.django_db
def test_each_group_may_what_the_one_before_it_may_and_more():
    support = {"sync_entitlements", "replay_event", "resend_mail", "settle_flag", "link_renewal"}
    billing = {
        "submit_usage", "retry_record", "hold_record", "void_record", "write_off", "bill_late_usage",
    }  # fmt: skip
    assert held("Auditor") & CUSTOM == set()
    assert held("Support") & CUSTOM == support
    assert held("Billing operator") & CUSTOM == support | billing
    assert held("Owner") & CUSTOM == CUSTOM


@pytest.mark.django_db
def test_nobody_but_the_owners_edits_anything():
    for name in ("Auditor", "Support", "Billing operator"):
        assert {
            codename for codename in held(name) if codename.startswith(("add_", "change_", "delete_"))
        } == set()
    of_aws = {
        f"{deed}_{model}"
        for deed in ("add", "change", "delete")
        for model in (
            "agreement",
            "meteringrecord",
            "usageevent",
            "marketplaceevent",
            "auditevent",
            "submission",
        )
    }
    assert not held("Owner") & of_aws


@pytest.mark.django_db
def test_what_was_changed_in_a_group_of_ours_is_set_back_and_told():
    auditor, own = Group.objects.get(name="Auditor"), Group.objects.create(name="Our auditors")
    before = held("Auditor")
    void = Permission.objects.get(codename="void_record")
    for group in (auditor, own):
        group.permissions.set([void])
    Group.objects.get(name="Support").delete()

    groups.bring_up_to_date()

    assert held("Auditor") == before
    assert held("Our auditors") == {"void_record"}
    assert "replay_event" in held("Support")
    told = AuditEvent.objects.filter(stream="staff", action="group_changed", data__group=auditor.pk)
    assert told.exists()


@pytest.mark.django_db
def test_bringing_up_to_date_what_is_so_changes_nothing(django_assert_max_num_queries):
    links = AuditEvent.objects.count()
    with django_assert_max_num_queries(24):
        groups.bring_up_to_date()
    assert AuditEvent.objects.count() == links


@pytest.mark.django_db(transaction=True)
def test_migrate_makes_them():
    Group.objects.all().delete()
    call_command("migrate", verbosity=0)
    assert set(Group.objects.values_list("name", flat=True)) == set(groups.MORE)


def test_who_owns_manages_staff_but_makes_nobody_a_superuser(client, make_user, acme_member):
    owner, root = (
        in_group(make_user, "Owner"),
        make_user("root@seller.example", is_superuser=True, is_staff=True),
    )
    client.force_login(owner)

    support = Group.objects.get(name="Support")
    changes = {
        "name": "Bo",
        "is_active": "on",
        "is_staff": "on",
        "is_superuser": "on",
        "groups": [support.pk],
    }
    submit(client, page_url(acme_member), **changes)
    acme_member.refresh_from_db()
    assert (acme_member.is_staff, acme_member.is_superuser) == (True, False)
    assert list(acme_member.groups.all()) == [support]

    assert client.post(page_url(root), {"is_active": ""}).status_code == 403
    assert client.post(f"/admin/accounts/user/{root.pk}/password/", {}).status_code == 403


def test_a_group_of_ours_is_shown_and_not_edited(client, make_user):
    client.force_login(in_group(make_user, "Owner"))
    ours, own = Group.objects.get(name="Auditor"), Group.objects.create(name="Our auditors")

    assert client.get(page_url(ours)).status_code == 200
    assert client.post(page_url(ours), {"name": "Mine", "permissions": []}).status_code == 403
    assert client.post(page_url(ours, "delete"), {"post": "yes"}).status_code == 403
    client.post(list_url(Group), {"action": "delete_selected", "_selected_action": [ours.pk], "post": "yes"})
    assert "view_agreement" in held("Auditor")
    assert client.post(page_url(own, "delete"), {"post": "yes"}).status_code == 302
