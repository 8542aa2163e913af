"""What is for sale changes what is billed: who changed it is on the audit trail."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command
from django.urls import reverse

from billing import audit
from billing.admin.columns import list_url
from billing.models import AuditEvent, Dimension, Product
from tests.billing.test_admin import page_url
from tests.billing.trails import found

pytestmark = pytest.mark.django_db


def trail():
    return list(AuditEvent.objects.filter(stream=audit.SYSTEM).order_by("sequence"))


def load(tmp_path, catalog):
    file = tmp_path / "catalog.json"
    file.write_text(json.dumps(catalog))
    call_command("load_catalog", str(file), stdout=StringIO())


def test_a_catalog_is_told_once_and_then_only_what_differs(tmp_path):
    catalog = json.loads(settings.MARKETPLACE_CATALOG.read_text())
    load(tmp_path, catalog)
    first = trail()
    actions = [link.action for link in first]
    assert actions.count("product_added") == Product.objects.count() > 1
    assert actions.count("dimension_added") == Dimension.objects.count() > 1
    assert {link.actor for link in first} == {"command"}

    load(tmp_path, catalog)
    assert trail() == first

    dimension = Dimension.objects.get(product__code="reports-flex", key="pages")
    for product in catalog["products"]:
        for part in product["dimensions"]:
            if (product["code"], part["key"]) == ("reports-flex", "pages"):
                part["included_by"] = None
                part["label"] = "Sheets"
    load(tmp_path, catalog)
    (link,) = trail()[len(first) :]
    assert (link.action, link.data) == (
        "dimension_changed",
        {
            "product": dimension.product_id,
            "dimension": dimension.pk,
            "key": "pages",
            "before": {"label": dimension.label, "included_by": "included_pages"},
            "after": {"label": "Sheets", "included_by": None},
        },
    )
    assert found() == []


def test_a_refused_file_is_told_nothing_of(tmp_path):
    catalog = json.loads(settings.MARKETPLACE_CATALOG.read_text())
    catalog["products"][-1]["pricing"] = "free"
    with pytest.raises(Exception, match="pricing"):
        load(tmp_path, catalog)
    assert trail() == []


def test_a_person_who_edits_it_in_the_console_is_named(client, operator, catalog):
    client.force_login(operator)
    product = catalog["reports-flex"]
    page = reverse("admin:billing_product_change", args=[product.pk])
    answer = client.post(page, {"title": "Reports, better", "pricing": product.pricing})
    assert answer.status_code == 302, answer.content.decode()
    assert client.post(page, {"title": "Reports, better", "pricing": product.pricing}).status_code == 302

    (link,) = trail()
    assert (link.actor, link.action) == (f"user:{operator.pk}", "product_changed")
    assert link.data["before"] == {"title": product.title}
    assert link.data["after"] == {"title": "Reports, better"}
    shown = client.get(list_url(AuditEvent)).content.decode()
    for words in ("Product changed", "Olga", page_url(product), "before: title: "):
        assert words in shown


def test_what_is_removed_keeps_its_name_on_the_trail(catalog):
    spare = Dimension.objects.create(
        product=catalog["reports-flex"], key="spare", label="Spare", kind=Dimension.Kind.ENTITLED
    )
    pk = spare.pk
    spare.delete()
    added, removed = trail()
    assert (added.action, removed.action) == ("dimension_added", "dimension_removed")
    assert removed.data["key"] == "spare"
    assert removed.data["dimension"] == pk
    assert removed.data["before"]["label"] == "Spare"
