"""What the control API and the pages tell of the simulation: no tokens, no message bodies."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from billing.simulator import queues
from billing.simulator.aws.shapes import Json
from billing.simulator.clock import iso
from billing.simulator.lifecycle import delivery
from billing.simulator.queues import Queue
from billing.simulator.records import Agreement
from billing.simulator.state import State
from billing.simulator.switches import describe_switches


def describe(state: State, agreement: Agreement) -> Json:
    """The one description of an agreement."""
    now = state.clock.now()

    def when(moment: datetime | None) -> str | None:
        return iso(moment) if moment else None

    return {
        **names(agreement),
        "product_code": agreement.product_code,
        "identity": agreement.identity,
        "offer_id": agreement.offer_id,
        "private_offer": agreement.private_offer,
        "status": agreement.status(now),
        "license_active": agreement.is_entitled(now),
        "metering_open": agreement.is_metered(now),
        "buyer_suspended": agreement.aws_account_id in state.suspensions,
        "quantities": agreement.quantities_at(now),
        "intent": agreement.intent,
        "initial_agreement_id": agreement.initial_agreement_id,
        "previous_agreement_id": agreement.previous_agreement_id,
        "proposer_account_id": agreement.proposer_account_id,
        "resale_authorization_id": agreement.resale_authorization_id,
        "auto_renew": agreement.auto_renew,
        "advisory_issued_at": when(agreement.advisory_issued_at),
        "accepted_at": when(agreement.accepted_at),
        "starts_at": when(agreement.starts_at),
        "activates_at": when(agreement.activates_at),
        "ends_at": when(agreement.ends_at),
        "trial_ends_at": when(agreement.trial_ends_at),
        "ended_at": when(agreement.ended_at),
        "deprovisioned_at": when(agreement.deprovisioned_at),
        "metering_closes_at": when(agreement.metering_closes_at),
    }


def names(agreement: Agreement) -> Json:
    return {
        "license_arn": agreement.license_arn,
        "agreement_id": agreement.agreement_id,
        "aws_account_id": agreement.aws_account_id,
        "customer_identifier": agreement.customer_identifier,
    }


def report(state: State) -> Json:
    """What GET /_simulator/state shows."""
    delivery.catch_up(state)
    return {
        "clock": {**clock(state), "offset_seconds": round(state.clock.offset.total_seconds(), 3)},
        "products": list(state.products),
        "agreements": [describe(state, agreement) for agreement in state.agreements.values()],
        "suspended_accounts": list(state.suspensions),
        "queues": {queue.name: queue_counts(state, queue) for queue in state.queues.values()},
        "scheduled_events": [
            {"due": iso(event.due), "kind": event.kind, "agreement_id": event.agreement_id}
            for event in state.upcoming.in_order
        ],
        "events_held_back": len(state.overtaken),
        "faults": faults(state),
        "billed_records": len(state.billed),
        "lints": {lint.finding: lint.count for lint in state.lints.values()},
    }


def clock(state: State) -> Json:
    return {
        "now": state.clock.now().isoformat().replace("+00:00", "Z"),
        "frozen": state.clock.frozen,
        "speed": state.clock.speed,
    }


def faults(state: State) -> list[Json]:
    return [
        {
            "operation": fault.operation,
            "fault": fault.kind,
            "count": fault.count,
            "seconds": fault.seconds,
            "share": fault.share,
        }
        | (
            {"code": fault.code, "status": fault.status, "message": fault.message}
            if fault.kind == "error"
            else {}
        )
        for fault in state.faults.pending
    ]


def products(state: State) -> list[Json]:
    """Each as a catalog writes it, so that it may be posted back."""
    return [
        {
            "code": product.code,
            "product_id": product.product_id,
            "title": product.title,
            "summary": product.summary,
            "pricing": product.pricing,
            "identity": product.identity,
            "fulfillment_url": product.fulfillment_url,
            "dimensions": [
                {
                    "key": dimension.key,
                    "label": dimension.label,
                    "unit": dimension.unit,
                    "kind": dimension.kind,
                    "value_type": dimension.value_type,
                    "default_quantity": dimension.default_quantity,
                    "price": format(dimension.price, "f"),
                }
                for dimension in product.dimensions.values()
            ],
        }
        for product in state.products.values()
    ]


def switches(state: State) -> Json:
    return {"switches": describe_switches(state.switches)}


def timings(state: State) -> Json:
    return {name: value.total_seconds() for name, value in asdict(state.timings).items()}


def queue_counts(state: State, queue: Queue) -> Json:
    held = list(queues.of(state.messages, queue.name))
    in_flight = sum(message.is_in_flight() for message in held)
    return {"visible": len(held) - in_flight, "in_flight": in_flight}


def queue_report(state: State, queue: Queue) -> Json:
    return {
        "name": queue.name,
        "visibility_seconds": queue.visibility_seconds,
        "receives": list(queue.receives),
        "dead_letter_queue": queue.dead_letter_queue,
        "max_receives": queue.max_receives,
        **queue_counts(state, queue),
    }


def queues_report(state: State) -> list[Json]:
    delivery.catch_up(state)
    return [queue_report(state, one) for one in state.queues.values()]
