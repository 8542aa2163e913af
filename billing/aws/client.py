"""AWS Marketplace through boto3. The only module that imports boto3."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.session import get_session
from django.conf import settings

from billing.aws import wire
from billing.aws.errors import MarketplaceError, MarketplaceUnavailable, error_for
from billing.aws.types import (
    AgreementDetails,
    BatchAnswer,
    Connection,
    EntitlementFilter,
    GrantedEntitlement,
    QueueMessage,
    ResolvedCustomer,
    UsageLine,
    UsageOutcome,
)

# Entitlement, Agreement and the event rules live there only, whatever Region the app runs in.
GLOBAL_REGION = "us-east-1"


class BotoMarketplace:
    """The Marketplace protocol over real AWS calls. One per process: boto3 clients are thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._session = _session(connection)

    @property
    def metering_region(self) -> str:
        return self._connection.metering_region

    def resolve_customer(self, token: str) -> ResolvedCustomer:
        """What the token of an arriving buyer stands for (ResolveCustomer)."""
        answer = self._call(
            lambda: self._client("resolve").resolve_customer(RegistrationToken=token)
        )
        return ResolvedCustomer(
            product_code=answer["ProductCode"],
            aws_account_id=answer.get("CustomerAWSAccountId") or None,
            customer_identifier=answer.get("CustomerIdentifier") or None,
            license_arn=answer.get("LicenseArn") or None,
            agreement_id=answer.get("Metadata", {}).get("AgreementId") or None,
        )

    def get_entitlements(self, of: EntitlementFilter) -> list[GrantedEntitlement]:
        """Every row, over all pages. A page may be empty and still carry a token; `{}` means none."""
        parameters: dict[str, Any] = {"ProductCode": of.product_code, "Filter": _filter(of)}
        rows: list[GrantedEntitlement] = []
        while True:
            page = self._call(lambda: self._client("entitlement").get_entitlements(**parameters))
            rows += [_entitlement(row) for row in page.get("Entitlements", [])]
            if not page.get("NextToken"):
                return rows
            parameters["NextToken"] = page["NextToken"]

    def batch_meter_usage(self, lines: Sequence[UsageLine]) -> BatchAnswer:
        """Send one batch, once: the ledger retries, byte for byte, not the SDK."""
        references = {wire.key(record): line.reference for record, line in _records(lines)}
        answer = self._call(
            lambda: self._client("metering").batch_meter_usage(**wire.batch_request(lines))
        )
        return BatchAnswer(
            outcomes=tuple(
                UsageOutcome(references[wire.key(row["UsageRecord"])], row["Status"], row.get("MeteringRecordId"))
                for row in answer.get("Results", [])
                if wire.key(row["UsageRecord"]) in references
            ),
            unprocessed=tuple(
                references[wire.key(record)]
                for record in answer.get("UnprocessedRecords", [])
                if wire.key(record) in references
            ),
            request_id=answer["ResponseMetadata"].get("RequestId", ""),
        )

    def describe_agreement(self, agreement_id: str) -> AgreementDetails | None:
        """Trial, term and renewal chain; None where the seller gave no permission for it."""
        if not self._connection.describe_agreements:
            return None
        answer = self._call(
            lambda: self._client("agreement").describe_agreement(agreementId=agreement_id)
        )
        return AgreementDetails(
            status=answer.get("status", ""),
            initial_agreement_id=answer.get("initialAgreementId"),
            starts_at=answer.get("startTime"),
            ends_at=answer.get("endTime"),
            trial_ends_at=answer.get("freeTrialSummary", {}).get("trialEndTime"),
        )

    def receive_messages(self, queue_url: str, *, wait_seconds: int) -> list[QueueMessage]:
        answer = self._call(
            lambda: self._client("queue").receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=wait_seconds,
                MessageSystemAttributeNames=["SentTimestamp"],
            )
        )
        return [
            QueueMessage(
                queue_url=queue_url,
                message_id=message["MessageId"],
                receipt=message["ReceiptHandle"],
                body=message["Body"],
                sent_at=_milliseconds(message.get("Attributes", {}).get("SentTimestamp")),
            )
            for message in answer.get("Messages", [])
        ]

    def delete_messages(self, messages: Iterable[QueueMessage]) -> None:
        """Forget messages that are stored. One that stays behind comes again and is recognized."""
        for message in messages:
            self._call(
                lambda message=message: self._client("queue").delete_message(
                    QueueUrl=message.queue_url, ReceiptHandle=message.receipt
                )
            )

    def _client(self, purpose: str) -> Any:
        with self._lock:
            if purpose not in self._clients:
                self._clients[purpose] = self._new_client(purpose)
            return self._clients[purpose]

    def _new_client(self, purpose: str) -> Any:
        connection = self._connection
        service, region = {
            "resolve": ("meteringmarketplace", connection.metering_region),
            "metering": ("meteringmarketplace", connection.metering_region),
            "entitlement": ("marketplace-entitlement", GLOBAL_REGION),
            "agreement": ("marketplace-agreement", GLOBAL_REGION),
            "queue": ("sqs", GLOBAL_REGION),
        }[purpose]
        # Metering gets one attempt: a hidden retry could answer for a call whose first try was accepted.
        attempts = 1 if purpose == "metering" else 3
        read_timeout = {
            "resolve": min(connection.read_timeout, 5),  # a buyer is waiting
            "queue": connection.read_timeout + 20,  # a long poll is silent for up to 20 seconds
        }.get(purpose, connection.read_timeout)
        return self._session.client(
            service,
            region_name=region,
            config=Config(
                connect_timeout=connection.connect_timeout,
                read_timeout=read_timeout,
                retries={"mode": "standard", "total_max_attempts": attempts},
                max_pool_connections=20,
            ),
        )

    def _call(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except ClientError as error:
            details = error.response.get("Error", {})
            metadata = error.response.get("ResponseMetadata", {})
            raise error_for(
                str(details.get("Code", "")),
                str(details.get("Message", "")),
                status=metadata.get("HTTPStatusCode", 400),
                request_id=metadata.get("RequestId", ""),
            ) from error
        except NoCredentialsError as error:
            raise MarketplaceError("NoCredentials", str(error)) from error
        except BotoCoreError as error:
            # Time-outs, refused and broken connections: AWS may or may not have acted.
            raise MarketplaceUnavailable("Unreachable", type(error).__name__) from error


@cache
def get_marketplace() -> BotoMarketplace:
    """The process's client, as the settings describe it."""
    return BotoMarketplace(Connection(**settings.MARKETPLACE))


def _session(connection: Connection) -> boto3.Session:
    """The process's own credentials, or a role in the seller's account that renews itself."""
    if connection.role_arn is None:
        return boto3.Session()
    source = get_session()
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=source.create_client,
        source_credentials=source.get_credentials(),
        role_arn=connection.role_arn,
        extra_args={
            "RoleSessionName": "marketplace-saas",
            **({"ExternalId": connection.role_external_id} if connection.role_external_id else {}),
        },
    )
    assumed = get_session()
    assumed._credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    return boto3.Session(botocore_session=assumed)


def _records(lines: Sequence[UsageLine]) -> Iterable[tuple[dict[str, Any], UsageLine]]:
    return zip(wire.batch_request(lines)["UsageRecords"], lines, strict=True)


def _filter(of: EntitlementFilter) -> dict[str, list[str]]:
    # The two customer keys exclude each other; a license says everything.
    if of.license_arn is not None:
        return {"LICENSE_ARN": [of.license_arn]}
    if of.aws_account_id is not None:
        return {"CUSTOMER_AWS_ACCOUNT_ID": [of.aws_account_id]}
    return {"CUSTOMER_IDENTIFIER": [of.customer_identifier or ""]}


def _entitlement(row: dict[str, Any]) -> GrantedEntitlement:
    (value,) = (row["Value"][kind] for kind in _VALUE_KINDS if kind in row["Value"])
    return GrantedEntitlement(
        dimension=row["Dimension"],
        value=value,
        expires_at=row.get("ExpirationDate"),
        license_arn=row.get("LicenseArn"),
        aws_account_id=row.get("CustomerAWSAccountId"),
        customer_identifier=row.get("CustomerIdentifier"),
    )


_VALUE_KINDS = ("IntegerValue", "DoubleValue", "BooleanValue", "StringValue")


def _milliseconds(text: str | None) -> datetime | None:
    return datetime.fromtimestamp(int(text) / 1000, tz=UTC) if text else None
