"""What the audit trail's codes mean, for people. A code that is not here (a fork's own) is told as it is."""

from __future__ import annotations

from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

Words = str | Promise

ACTIONS_OF_PEOPLE: dict[str, Words] = {
    "organization_created": gettext_lazy("Organization created"),
    "organization_renamed": gettext_lazy("Organization renamed"),
    "organization_closed": gettext_lazy("Organization closed"),
    "member_added": gettext_lazy("Member added"),
    "member_removed": gettext_lazy("Member removed"),
    "role_changed": gettext_lazy("Role changed"),
    "invited": gettext_lazy("Invited"),
    "invited_again": gettext_lazy("Invited again"),
    "invitation_accepted": gettext_lazy("Invitation accepted"),
    "invitation_revoked": gettext_lazy("Invitation withdrawn"),
}
ACTIONS: dict[str, Words] = {
    "agreement_created": gettext_lazy("First heard of"),
    "buyer_arrived": gettext_lazy("Buyer arrived"),
    "claimed": gettext_lazy("Claimed"),
    "continues": gettext_lazy("Continues another"),
    "continued": gettext_lazy("Continued by another"),
    "inherited": gettext_lazy("Organization inherited"),
    "transferred": gettext_lazy("Moved to another organization"),
    "status_changed": gettext_lazy("Status changed"),
    "flagged": gettext_lazy("Flagged"),
    "flag_lowered": gettext_lazy("Flag lowered"),
    "switched_to_license": gettext_lazy("Switched to its license"),
    "entitlements_changed": gettext_lazy("Entitlements changed"),
    "entitlements_synced": gettext_lazy("Entitlements read at AWS"),
    "product_added": gettext_lazy("Product added"),
    "product_changed": gettext_lazy("Product changed"),
    "product_removed": gettext_lazy("Product removed"),
    "dimension_added": gettext_lazy("Dimension added"),
    "dimension_changed": gettext_lazy("Dimension changed"),
    "dimension_removed": gettext_lazy("Dimension removed"),
    "product_synced": gettext_lazy("All entitlements of a product read at AWS"),
    "submission_asked_for": gettext_lazy("Usage sent before its time"),
    "welcome_sent_again": gettext_lazy("Welcome sent again"),
    "flag_settled": gettext_lazy("Flag taken away by a person"),
    "linked_by_hand": gettext_lazy("Continues another, says a person"),
    "event_replayed": gettext_lazy("Event applied again"),
    "join_requested": gettext_lazy("Asked to join"),
    "join_answered": gettext_lazy("Request to join answered"),
    "hours_closed": gettext_lazy("Hours closed"),
    "usage_submitted": gettext_lazy("Usage sent to AWS"),
    "records_parked": gettext_lazy("Records refused by AWS"),
    "records_in_conflict": gettext_lazy("Records in conflict with AWS"),
    "records_expired": gettext_lazy("Records expired"),
    "records_retried": gettext_lazy("Records sent again"),
    "records_held": gettext_lazy("Records held"),
    "records_resumed": gettext_lazy("Records resumed"),
    "records_written_off": gettext_lazy("Records written off"),
    "records_voided": gettext_lazy("Records voided"),
    "usage_cancelled": gettext_lazy("Usage cancelled"),
    "usage_reopened": gettext_lazy("Usage reopened"),
    "usage_outside": gettext_lazy("Usage outside the agreement"),
    "usage_too_late": gettext_lazy("Usage too late"),
    "usage_written_off": gettext_lazy("Usage written off"),
    "late_usage_billed": gettext_lazy("Late usage billed"),
    "usage_set_aside": gettext_lazy("Usage set aside after a restore"),
    "usage_archived": gettext_lazy("Usage moved to the archive"),
    "ledger_restored": gettext_lazy("Restored from a backup"),
    "foreign_product_refused": gettext_lazy("Foreign product refused"),
    **ACTIONS_OF_PEOPLE,
    "signed_in": gettext_lazy("Signed in"),
    "signed_out": gettext_lazy("Signed out"),
    "sign_in_failed": gettext_lazy("Sign-in failed: wrong password"),
    "second_factor_failed": gettext_lazy("Second factor refused"),
    "second_factor_added": gettext_lazy("Second factor added"),
    "second_factor_removed": gettext_lazy("Second factor removed"),
    "second_factor_reset": gettext_lazy("Second factor reset"),
    "password_changed": gettext_lazy("Password changed"),
    "password_set": gettext_lazy("Password set for somebody else"),
    "account_made": gettext_lazy("Account made"),
    "account_closed": gettext_lazy("Account closed by its owner"),
    "access_changed": gettext_lazy("Access changed"),
    "group_changed": gettext_lazy("Group's permissions changed"),
    "group_deleted": gettext_lazy("Group deleted"),
    "exported": gettext_lazy("List exported"),
    "statement_exported": gettext_lazy("Statement exported"),
    "usage_report_imported": gettext_lazy("Usage report of AWS imported"),
    "heads_noted": gettext_lazy("Ends of the chains noted"),
    "heads_adopted": gettext_lazy("Ends of older chains adopted"),
    "links_removed": gettext_lazy("Exported links removed"),
}

_ACTORS: dict[str, Words] = {
    "aws": gettext_lazy("AWS"),
    "clock": gettext_lazy("The clock"),
    "product": gettext_lazy("Your product"),
    "visitor": gettext_lazy("A visitor"),  # nobody who has signed in
    "command": gettext_lazy("A command"),  # or a shell, on the server
}

_DETAILS: dict[str, Words] = {
    "user": gettext_lazy("person"),
    "users": gettext_lazy("people"),
    "organization": gettext_lazy("organization"),
    "agreement": gettext_lazy("agreement"),
    "before": gettext_lazy("before"),
    "after": gettext_lazy("after"),
    "reason": gettext_lazy("reason"),
    "flag": gettext_lazy("flagged because"),
    "product": gettext_lazy("product"),
    "dimension": gettext_lazy("dimension"),
    "key": gettext_lazy("API name"),
    "because": gettext_lazy("because of"),
    "changes": gettext_lazy("changes"),
    "records": gettext_lazy("metering records"),
    "events": gettext_lazy("uses"),
    "event": gettext_lazy("event"),
    "applied": gettext_lazy("applied as event"),
    "registration": gettext_lazy("arrival"),
    "request": gettext_lazy("request"),
    "approved": gettext_lazy("approved"),
    "invitation": gettext_lazy("invitation"),
    "role": gettext_lazy("role"),
    "kind": gettext_lazy("kind"),
    "group": gettext_lazy("group"),
    "groups": gettext_lazy("groups"),
    "permissions": gettext_lazy("permissions"),
    "user_permissions": gettext_lazy("permissions of their own"),
    "is_active": gettext_lazy("active"),
    "is_staff": gettext_lazy("staff"),
    "is_superuser": gettext_lazy("superuser"),
    "streams": gettext_lazy("streams"),
    "links": gettext_lazy("links"),
    "report": gettext_lazy("usage report"),
    "lines": gettext_lazy("lines"),
    "replaced": gettext_lazy("replaced"),
    "unmatched": gettext_lazy("of no purchase"),
    "month": gettext_lazy("month"),
    "until": gettext_lazy("until"),
    "code": gettext_lazy("AWS said"),
    "calls": gettext_lazy("calls"),
    "accepted": gettext_lazy("records accepted"),
    "stopped_by": gettext_lazy("stopped by"),
    "product_code": gettext_lazy("product code"),
}


def action(code: str) -> str:
    return str(ACTIONS.get(code) or code.replace("_", " ").capitalize())


def actor(code: str) -> str:
    """Of anything but a user, whom the rows of people name."""
    if code.startswith("job:"):
        return _("Job “%(name)s”") % {"name": code.removeprefix("job:").replace("_", " ")}
    return str(_ACTORS.get(code) or code)


def detail(name: str) -> str:
    return str(_DETAILS.get(name) or name.replace("_", " "))


def value(given: Any) -> str:
    if isinstance(given, bool):
        return _("yes") if given else _("no")
    if given is None:
        return _("nothing")
    if isinstance(given, dict):
        return ", ".join(f"{name}: {value(each)}" for name, each in given.items())
    if isinstance(given, list):
        return ", ".join(value(each) for each in given) or _("none")
    return str(given)
