"""A small typed client of the control API. Standard library only, so that any test of any fork can use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from billing.simulator.connection import Connection, ControlError, Json

__all__ = ["ControlError", "SimulatorControl", "Subscription"]

Quantities = Mapping[str, int | float | bool | str]
_NAMES = ("token", "license_arn", "agreement_id", "aws_account_id", "customer_identifier")


@dataclass(frozen=True, slots=True)
class Subscription:
    token: str
    license_arn: str | None
    agreement_id: str
    aws_account_id: str
    customer_identifier: str | None


class SimulatorControl:
    """Drives a running simulator at ``url``."""

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self._connection = Connection(url, timeout=timeout)

    @property
    def url(self) -> str:
        return self._connection.url

    def subscribe(
        self,
        product_code: str,
        *,
        aws_account_id: str | None = None,
        quantities: Quantities | None = None,
        free_trial: bool | int = False,
        started_at: datetime | None = None,
        identity: str | None = None,
        private_offer: bool = False,
        channel_partner: str | None = None,
        auto_renew: bool = False,
        payment_fails: bool = False,
        agreement_created_after: float | None = None,
        license_updated_after: float | None = None,
    ) -> Subscription:
        """Buy a product; the two delays are seconds until its two events fall due.

        ``free_trial`` may be a number of days; ``channel_partner`` is the account of who sells it for you.
        """
        answer = self._connection.post(
            "subscribe",
            body={
                "product_code": product_code,
                "aws_account_id": aws_account_id,
                "quantities": None if quantities is None else dict(quantities),
                "free_trial": free_trial,
                "started_at": started_at.isoformat() if started_at else None,
                "identity": identity,
                "private_offer": private_offer,
                "channel_partner": channel_partner,
                "auto_renew": auto_renew,
                "payment_fails": payment_fails,
                "agreement_created_after": agreement_created_after,
                "license_updated_after": license_updated_after,
            },
        )
        return _subscription(answer)

    def token(self, agreement_id: str) -> str:
        """A fresh registration token, as "Set up your account" gives it."""
        return cast(str, self._connection.post("agreements", agreement_id, "token")["token"])

    def amend(self, agreement_id: str, quantities: Quantities) -> Json:
        """Add units to a contract; answers the agreement, as ``state`` lists it. So do those below."""
        return self._act(agreement_id, "amend", {"quantities": dict(quantities)})

    def renew(self, agreement_id: str, quantities: Quantities | None = None) -> Subscription:
        """Renew a contract now; answers the agreement that follows (legacy: the same one)."""
        return _subscription(self._act(agreement_id, "renew", {"quantities": dict(quantities or {})}))

    def replace(
        self, agreement_id: str, quantities: Quantities | None = None, *, private_offer: bool = False
    ) -> Subscription:
        """Accept another offer instead, of more or less; answers the agreement that follows."""
        body = {"quantities": dict(quantities or {}), "private_offer": private_offer}
        return _subscription(self._act(agreement_id, "replace", body))

    def cancel(self, agreement_id: str) -> Json:
        return self._act(agreement_id, "cancel")

    def expire(self, agreement_id: str) -> Json:
        """The contract's end is now."""
        return self._act(agreement_id, "expire")

    def fail_payment(self, agreement_id: str) -> Json:
        """Before activation only."""
        return self._act(agreement_id, "fail_payment")

    def suspend(self, agreement_id: str) -> Json:
        """Suspend the AWS account that bought it, with all its purchases."""
        return self._act(agreement_id, "suspend")

    def reinstate(self, agreement_id: str) -> Json:
        return self._act(agreement_id, "reinstate")

    def issue_advisory(self, agreement_id: str) -> Json:
        return self._act(agreement_id, "issue_advisory")

    def resolve_advisory(self, agreement_id: str) -> Json:
        return self._act(agreement_id, "resolve_advisory")

    def auto_renew(self, agreement_id: str, *, on: bool = True) -> Json:
        return self._act(agreement_id, "auto_renew", {"on": on})

    def opt_in(self, agreement_id: str) -> Json:
        """Move a legacy purchase to Concurrent Agreements; the answer names its new license."""
        return self._act(agreement_id, "opt_in")

    def now(self) -> datetime:
        """The simulated time."""
        return _now(self.state()["clock"])

    def advance(self, by: timedelta | float) -> datetime:
        """Move the clock on (seconds, or a timedelta) and deliver what fell due."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        return _now(self._connection.post("clock", body={"advance_seconds": seconds}))

    def set_now(self, now: datetime) -> datetime:
        return _now(self._connection.post("clock", body={"now": now.isoformat()}))

    def set_offset(self, seconds: float) -> datetime:
        """Run ``seconds`` ahead of (or, negative, behind) real time."""
        return _now(self._connection.post("clock", body={"offset_seconds": seconds}))

    def freeze(self, now: datetime | None = None) -> datetime:
        """Stop the clock, at ``now`` if given."""
        return _now(
            self._connection.post("clock", body={"freeze": True, "now": now.isoformat() if now else None})
        )

    def resume(self) -> datetime:
        return _now(self._connection.post("clock", body={"freeze": False}))

    def fault(
        self,
        operation: str,
        fault: str,
        *,
        count: int | None = 1,
        seconds: float = 1.0,
        share: float = 1.0,
        code: str | None = None,
        message: str | None = None,
        status: int | None = None,
    ) -> None:
        """Spoil the next ``count`` calls of ``operation`` ("*" for any); None spoils them until cleared.

        The operation "events" with delay, double, reorder or lose spoils what AWS sends.
        """
        body: Json = {
            "operation": operation,
            "fault": fault,
            "count": count,
            "seconds": seconds,
            "share": share,
        }
        body |= {"code": code, "message": message, "status": status}
        self._connection.post("faults", body=body)

    def clear_faults(self) -> None:
        self._connection.receive("DELETE", "faults")

    def switch(self, **switches: Any) -> None:
        """Set what no AWS source settles; `docs/simulator.md` lists the names."""
        self._connection.post("switches", body=switches)

    def time(self, **seconds: float) -> None:
        """Set how long AWS takes, in simulated seconds."""
        self._connection.post("timings", body=seconds)

    def add_product(self, product: Mapping[str, Any]) -> str:
        """List a product (one entry of the catalog format); returns its code."""
        return cast(str, self._connection.post("products", body=dict(product))["code"])

    def products(self) -> list[Json]:
        return cast(list[Json], self._connection.get("products")["products"])

    def set_speed(self, speed: float) -> datetime:
        """Let ``speed`` simulated seconds pass in a real one."""
        return _now(self._connection.post("clock", body={"speed": speed}))

    def switches(self) -> dict[str, Any]:
        """The value of each switch."""
        return {switch["name"]: switch["value"] for switch in self._connection.get("switches")["switches"]}

    def timings(self) -> dict[str, float]:
        return self._connection.get("timings")

    def queue(self, name: str, **settings: Any) -> Json:
        """Create or change a queue: visibility_seconds, receives, dead_letter_queue, max_receives."""
        return self._connection.post("queues", body={"name": name, **settings})

    def send(self, queue: str, body: str) -> str:
        """Put a message of any body into a queue; answers its id."""
        return cast(
            str, self._connection.post("queues", queue, "messages", body={"body": body})["message_id"]
        )

    def redrive(self, dead_letter_queue: str) -> int:
        """Move its messages back to the queues they were dead-lettered from; answers how many."""
        return cast(int, self._connection.post("queues", dead_letter_queue, "redrive")["moved"])

    def reset(self) -> None:
        """Back to how the simulator was started."""
        self._connection.post("reset")

    def state(self) -> Json:
        return self._connection.get("state")

    def requests(self, operation: str | None = None) -> list[Json]:
        """What SDKs sent and got, oldest first; only of ``operation`` if given."""
        entries: list[Json] = self._connection.get("requests")["requests"]
        return [entry for entry in entries if operation in (None, entry["operation"])]

    def invoice(self) -> Json:
        return self._connection.get("invoice.json")

    def usage_report(self) -> str:
        """The invoice as CSV, with the columns of AWS's usage report."""
        return self._connection.receive("GET", "invoice.csv").decode()

    def _act(self, agreement_id: str, action: str, body: Json | None = None) -> Json:
        return self._connection.post("agreements", agreement_id, action, body=body)


def _subscription(answer: Json) -> Subscription:
    return Subscription(**{name: answer[name] for name in _NAMES})


def _now(clock: Json) -> datetime:
    return datetime.fromisoformat(clock["now"])
