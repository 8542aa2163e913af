"""An agreement told to people: what state it is in, what happened to it, what is still to come."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from billing.simulator.aws.shapes import Json
from billing.simulator.catalog import Product
from billing.simulator.pages.render import exact, instant
from billing.simulator.records import Agreement
from billing.simulator.state import State

Tone = Literal["good", "waiting", "bad", "plain"]
_WHY = {
    "CANCELLED": "the buyer cancelled",
    "EXPIRED": "its term is over",
    "TERMINATED": "AWS terminated it",
    "RENEWED": "a renewal follows it",
    "REPLACED": "another agreement replaces it",
}
INTENTS = {"NEW": "First purchase", "RENEW": "Renewal", "REPLACE": "Replacement"}


def state_of(agreement: Agreement, now: datetime) -> tuple[Tone, str, str]:
    """How it stands: a tone, two or three words, and the rest of the sentence."""
    has_ended = agreement.ended_at is not None and agreement.ended_at <= now
    if has_ended and not _failed(agreement):
        return _ended(agreement, now)
    if agreement.activates_at is None:
        return "bad", "Payment failed", "No license will appear, and nothing can be metered."
    if now < agreement.starts_at:
        return "waiting", "Waiting to start", f"It starts on {instant(agreement.starts_at)}."
    if now < agreement.activates_at:
        return "waiting", "Being activated", f"The license is active from {exact(agreement.activates_at)}."
    return "good", "Active", _until(agreement, now)


def _failed(agreement: Agreement) -> bool:
    """Unpaid, no license ever appears. A purchase called off has none either, but says CANCELLED."""
    return agreement.activates_at is None and agreement.ended_status in ("", "TERMINATED")


def _ended(agreement: Agreement, now: datetime) -> tuple[Tone, str, str]:
    assert agreement.ended_at is not None
    why = _WHY.get(agreement.ended_status, agreement.ended_status.lower())
    when = f"It ended on {exact(agreement.ended_at)}: {why}."
    if agreement.is_metered(now) and agreement.metering_closes_at is not None:
        return (
            "waiting",
            "In its final metering hour",
            f"{when} Usage is taken until {exact(agreement.metering_closes_at)}.",
        )
    return "plain", "Ended", when


def _until(agreement: Agreement, now: datetime) -> str:
    if agreement.trial_ends_at and now < agreement.trial_ends_at:
        return f"Free trial until {instant(agreement.trial_ends_at)}."
    if agreement.ends_at:
        what = "Renews itself" if agreement.auto_renew else "Ends"
        return f"{what} on {instant(agreement.ends_at)}."
    return "It has no end date."


def remarks(state: State, agreement: Agreement, now: datetime) -> list[tuple[Tone, str]]:
    """What else is worth a tag beside its state."""
    found: list[tuple[Tone, str]] = []
    if agreement.aws_account_id in state.suspensions:
        found.append(("bad", "Buyer suspended"))
    if agreement.advisory_issued_at is not None:
        found.append(("bad", "Advisory open"))
    if agreement.trial_ends_at is not None:
        found.append(("plain", "Free trial" if now < agreement.trial_ends_at else "Free trial over"))
    if agreement.intent != "NEW":
        found.append(("plain", INTENTS[agreement.intent]))
    if agreement.private_offer:
        found.append(("plain", "Private offer"))
    if agreement.resale_authorization_id:
        found.append(("plain", "Through a partner"))
    if agreement.auto_renew:
        found.append(("plain", "Renews automatically"))
    if agreement.identity == "legacy":
        found.append(("plain", "Legacy"))
    return found


def bought(product: Product, agreement: Agreement, now: datetime) -> list[Json]:
    labels = {dimension.key: dimension.label for dimension in product.entitled}
    return [
        {"label": labels.get(key, key), "value": _in_words(value)}
        for key, value in agreement.quantities_at(now).items()
    ]


def story(product: Product, agreement: Agreement, now: datetime) -> list[Json]:
    """Its instants in order; ``is_ahead`` marks those still to come."""
    told = [
        (agreement.accepted_at, "The buyer accepted the offer"),
        (agreement.starts_at, "The agreement starts"),
        (agreement.activates_at, "The license becomes active"),
        (agreement.trial_ends_at, "The free trial is over"),
        (agreement.advisory_issued_at, "AWS issued an advisory"),
        *((moment, _amended(product, quantities)) for moment, quantities in agreement.quantities[1:]),
        (agreement.ends_at if agreement.ended_at is None else None, "The term is over"),
        (agreement.ended_at, _ends(agreement)),
        (agreement.deprovisioned_at, "The license is taken away; the final metering hour opens"),
        (agreement.metering_closes_at, "The final metering hour is over: usage is refused from now on"),
    ]
    dated = [(moment, text) for moment, text in told if moment is not None]
    dated.sort(key=lambda item: item[0])
    return [{"at": exact(moment), "text": text, "is_ahead": moment > now} for moment, text in dated]


def _ends(agreement: Agreement) -> str:
    return f"The agreement ends: {_WHY.get(agreement.ended_status, agreement.ended_status.lower())}"


def _amended(product: Product, quantities: Json) -> str:
    labels = {dimension.key: dimension.label for dimension in product.entitled}
    shown = ", ".join(f"{labels.get(key, key)} {_in_words(value)}" for key, value in quantities.items())
    return f"New quantities take effect: {shown}"


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
