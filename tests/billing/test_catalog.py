"""The catalog file: read again without harm, or refused whole with the place of the mistake."""

from __future__ import annotations

import json
import threading
import time
from copy import deepcopy
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import transaction
from django.urls import reverse

from billing import events
from billing.models import Agreement, Dimension, MarketplaceEvent, Product
from tests.billing.arriving import at_once
from tests.billing.ledger import NOON, make_agreement
from tests.billing.notices import created, deprovisioned, eventbridge, license_updated, message, sns
from tests.billing.stage import HOUR, take

CATALOG = json.loads(settings.MARKETPLACE_CATALOG.read_text())
ROWS = ("product__code", "key", "label", "unit", "kind", "included_by__key", "allowance_period")


def load(tmp_path, catalog, *options) -> str:
    file = tmp_path / "catalog.json"
    file.write_bytes(catalog if isinstance(catalog, bytes) else json.dumps(catalog).encode())
    out = StringIO()
    call_command("load_catalog", str(file), *options, stdout=out)
    return out.getvalue()


def changed(**changes) -> dict:
    """The catalog with a change to its first product, or with ``part`` to its second dimension."""
    catalog = deepcopy(CATALOG)
    part = changes.pop("part", {})
    catalog["products"][0].update(changes)
    if part:
        catalog["products"][0]["dimensions"][1].update(part)
    return catalog


@pytest.mark.django_db
def test_the_default_file_is_loaded():
    out = StringIO()
    call_command("load_catalog", stdout=out)

    assert "reports-flex: 2 dimensions" in out.getvalue()
    assert Product.objects.count() == 4
    assert (
        Dimension.objects.get(product__code="reports-flex", key="pages").included_by.key == "included_pages"
    )


@pytest.mark.django_db
def test_the_projects_own_catalog_is_sound():
    call_command("load_catalog", str(settings.BASE_DIR / "marketplace_saas/catalog.json"), stdout=StringIO())

    assert Product.objects.exists()


@pytest.mark.django_db
def test_what_is_no_longer_listed_goes_if_nobody_ever_had_it(tmp_path, acme):
    load(tmp_path, CATALOG)
    catalog = deepcopy(CATALOG)
    catalog["products"] = catalog["products"][:1]
    catalog["products"][0]["dimensions"] = catalog["products"][0]["dimensions"][:1]
    flex = catalog["products"][0]["code"]
    sold, unsold = sorted(entry["code"] for entry in CATALOG["products"] if entry["code"] != flex)[:2]
    agreement = make_agreement({each.code: each for each in Product.objects.all()}, acme, sold)
    before = Product.objects.count()
    load(tmp_path, catalog)
    assert Product.objects.count() == before, "Only --prune removes."

    told = load(tmp_path, catalog, "--prune")
    assert set(Product.objects.values_list("code", flat=True)) == {flex, sold}
    assert f"removed {unsold}\n" in told
    assert f"removed {sold}\n" not in told
    assert f"removed {flex}: pages\n" in told
    agreement.refresh_from_db()
    assert "removed" not in load(tmp_path, catalog, "--prune")


@pytest.mark.django_db
def test_loading_twice_changes_nothing(tmp_path):
    load(tmp_path, CATALOG)
    before = list(Dimension.objects.values_list("pk", *ROWS)), list(Product.objects.values())

    load(tmp_path, CATALOG)

    assert (list(Dimension.objects.values_list("pk", *ROWS)), list(Product.objects.values())) == before


@pytest.mark.django_db
def test_what_changed_in_the_file_changes_in_the_database_and_nothing_is_removed(tmp_path):
    load(tmp_path, CATALOG)
    keys = Product.objects.in_bulk(field_name="code")
    update = changed(
        title="New title", part={"label": "Sheets", "allowance_period": "month", "included_by": None}
    )
    del update["products"][3], update["products"][0]["dimensions"][0]

    load(tmp_path, update)

    flex = Product.objects.get(code="reports-flex")
    pages = flex.dimensions.get(key="pages")
    assert (flex.pk, flex.title) == (keys["reports-flex"].pk, "New title")
    assert (pages.label, pages.allowance_period, pages.included_by) == ("Sheets", "month", None)
    assert flex.dimensions.filter(key="included_pages").exists()
    assert Product.objects.count() == 4


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("catalog", "complaint"),
    [
        (b"{", "Expecting property name"),
        (b'"\xff"', "can't decode"),
        (b"[" * 100_000, "recursion"),
        ([], "not an object"),
        ({}, "not an object"),
        ({"products": {}}, "products: is not a list"),
        ({"products": ["x"]}, "products[0]: is not an object"),
        ({"products": [{}]}, "products[0].code: is missing"),
        ({"products": [{"code": "x"}]}, "products[0].product_id: is missing"),
        ({"products": [*CATALOG["products"], CATALOG["products"][1]]}, "products[4].code: 'reports-team' is"),
        (changed(code=None), "products[0].code: is not text"),
        (changed(code="white space"), "products[0].code: Enter a valid value"),
        (changed(code=""), "products[0].code: This field cannot be blank"),
        (changed(title=5), "products[0].title: is not text"),
        (changed(title="\x00"), "products[0].title: is not text"),
        (changed(title="a" * 201), "products[0].title: Ensure this value has at most 200"),
        (changed(pricing="free"), "products[0].pricing: Value 'free' is not a valid choice"),
        (changed(product_id="prod-acmeteam00001"), "products[1].product_id: Product with this"),
        (changed(dimensions={}), "products[0].dimensions: is not a list"),
        (changed(dimensions=[None]), "products[0].dimensions[0]: is not an object"),
        (changed(dimensions=[{"key": "x"}]), "products[0].dimensions[0].kind: is missing"),
        (changed(part={"key": "included_pages"}), "products[0].dimensions[1].key: 'included_pages' is"),
        (changed(part={"kind": "billed"}), "products[0].dimensions[1].kind: Value 'billed' is not"),
        (changed(part={"kind": 1}), "products[0].dimensions[1].kind: is not text"),
        (changed(part={"label": ""}), "products[0].dimensions[1].label: This field cannot be blank"),
        (changed(part={"unit": None}), "products[0].dimensions[1].unit: is not text"),
        (changed(part={"allowance_period": "year"}), "products[0].dimensions[1].allowance_period: Value"),
        (changed(part={"included_by": "pages"}), "products[0].dimensions[1].included_by: 'pages' is no"),
        (changed(part={"included_by": "nothing"}), "products[0].dimensions[1].included_by: 'nothing' is no"),
        (changed(part={"kind": "entitled"}), "products[0].dimensions[1]: Constraint"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_whole_with_the_place_of_the_mistake(tmp_path, catalog, complaint):
    with pytest.raises(CommandError) as refused:
        load(tmp_path, catalog)

    assert complaint in str(refused.value)
    assert str(tmp_path / "catalog.json") in str(refused.value)
    assert not Product.objects.exists()


@pytest.mark.django_db
def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CommandError, match="nowhere.json"):
        call_command("load_catalog", str(tmp_path / "nowhere.json"))


# --- What was heard of a product before it was in the catalog


def states() -> dict[str, str]:
    return dict(MarketplaceEvent.objects.values_list("source_id", "state"))


@pytest.mark.django_db
def test_a_purchase_told_of_before_its_product_was_loaded_becomes_active(tmp_path):
    take(license_updated(NOON, product="reports-payg"), created(NOON))
    take(sns("subscribe-success", NOON, product="reports-classic"))
    load(tmp_path, CATALOG)
    assert not Agreement.objects.exists()

    events.apply_received(now=NOON + HOUR)

    assert set(states().values()) == {"applied"}
    assert set(Agreement.objects.values_list("product__code", "status", "activated_at")) == {
        ("reports-payg", "active", NOON),
        ("reports-classic", "active", NOON),
    }


@pytest.mark.django_db
def test_a_product_that_is_made_in_the_console_opens_its_events_too(client, operator):
    take(license_updated(NOON, product="reports-payg"), created(NOON))
    client.force_login(operator)
    entry = next(each for each in CATALOG["products"] if each["code"] == "reports-payg")
    made = {name: entry[name] for name in ("code", "product_id", "title", "pricing")}
    assert client.post(reverse("admin:billing_product_add"), made).status_code == 302
    events.apply_received(now=NOON + HOUR)
    assert set(states().values()) == {"applied"}


@pytest.mark.django_db
def test_events_of_other_sellers_stay_foreign_and_silent(tmp_path, caplog):
    take(license_updated(NOON, product="somebody-elses", source_id="theirs"))
    take(deprovisioned(NOON, product="reports-payg", source_id="ours"))
    load(tmp_path, CATALOG)
    assert states() == {"theirs": "foreign", "ours": "received"}
    assert caplog.records == []


@pytest.mark.django_db
def test_what_names_a_product_by_its_id_alone_is_looked_at_again_when_the_id_is_mended(tmp_path):
    load(tmp_path, changed(product_id="prod-mistyped"))
    product_id = CATALOG["products"][0]["product_id"]
    body = json.loads(eventbridge("Purchase Agreement Created - Proposer", NOON, source_id="renewal"))
    body["detail"]["product"] = {"id": product_id}
    take(json.dumps(body))
    load(tmp_path, changed(product_id="prod-mistyped"))
    assert states() == {"renewal": "foreign"}

    load(tmp_path, CATALOG)

    assert states() == {"renewal": "received"}
    events.apply_received(now=NOON + HOUR)
    assert states() == {"renewal": "waiting"}


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_an_event_that_is_applied_while_its_product_is_loaded_is_not_lost(tmp_path):
    event = events.store(message(license_updated(NOON, product="reports-flex")), now=NOON)
    is_held = threading.Event()

    def settle():
        with transaction.atomic():
            events.apply(event.pk, now=NOON)
            is_held.set()
            time.sleep(0.5)  # the catalog is loaded meanwhile

    def load_meanwhile():
        is_held.wait(10)
        load(tmp_path, CATALOG)

    assert at_once(settle, load_meanwhile)[0] is None
    event.refresh_from_db()
    assert event.state == "received"


@pytest.mark.django_db
def test_a_file_that_is_refused_opens_no_event_again(tmp_path):
    take(license_updated(NOON, product="reports-flex", source_id="ours"))
    with pytest.raises(CommandError):
        load(tmp_path, changed(part={"label": ""}))
    assert states() == {"ours": "foreign"}
