"""What AWS told us, as it came, and what that owed the world."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import Q

from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import badge, block, bought, text, text_block, when
from billing.admin.site import admin_site
from billing.admin.tones import EFFECT_STATE, EVENT_CHANNEL, EVENT_STATE
from billing.models import Effect, MarketplaceEvent


@admin.display(description="payload")
def _payload(row: MarketplaceEvent) -> str:
    return block(json.dumps(row.payload, indent=2, sort_keys=True, ensure_ascii=False))


@admin.register(MarketplaceEvent, site=admin_site)
class MarketplaceEventAdmin(ReadOnlyAdmin):
    list_display = (
        when("occurred_at", "at"),
        "kind",
        badge("channel", EVENT_CHANNEL),
        bought(),
        badge("state", EVENT_STATE),
        "error",
        when("received_at", "received"),
    )
    list_select_related = ("agreement__product", "agreement__customer", "agreement__organization")
    list_filter = ("state", "channel", "agreement__product", "occurred_at", "received_at")
    search_agreement = "agreement"
    search_fields = ("source_id__exact",)
    search_help_text = "AWS's event or message id, AWS account, license, agreement id, or a member's e-mail"
    sections = {
        "": (
            ("kind", bought()),
            (when("occurred_at", "at"), when("received_at", "received")),
            ("channel", "source_id"),
            ("state", when("alarmed_at", "people were told that it waits")),
            ("attempts", when("next_attempt_at", "next attempt")),
            text_block("error"),
        ),
        "The purchase that it names": (
            (text("license_id", "license"), text("aws_agreement_id", "agreement id")),
            text("customer_identifier", "legacy customer identifier"),
        ),
        "As understood": (_payload,),
        "As received": (text_block("body"),),
    }
    folded = ("As understood", "As received")

    def search_by(self, term: str) -> Q:
        # Of events that wait for their purchase these columns are indexed; the others are found through it.
        names = Q(license_id=term) | Q(aws_agreement_id=term) | Q(customer_identifier=term)
        return Q(state__in=(MarketplaceEvent.State.RECEIVED, MarketplaceEvent.State.WAITING)) & names


@admin.register(Effect, site=admin_site)
class EffectAdmin(ReadOnlyAdmin):
    list_display = (
        when("due_at", "due"),
        "kind",
        bought(),
        badge("state", EFFECT_STATE),
        "attempts",
        "outcome",
        "error",
        when("done_at", "done"),
    )
    list_select_related = ("agreement__product", "agreement__customer", "agreement__organization")
    list_filter = ("state", "kind", "due_at")
    search_agreement = "agreement"
    search_fields = ("agreement__license_id__exact",)
    search_help_text = "AWS account, license, agreement id, or a member's e-mail"
    sections = {
        "": (
            ("kind", bought()),
            ("state", "attempts"),
            (when("due_at", "due"), when("done_at", "done")),
            (when("caused_at", "caused at"), when("created_at", "owed since")),
            "cause",
            "outcome",
            text_block("error"),
        ),
    }
