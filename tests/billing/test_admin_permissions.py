"""The whole console for everybody: each address of each model × each role, generated from what is registered.

A model or an address that somebody adds is in it at once. What needs another parameter than those known here
fails until it is told.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Group
from django.db import models
from django.urls import URLPattern, reverse

from accounts.models import Organization, User
from billing import groups
from billing.admin.site import admin_site
from billing.models import Dimension, Product
from billing.repairs.known import REPAIRS
from tests.billing.repairing import in_group
from tests.billing.test_admin import make_story

NOBODY, ROOT = "", "root"
STAFF = [NOBODY, *groups.MORE, ROOT]
OWNERS = (groups.OWNER, ROOT)

# What is written in the console, and by whom; everything else is only read.
ADDED = {User, Group, Product, Dimension}
CHANGED = {User, Group, Product, Dimension, Organization}
DELETED = {Group, Product, Dimension}


def names_of(model_admin) -> Iterator[tuple[str, dict[str, str]]]:
    """Each address of a model's pages: its name, and the parameters it takes."""
    for pattern in model_admin.get_urls():
        if isinstance(pattern, URLPattern) and pattern.name is not None:
            yield pattern.name, dict.fromkeys(pattern.pattern.converters, "")


MODELS = sorted(admin_site._registry, key=lambda model: model._meta.label)


@pytest.fixture
def rows(acme):
    """A row of each model, as far as there is one. The group is none of ours, which nobody changes."""
    story = make_story(acme, number=1)
    return {model: story.get(model) or model._default_manager.first() for model in MODELS}


@pytest.fixture
def sign_in(client, make_user):
    def make(role):
        if role == ROOT:
            user = in_group(make_user, "", number=9)
            User.objects.filter(pk=user.pk).update(is_superuser=True)
        else:
            user = in_group(make_user, role)
        client.force_login(User.objects.get(pk=user.pk))

    return make


def address(model, name, rows):
    found = [taken for each, taken in names_of(admin_site._registry[model]) if each == name]
    key = str(rows[model].pk) if rows[model] is not None else "0"
    known = {"object_id": key, "id": key, "name": next(iter(REPAIRS)), "kind": "csv", "pk": key}
    unknown = set(found[0]) - set(known)
    assert not unknown, f"{name} takes {unknown}: say here what to ask it for."
    return reverse(f"admin:{name}", kwargs={parameter: known[parameter] for parameter in found[0]})


def is_about(name, *kinds):
    return name.rpartition("_")[2] in kinds and name != "auth_user_password_change"


def expected(model, name, role, row):
    """The status that the role must get; None where only "not 200 for who may nothing" is said."""
    is_reader = role != NOBODY
    if is_about(name, "add"):
        return 200 if role in OWNERS and model in ADDED else 403
    if row is None and not is_about(name, "changelist", "csv", "json"):
        return None
    if is_about(name, "delete"):
        return 200 if role in OWNERS and model in DELETED else 403
    if is_about(name, "changelist", "change", "history", "csv", "json"):
        return 200 if is_reader else 403
    return None


each_model = pytest.mark.parametrize("model", MODELS, ids=[model._meta.label for model in MODELS])


@each_model
def test_strangers_are_led_to_sign_in_and_buyers_are_refused(client, rows, acme_member, model):
    urls = [address(model, name, rows) for name, _ in names_of(admin_site._registry[model])]
    for url in urls:
        for method in (client.get, client.post):
            assert method(url)["Location"].startswith("/accounts/login/?next="), url
    client.force_login(acme_member)
    for url in urls:
        assert (client.get(url).status_code, client.post(url).status_code) == (403, 403), url


@each_model
def test_each_address_answers_as_the_role_demands(client, rows, sign_in, model):
    for role in STAFF:
        sign_in(role)
        for name, _ in names_of(admin_site._registry[model]):
            response = client.get(address(model, name, rows))
            demanded = expected(model, name, role, rows[model])
            if demanded is not None:
                assert response.status_code == demanded, f"{name} for {role or 'staff in no group'}"
            elif role == NOBODY:
                assert response.status_code in (302, 403, 404, 405), name
            if response.status_code == 200 and is_about(name, "change"):
                may_save = role in OWNERS and model in CHANGED
                assert (b'name="_save"' in response.content) == may_save, f"{name} for {role}"


@each_model
def test_what_is_only_read_is_not_written_by_anybody(client, rows, sign_in, model):
    row = rows[model]
    key, before = (row.pk, values(row)) if row is not None else (0, None)
    base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    attempts = {
        "add": (ADDED, reverse(f"{base}_add"), {}),
        "change": (CHANGED, reverse(f"{base}_change", args=[key]), {"_save": "1", "state": "void"}),
        "delete": (DELETED, reverse(f"{base}_delete", args=[key]), {"post": "yes"}),
    }
    bulk = {"action": "delete_selected", "_selected_action": [key], "post": "yes", "index": "0"}
    editable = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": key, "form-0-state": "void"}
    for role in STAFF:
        sign_in(role)
        for deed, (written, url, data) in attempts.items():
            if not (role in OWNERS and model in written):
                assert client.post(url, data).status_code == 403, f"{deed} for {role or 'staff in no group'}"
        if not (role in OWNERS and model in DELETED):
            client.post(reverse(f"{base}_changelist"), bulk)
            client.post(reverse(f"{base}_changelist"), {**editable, "_save": "1"})
        assert row is None or values(row) == before, role


def values(row: models.Model) -> dict[str, object]:
    return type(row)._default_manager.filter(pk=row.pk).values().get()


@pytest.mark.parametrize("role", STAFF)
def test_the_front_page_and_the_sidebar_name_only_what_the_role_may_see(client, rows, sign_in, role):
    sign_in(role)
    page = client.get("/admin/")
    assert page.status_code == 200
    for model in MODELS:
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        assert role != NOBODY or f'href="{url}' not in page.content.decode(), url


@pytest.mark.parametrize("role", STAFF)
def test_apps_that_the_role_may_not_see_have_no_page(client, sign_in, role):
    sign_in(role)
    for app in sorted({model._meta.app_label for model in MODELS}):
        status = client.get(reverse("admin:app_list", args=[app])).status_code
        assert status == (404 if role == NOBODY else 200)
