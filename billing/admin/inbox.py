"""What AWS told us, as it came, and what that owed the world."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from billing.admin.actions.attached import WithRepairs
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import badge, block, bought, choice, text, text_block, when
from billing.admin.filters import Between
from billing.admin.site import admin_site
from billing.admin.tones import EFFECT_STATE, EVENT_CHANNEL, EVENT_STATE
from billing.models import Effect, MarketplaceEvent


@admin.display(description=_("payload"))
def _payload(row: MarketplaceEvent) -> str:
    return block(json.dumps(row.payload, indent=2, sort_keys=True, ensure_ascii=False))


@admin.register(MarketplaceEvent, site=admin_site)
class MarketplaceEventAdmin(WithRepairs, ReadOnlyAdmin):  # type: ignore[misc]  # unfold's own mixins differ
    repairs = ("replay",)
    list_display = (
        when("occurred_at", _("at")),
        text("kind", _("event")),
        badge("channel", EVENT_CHANNEL, _("channel")),
        bought(),
        badge("state", EVENT_STATE, _("state")),
        text("error", _("error")),
        when("received_at", _("received")),
    )
    list_select_related = ("agreement__product", "agreement__customer", "agreement__organization")
    list_filter = (
        "state",
        "channel",
        "agreement__product",
        ("occurred_at", Between),
        ("received_at", Between),
    )
    search_agreement = "agreement"
    search_fields = ("source_id__exact",)
    export_more = ("error",)
    search_help_text = _(
        "AWS's event or message id, AWS account, license, agreement id, organization or e-mail"
    )
    sections = {
        "": (
            (text("kind", _("event")), bought()),
            (when("occurred_at", _("at")), when("received_at", _("received"))),
            (choice("channel", _("channel")), text("source_id", _("id at AWS"))),
            (choice("state", _("state")), when("alarmed_at", _("people were told that it waits"))),
            (text("attempts", _("attempts")), when("next_attempt_at", _("next attempt"))),
            text_block("error", _("error")),
        ),
        _("The purchase that it names"): (
            (text("license_id", _("license")), text("aws_agreement_id", _("agreement id"))),
            text("customer_identifier", _("legacy customer identifier")),
        ),
        _("As understood"): (_payload,),
        _("As received"): (text_block("body", _("body")),),
    }
    folded = (_("As understood"), _("As received"))

    def search_by(self, term: str) -> Q:
        # Of events that wait for their purchase these columns are indexed; the others are found through it.
        names = Q(license_id=term) | Q(aws_agreement_id=term) | Q(customer_identifier=term)
        return Q(state__in=(MarketplaceEvent.State.RECEIVED, MarketplaceEvent.State.WAITING)) & names


@admin.register(Effect, site=admin_site)
class EffectAdmin(ReadOnlyAdmin):
    list_display = (
        when("due_at", _("due")),
        choice("kind", _("what")),
        bought(),
        badge("state", EFFECT_STATE, _("state")),
        text("attempts", _("attempts")),
        text("outcome", _("outcome")),
        text("error", _("error")),
        when("done_at", _("done")),
    )
    list_select_related = ("agreement__product", "agreement__customer", "agreement__organization")
    list_filter = ("state", "kind", ("due_at", Between))
    search_agreement = "agreement"
    search_help_text = _("AWS account, license, agreement id, organization or e-mail")
    export_more = ("agreement__license_id", "agreement__agreement_id", "error")
    sections = {
        "": (
            (choice("kind", _("what")), bought()),
            (choice("state", _("state")), text("attempts", _("attempts"))),
            (when("due_at", _("due")), when("done_at", _("done"))),
            (when("caused_at", _("caused at")), when("created_at", _("owed since"))),
            text("cause", _("because of")),
            text("outcome", _("outcome")),
            text_block("error", _("error")),
        ),
    }
