"""Questions to AWS that change nothing there: who we are, what we may do, how queue and rule are set up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from billing.aws.client import BotoMarketplace
from billing.aws.errors import MarketplaceError, Scope
from billing.aws.types import GrantedEntitlement

# AWS looks at permissions before it looks for what is asked about, so that a "no such thing" is a permission.
_NOBODY = "marketplace-doctor"
# Codes, beside those of the account's own troubles, that say nothing of whether the call is permitted.
_UNASKED = frozenset({"ThrottlingException", "Throttling", "RequestThrottled", "TooManyRequestsException"})


@dataclass(frozen=True, slots=True)
class Identity:
    account: str
    arn: str
    answered_at: datetime | None
    """AWS's clock, to the second."""


@dataclass(frozen=True, slots=True)
class QueueFacts:
    arn: str
    visible: int
    in_flight: int
    policy: dict[str, Any]
    encrypted: bool
    dead_letter_arn: str | None
    visibility_seconds: int


@dataclass(frozen=True, slots=True)
class RuleFacts:
    enabled: bool
    pattern: dict[str, Any]
    target_arns: tuple[str, ...]


class Probes(BotoMarketplace):
    """A client of its own beside the process's, with the same connection. Raises MarketplaceError."""

    def identity(self) -> Identity:
        answer = self._call(lambda: self._client("identity").get_caller_identity())
        date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        return Identity(
            account=answer["Account"],
            arn=answer["Arn"],
            answered_at=parsedate_to_datetime(date) if date else None,
        )

    def metering_regions(self) -> frozenset[str]:
        """Where the metering API exists, as this version of the SDK knows it."""
        return frozenset(self._session.get_available_regions("meteringmarketplace"))

    def try_resolving(self) -> None:
        """Ask about a token that nobody was given."""
        self._may(
            lambda: self._client("resolve").resolve_customer(RegistrationToken=_NOBODY),
            answers={"InvalidTokenException", "ExpiredTokenException"},
        )

    def try_metering(self) -> None:
        """Send a batch of no records: nothing is billed."""
        self._may(
            lambda: self._client("metering", self.metering_region).batch_meter_usage(UsageRecords=[]),
            answers={"ValidationException", "InvalidProductCodeException"},
        )

    def first_entitlements(self, product_code: str) -> list[GrantedEntitlement]:
        """At most one page of the product's."""
        rows = self.list_entitlements(product_code)
        return [row for row, _ in zip(rows, range(25), strict=False)]

    def try_describing(self) -> None:
        """Ask about an agreement that nobody made."""
        self._may(
            lambda: self._client("agreement").describe_agreement(agreementId=_NOBODY),
            answers={"ResourceNotFoundException", "ValidationException"},
        )

    def try_deleting(self, queue_url: str) -> None:
        """Delete a message that was never handed out."""
        self._may(
            lambda: self._client("queue").delete_message_batch(
                QueueUrl=queue_url, Entries=[{"Id": "0", "ReceiptHandle": _NOBODY}]
            ),
            answers={"ReceiptHandleIsInvalid"},
        )

    def try_hiding(self, queue_url: str) -> None:
        """Hide a message that was never handed out."""
        self._may(
            lambda: self._client("queue").change_message_visibility(
                QueueUrl=queue_url, ReceiptHandle=_NOBODY, VisibilityTimeout=0
            ),
            answers={"ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"},
        )

    def queue(self, queue_url: str) -> QueueFacts:
        answer = self._call(
            lambda: self._client("queue").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
        )
        attributes: dict[str, str] = answer.get("Attributes", {})
        redrive = _object(attributes.get("RedrivePolicy"))
        return QueueFacts(
            arn=attributes.get("QueueArn", ""),
            visible=int(attributes.get("ApproximateNumberOfMessages", 0)),
            in_flight=int(attributes.get("ApproximateNumberOfMessagesNotVisible", 0)),
            policy=_object(attributes.get("Policy")),
            encrypted=bool(attributes.get("KmsMasterKeyId"))
            or attributes.get("SqsManagedSseEnabled") == "true",
            dead_letter_arn=redrive.get("deadLetterTargetArn"),
            visibility_seconds=int(attributes.get("VisibilityTimeout", 0)),
        )

    def rule(self, name: str) -> RuleFacts:
        """A rule of the default event bus, on which AWS Marketplace speaks."""
        found = self._call(lambda: self._client("rule").describe_rule(Name=name))
        targets = self._call(lambda: self._client("rule").list_targets_by_rule(Rule=name))
        return RuleFacts(
            enabled=found.get("State", "").startswith("ENABLED"),
            pattern=_object(found.get("EventPattern")),
            target_arns=tuple(target["Arn"] for target in targets.get("Targets", [])),
        )

    def _may(self, call: Callable[[], Any], *, answers: set[str]) -> None:
        """Make a call that AWS refuses for what it says, if it lets us say it."""
        try:
            self._call(call)
        except MarketplaceError as error:
            # SQS's older codes begin with the service's name.
            if error.code.rpartition(".")[2] not in answers:
                raise


def is_refusal(error: MarketplaceError) -> bool:
    """Whether a person has to act before such a call succeeds, rather than wait."""
    return error.scope is not Scope.TRANSIENT and error.code not in _UNASKED


def _object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
