"""What the rows of an agreement's history mean, in plain words: for people who answer buyers.

A fork that audits something of its own needs to add nothing here: what is not known is told in its own words.
What the rows themselves hold, causes and reasons, is told as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy, pgettext_lazy

from billing.models import Agreement, AuditEvent, Effect, Entitlement, MarketplaceEvent, MeteringRecord

Inbox = MarketplaceEvent.State
Channel = MarketplaceEvent.Channel
Kind = Effect.Kind
Record = MeteringRecord.State

# What comes later than this after it was said is told with both instants.
PROMPT = timedelta(minutes=1)

_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(?:\.\d+)?(?:\+00:00|Z)")
_LONGEST_VALUE = 60  # of a text that AWS sent as an entitlement's value

_STATUS_TONES: dict[str, str] = {
    Agreement.Status.ACTIVE: "success",
    Agreement.Status.ENDING: "warning",
    Agreement.Status.FAILED: "danger",
}
_EVENT_TONES: dict[str, str] = {
    Inbox.RECEIVED: "warning",
    Inbox.WAITING: "warning",
    Inbox.UNKNOWN: "danger",
    Inbox.FAILED: "danger",
}
_SPEAKERS = {
    Channel.CLOCK.value: gettext_lazy("The clock"),
    Channel.READING.value: gettext_lazy("Read at AWS"),
}
_ACTORS = {
    "aws": gettext_lazy("AWS"),
    "clock": gettext_lazy("the clock"),
    "product": gettext_lazy("your product"),
}
_ADDRESSEES = {
    "buyer": gettext_lazy("Mail to the buyer: %(about)s"),
    "seller": gettext_lazy("Mail to the seller: %(about)s"),
}
_RECORDS_NEED_A_PERSON = (Record.PARKED, Record.CONFLICT, Record.EXPIRED)
_RECORDS_WAIT = (Record.IN_DOUBT, Record.WAITING, Record.HELD)
_RECORDS_ARE_WELL = (Record.ACCEPTED, Record.NOT_DUE)

# Of whole groups of rows: what became of them, and how it stands.
_OF_RECORDS = {
    "records_retried": (
        ngettext_lazy(
            "%(count)d metering record sent again", "%(count)d metering records sent again", "count"
        ),
        "info",
    ),
    "records_held": (
        ngettext_lazy("%(count)d metering record held back", "%(count)d metering records held back", "count"),
        "info",
    ),
    "records_resumed": (
        ngettext_lazy(
            "%(count)d metering record no longer held back",
            "%(count)d metering records no longer held back",
            "count",
        ),
        "info",
    ),
    "records_written_off": (
        ngettext_lazy(
            "%(count)d metering record written off", "%(count)d metering records written off", "count"
        ),
        "info",
    ),
    "records_voided": (
        ngettext_lazy("%(count)d metering record voided", "%(count)d metering records voided", "count"),
        "info",
    ),
    "records_expired": (
        ngettext_lazy(
            "%(count)d metering record missed AWS's window: no acceptance came in time",
            "%(count)d metering records missed AWS's window: no acceptance came in time",
            "count",
        ),
        "danger",
    ),
}
_OF_USES = {
    "usage_reopened": (
        ngettext_lazy(
            "%(count)d use taken back in: the agreement began or ended at another time than was known",
            "%(count)d uses taken back in: the agreement began or ended at another time than was known",
            "count",
        ),
        "info",
    ),
    "usage_outside": (
        ngettext_lazy(
            "%(count)d use cannot be billed: the agreement was never active",
            "%(count)d uses cannot be billed: the agreement was never active",
            "count",
        ),
        "danger",
    ),
    "usage_too_late": (
        ngettext_lazy(
            "%(count)d use cannot be billed: they came after the last hour",
            "%(count)d uses cannot be billed: they came after the last hour",
            "count",
        ),
        "danger",
    ),
    "usage_written_off": (
        ngettext_lazy("%(count)d use written off", "%(count)d uses written off", "count"),
        "info",
    ),
    "usage_set_aside": (
        ngettext_lazy(
            "%(count)d use set aside after a restore: AWS may have billed them",
            "%(count)d uses set aside after a restore: AWS may have billed them",
            "count",
        ),
        "warning",
    ),
    "usage_archived": (
        ngettext_lazy("%(count)d use moved to the archive", "%(count)d uses moved to the archive", "count"),
        "info",
    ),
    "late_usage_billed": (
        ngettext_lazy(
            "%(count)d use that came too late is billed with the next hour",
            "%(count)d uses that came too late are billed with the next hour",
            "count",
        ),
        "info",
    ),
}
# By the names that their templates bear.
_LETTERS = {
    "activated": pgettext_lazy("mail", "activated"),
    "arrived": pgettext_lazy("mail", "arrived"),
    "changed": pgettext_lazy("mail", "changed"),
    "contract expires": pgettext_lazy("mail", "contract expires"),
    "ended": pgettext_lazy("mail", "ended"),
    "ending": pgettext_lazy("mail", "ending"),
    "failed": pgettext_lazy("mail", "failed"),
    "join answered": pgettext_lazy("mail", "join answered"),
    "join requested": pgettext_lazy("mail", "join requested"),
    "moved away": pgettext_lazy("mail", "moved away"),
    "moved in": pgettext_lazy("mail", "moved in"),
    "never registered": pgettext_lazy("mail", "never registered"),
    "new": pgettext_lazy("mail", "new"),
    "suspended": pgettext_lazy("mail", "suspended"),
    "trial ends": pgettext_lazy("mail", "trial ends"),
    "unfinished": pgettext_lazy("mail", "unfinished"),
    "welcome": pgettext_lazy("mail", "welcome"),
}


class Phrase(NamedTuple):
    what: str
    why: str = ""
    tone: str = ""


def moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def readable(text: str) -> str:
    """Causes name instants as code does; here they are for people."""
    return _INSTANT.sub(r"\1 \2 UTC", text)


def said(channel: str, kind: str) -> str:
    """Who said what: AWS says at the end of a type whose copy it is, which says nothing here."""
    stem = kind.removesuffix(" - Manufacturer").removesuffix(" - Proposer")
    return f"{_SPEAKERS.get(channel, 'AWS')}: {stem}"


def actor(name: str) -> str:
    """A user by number only: who may see people looks them up there."""
    if name.startswith("user:"):
        return _("user %(number)s") % {"number": name.removeprefix("user:")}
    return str(_ACTORS[name]) if name in _ACTORS else _("this site")


def of_event(event: MarketplaceEvent) -> Phrase:
    parts = [str(event.get_state_display())]
    if event.state not in (Inbox.APPLIED, Inbox.FOREIGN) and event.attempts:
        parts.append(_tries(event.attempts))
    if event.error:
        parts.append(event.error)
    if event.received_at - event.occurred_at > PROMPT:
        parts.append(_("received at %(time)s") % {"time": moment(event.received_at)})
    return Phrase(said(event.channel, event.kind), "; ".join(parts), _EVENT_TONES.get(event.state, ""))


def of_arrival(*, free_trial: bool) -> Phrase:
    return Phrase(_("The buyer came from AWS"), _("the form spoke of a free trial") if free_trial else "")


def of_opening(row: Entitlement) -> Phrase:
    words = {"entitlement": _entitlement(row)}
    if row.expires_at is None:
        return Phrase(_("In force: %(entitlement)s") % words, row.opened_because, "success")
    words["time"] = moment(row.expires_at)
    return Phrase(_("In force: %(entitlement)s, until %(time)s") % words, row.opened_because, "success")


def of_closing(row: Entitlement) -> Phrase:
    return Phrase(
        _("No longer in force: %(entitlement)s") % {"entitlement": _entitlement(row)}, row.closed_because
    )


def _entitlement(row: Entitlement) -> str:
    value = str(row.value)
    short = value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}…"
    return f"{row.dimension_key} = {short}"


def of_metering(day: date, hours: int, counts: Mapping[str, int]) -> Phrase:
    found = [state for state in Record if counts[state]]
    tone = "success" if all(state in _RECORDS_ARE_WELL for state in found) else ""
    if any(state in _RECORDS_NEED_A_PERSON for state in found):
        tone = "danger"
    elif any(state in _RECORDS_WAIT for state in found):
        tone = "warning"
    told = (
        _("%(count)d %(state)s") % {"count": counts[state], "state": _without_remark(str(state.label))}
        for state in found
    )
    what = ngettext(
        "Metering of %(day)s: %(count)d hour closed", "Metering of %(day)s: %(count)d hours closed", hours
    )
    why = _("records: %(told)s") % {"told": ", ".join(told)}
    return Phrase(what % {"day": day, "count": hours}, why, tone)


def _without_remark(name: str) -> str:
    return name.partition("(")[0].strip().lower()


def of_refusal(status: str, *, records: int, in_call: int, whole: bool) -> Phrase:
    """A metering call refused ``whole``, or so many of its records."""
    words = {"status": status, "records": records, "in_call": in_call}
    if whole and in_call > 1:
        why = _(
            "all %(in_call)d records of the call, %(records)d of this purchase; a bad one is found by halving"
        )
        return Phrase(_("AWS refused a metering call: %(status)s") % words, why % words, "warning")
    what = ngettext(
        "AWS refused %(records)d metering record: %(status)s",
        "AWS refused %(records)d metering records: %(status)s",
        records,
    )
    return Phrase(what % words, "", "danger")


def of_effect(effect: Effect, *, overdue: bool) -> Phrase:
    what, why = _owed(effect)
    match effect.state:
        case Effect.State.DONE:
            return Phrase(what, why)
        case Effect.State.SKIPPED:
            return Phrase(
                _("Not done: %(what)s") % {"what": what},
                effect.outcome,
                "warning" if effect.kind == Kind.LINK else "",
            )
    trouble = effect.error or _("nobody has tried: is the worker running?")
    tried = f"{_tries(effect.attempts)}: " if effect.attempts else ""
    told = _("Overdue: %(what)s") if overdue else _("Tried again soon: %(what)s")
    return Phrase(told % {"what": what}, f"{tried}{trouble}", "danger" if overdue else "warning")


def _owed(effect: Effect) -> tuple[str, str]:
    """What it is to do, and why it was done or with what outcome."""
    match effect.kind:
        case Kind.SYNC_ENTITLEMENTS:
            return _("Entitlements read at AWS"), effect.cause
        case Kind.FLUSH_USAGE:
            return _("Usage closed: %(cause)s") % {"cause": effect.cause.partition(",")[0]}, effect.outcome
        case Kind.DESCRIBE:
            return _("Trial and renewal chain asked for at AWS"), effect.outcome
        case Kind.LINK:
            return _("Renewal looked for: %(cause)s") % {"cause": effect.cause}, effect.outcome
        case Kind.REVOKE:
            return _("Access closed: the agreement ended"), ""
        case Kind.MAIL:
            return _letter(effect.cause), effect.outcome
    return effect.get_kind_display(), effect.outcome


def _letter(cause: str) -> str:
    name, _colon, which = cause.partition(":")
    to, _low_line, code = name.partition("@")[0].partition("_")
    days, _space, day = which.partition(" ")  # of a reminder
    about = code.replace("_", " ")
    told = _ADDRESSEES.get(to, gettext_lazy("Mail: %(about)s")) % {"about": str(_LETTERS.get(about, about))}
    if not day or not days.isdecimal():
        return told
    reminder = ngettext(
        "%(mail)s, %(count)d day before %(time)s", "%(mail)s, %(count)d days before %(time)s", int(days)
    )
    return reminder % {"mail": told, "count": int(days), "time": readable(day)}


def of_link(link: AuditEvent, agreement: Agreement) -> Phrase:
    """A link of the audit trail: a change of state, a claim, a flag, a decision."""
    data: dict[str, Any] = link.data
    reason = str(data.get("reason", ""))
    other = {"agreement": data.get("agreement")}
    match link.action:
        case "agreement_created":
            return Phrase(_("We heard of the purchase for the first time"))
        case "status_changed":
            before, after = (_status(data.get(name)) for name in ("before", "after"))
            told = _("Status: %(before)s → %(after)s") % {"before": before, "after": after}
            return Phrase(told, "", _STATUS_TONES.get(str(data.get("after")), ""))
        case "claimed" if data.get("organization") == agreement.organization_id:
            told = _("Claimed for %(organization)s") % {"organization": agreement.organization}
            return Phrase(told, "", "success")
        case "join_requested":
            return Phrase(_("A person who came with it asks to join the workspace"))
        case "join_answered":
            is_approved = bool(data.get("approved"))
            return Phrase(
                _("A request to join was approved") if is_approved else _("A request to join was refused")
            )
        case "inherited":
            why = _("it continues agreement %(agreement)s") % other
            return Phrase(_("The workspace moved on to this purchase"), why, "success")
        case "continues":
            return Phrase(_("Found to continue agreement %(agreement)s") % other, "", "success")
        case "continued":
            return Phrase(_("Found to be continued by agreement %(agreement)s") % other, "", "success")
        case "transferred":
            return Phrase(_("Moved to another workspace"), reason, "info")
        case "entitlements_synced":
            return Phrase(_("Entitlements read at AWS, because a person asked for it"), reason)
        case "welcome_sent_again":
            return Phrase(_("The welcome is sent again, because a person asked for it"), reason)
        case "event_replayed":
            return Phrase(_("Event %(event)s applied again") % {"event": data.get("event")}, reason)
        case "linked_by_hand":
            return Phrase(_("A person says that it continues agreement %(agreement)s") % other, reason)
        case "flag_settled":
            return Phrase(_("A person has seen to the flag"), reason, "success")
        case "flagged":
            return Phrase(_("Flagged for a person to look at"), reason, "danger")
        case "flag_lowered":
            return Phrase(_("The flag is gone"), reason, "success")
        case "usage_cancelled":
            return Phrase(_("1 use cancelled"), reason)
        case "switched_to_license":
            return Phrase(_("Metered under its license from now on"), reason, "info")
        case action if action in _OF_RECORDS:
            became, tone = _OF_RECORDS[action]
            return Phrase(became % {"count": _number(data.get("records"))}, reason, tone)
        case action if action in _OF_USES:
            became, tone = _OF_USES[action]
            return Phrase(became % {"count": _number(data.get("events"))}, reason, tone)
    rest = ", ".join(f"{name}: {value}" for name, value in data.items() if name != "reason")
    return Phrase(link.action.replace("_", " ").capitalize(), "; ".join(filter(None, (reason, rest))))


def _number(rows: Any) -> int:
    """Of rows that the trail counts, or names."""
    return len(rows) if isinstance(rows, list) else int(rows or 0)


def _status(name: Any) -> str:
    return str(Agreement.Status(name).label if name in Agreement.Status.values else name)


def _tries(count: int) -> str:
    return _("tried once") if count == 1 else _("tried %(count)d times") % {"count": count}
