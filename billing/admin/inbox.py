"""What AWS told us, as it came, and what that owed the world."""

from __future__ import annotations

import json

from django.contrib import admin

from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import badge, block, bought, text_block, when
from billing.admin.site import admin_site
from billing.admin.tones import EFFECT_STATE, EVENT_STATE
from billing.models import Effect, MarketplaceEvent


@admin.display(description="payload")
def _payload(row: MarketplaceEvent) -> str:
    return block(json.dumps(row.payload, indent=2, sort_keys=True, ensure_ascii=False))


@admin.register(MarketplaceEvent, site=admin_site)
class MarketplaceEventAdmin(ReadOnlyAdmin):
    list_display = (
        when("occurred_at", "at"),
        "kind",
        "channel",
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
            "state",
            ("attempts", when("next_attempt_at", "next attempt")),
            text_block("error"),
        ),
        "As understood": (_payload,),
        "As received": (text_block("body"),),
    }
    folded = ("As understood", "As received")


@admin.register(Effect, site=admin_site)
class EffectAdmin(ReadOnlyAdmin):
    list_display = (
        when("due_at", "due"),
        "kind",
        bought(),
        badge("state", EFFECT_STATE),
        "attempts",
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
            text_block("error"),
        ),
    }
