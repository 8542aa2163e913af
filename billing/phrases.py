"""What the rows of an agreement's history mean, in plain English: for people who answer buyers.

A fork that audits something of its own needs to add nothing here: what is not known is told in its own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

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
_SPEAKERS: dict[str, str] = {Channel.CLOCK: "The clock", Channel.READING: "Read at AWS"}
_RECORDS_NEED_A_PERSON = (Record.PARKED, Record.CONFLICT, Record.EXPIRED)
_RECORDS_WAIT = (Record.IN_DOUBT, Record.WAITING, Record.HELD)
_RECORDS_ARE_WELL = (Record.ACCEPTED, Record.NOT_DUE)

# Of whole groups of rows: what became of them, and how it stands.
_OF_RECORDS = {
    "records_retried": ("sent again", "info"),
    "records_held": ("held back", "info"),
    "records_resumed": ("no longer held back", "info"),
    "records_written_off": ("written off", "info"),
    "records_voided": ("voided", "info"),
    "records_expired": ("missed AWS's window: no acceptance came in time", "danger"),
}
_OF_USES = {
    "usage_reopened": ("taken back in: the agreement began or ended at another time than was known", "info"),
    "usage_outside": ("cannot be billed: the agreement was never active", "danger"),
    "usage_too_late": ("cannot be billed: they came after the last hour", "danger"),
    "usage_written_off": ("written off", "info"),
    "late_usage_billed": ("that came too late are billed with the next hour", "info"),
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
        return name.replace(":", " ")
    return {"aws": "AWS", "clock": "the clock", "product": "your product"}.get(name, "this site")


def of_event(event: MarketplaceEvent) -> Phrase:
    parts = [str(event.get_state_display())]
    if event.state not in (Inbox.APPLIED, Inbox.FOREIGN) and event.attempts:
        parts.append(_tries(event.attempts))
    if event.error:
        parts.append(event.error)
    if event.received_at - event.occurred_at > PROMPT:
        parts.append(f"received at {moment(event.received_at)}")
    return Phrase(said(event.channel, event.kind), "; ".join(parts), _EVENT_TONES.get(event.state, ""))


def of_arrival(*, free_trial: bool) -> Phrase:
    return Phrase("The buyer came from AWS", "the form spoke of a free trial" if free_trial else "")


def of_opening(row: Entitlement) -> Phrase:
    until = f", until {moment(row.expires_at)}" if row.expires_at else ""
    return Phrase(f"In force: {_entitlement(row)}{until}", row.opened_because, "success")


def of_closing(row: Entitlement) -> Phrase:
    return Phrase(f"No longer in force: {_entitlement(row)}", row.closed_because)


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
    told = (f"{counts[state]} {state.label.partition(' (')[0].lower()}" for state in found)
    return Phrase(f"Metering of {day}: {_many(hours, 'hour')} closed", f"records: {', '.join(told)}", tone)


def of_refusal(status: str, *, records: int, in_call: int, whole: bool) -> Phrase:
    """A metering call refused ``whole``, or so many of its records."""
    if whole and in_call > 1:
        why = f"all {in_call} records of the call, {records} of this purchase; a bad one is found by halving"
        return Phrase(f"AWS refused a metering call: {status}", why, "warning")
    return Phrase(f"AWS refused {_many(records, 'metering record')}: {status}", "", "danger")


def of_effect(effect: Effect, *, overdue: bool) -> Phrase:
    what, why = _owed(effect)
    match effect.state:
        case Effect.State.DONE:
            return Phrase(what, why)
        case Effect.State.SKIPPED:
            return Phrase(f"Not done: {what}", effect.outcome, "warning" if effect.kind == Kind.LINK else "")
    trouble = effect.error or "nobody has tried: is the worker running?"
    tried = f"{_tries(effect.attempts)}: " if effect.attempts else ""
    return Phrase(
        f"{'Overdue' if overdue else 'Tried again soon'}: {what}",
        f"{tried}{trouble}",
        "danger" if overdue else "warning",
    )


def _owed(effect: Effect) -> tuple[str, str]:
    """What it is to do, and why it was done or with what outcome."""
    match effect.kind:
        case Kind.SYNC_ENTITLEMENTS:
            return "Entitlements read at AWS", effect.cause
        case Kind.FLUSH_USAGE:
            return f"Usage closed: {effect.cause.partition(',')[0]}", effect.outcome
        case Kind.DESCRIBE:
            return "Trial and renewal chain asked for at AWS", effect.outcome
        case Kind.LINK:
            return f"Renewal looked for: {effect.cause}", effect.outcome
        case Kind.REVOKE:
            return "Access closed: the agreement ended", ""
        case Kind.MAIL:
            return _letter(effect.cause), effect.outcome
    return effect.get_kind_display(), effect.outcome


def _letter(cause: str) -> str:
    name, _, which = cause.partition(":")
    to, _, about = name.partition("@")[0].partition("_")
    days, _, day = which.partition(" ")  # of a reminder
    reminder = f", {_many(int(days), 'day')} before {readable(day)}" if day and days.isdecimal() else ""
    return f"Mail to the {to}: {about.replace('_', ' ')}{reminder}"


def of_link(link: AuditEvent, agreement: Agreement) -> Phrase:
    """A link of the audit trail: a change of state, a claim, a flag, a decision."""
    data: dict[str, Any] = link.data
    reason = str(data.get("reason", ""))
    match link.action:
        case "agreement_created":
            return Phrase("We heard of the purchase for the first time")
        case "status_changed":
            before, after = (_status(data.get(name)) for name in ("before", "after"))
            return Phrase(f"Status: {before} → {after}", "", _STATUS_TONES.get(str(data.get("after")), ""))
        case "claimed" if data.get("organization") == agreement.organization_id:
            return Phrase(f"Claimed for {agreement.organization}", "", "success")
        case "inherited":
            why = f"it continues agreement {data.get('agreement')}"
            return Phrase("The workspace moved on to this purchase", why, "success")
        case "continues":
            return Phrase(f"Found to continue agreement {data.get('agreement')}", "", "success")
        case "continued":
            return Phrase(f"Found to be continued by agreement {data.get('agreement')}", "", "success")
        case "flagged":
            return Phrase("Flagged for a person to look at", reason, "danger")
        case "flag_lowered":
            return Phrase("The flag is gone", reason, "success")
        case "usage_cancelled":
            return Phrase("1 use cancelled", reason)
        case "switched_to_license":
            return Phrase("Metered under its license from now on", reason, "info")
        case action if action in _OF_RECORDS:
            became, tone = _OF_RECORDS[action]
            return Phrase(f"{_many(_number(data.get('records')), 'metering record')} {became}", reason, tone)
        case action if action in _OF_USES:
            became, tone = _OF_USES[action]
            return Phrase(f"{_many(_number(data.get('events')), 'use')} {became}", reason, tone)
    rest = ", ".join(f"{name}: {value}" for name, value in data.items() if name != "reason")
    return Phrase(link.action.replace("_", " ").capitalize(), "; ".join(filter(None, (reason, rest))))


def _number(rows: Any) -> int:
    """Of rows that the trail counts, or names."""
    return len(rows) if isinstance(rows, list) else int(rows or 0)


def _status(name: Any) -> str:
    return Agreement.Status(name).label if name in Agreement.Status.values else str(name)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _tries(count: int) -> str:
    return f"tried {'once' if count == 1 else f'{count} times'}"
