"""AWS Marketplace through boto3. The only module that imports boto3."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
)
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError
from botocore.session import Session, get_session
from botocore.utils import parse_timestamp
from django.conf import settings

from billing.aws import wire
from billing.aws.errors import MarketplaceError, MarketplaceUnavailable, Scope, error_for
from billing.aws.limits import MAX_ENTITLEMENTS_PER_CALL
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
from billing.aws.words import storable

logger = logging.getLogger(__name__)

# Entitlement, Agreement and the event rules live there only, whatever Region the app runs in.
GLOBAL_REGION = "us-east-1"


class BotoMarketplace:
    """The Marketplace protocol over real AWS calls. One per process: boto3 clients are thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self._session = _session(connection)

    @property
    def metering_region(self) -> str:
        return self._connection.metering_region

    def resolve_customer(self, token: str) -> ResolvedCustomer:
        """What the token of an arriving buyer stands for (ResolveCustomer)."""
        answer = self._call(lambda: self._client("resolve").resolve_customer(RegistrationToken=token))
        return ResolvedCustomer(
            product_code=answer.get("ProductCode", ""),
            aws_account_id=answer.get("CustomerAWSAccountId") or None,
            customer_identifier=answer.get("CustomerIdentifier") or None,
            license_arn=answer.get("LicenseArn") or None,
            agreement_id=answer.get("Metadata", {}).get("AgreementId") or None,
        )

    def get_entitlements(self, of: EntitlementFilter) -> list[GrantedEntitlement]:
        """Every row of one license or customer, over all pages."""
        return list(self._entitlements({"ProductCode": of.product_code, "Filter": _filter(of)}))

    def list_entitlements(self, product_code: str) -> Iterator[GrantedEntitlement]:
        """Every row of a product, whoever holds it, in as few calls as AWS allows."""
        return self._entitlements({"ProductCode": product_code, "MaxResults": MAX_ENTITLEMENTS_PER_CALL})

    def _entitlements(self, parameters: dict[str, Any]) -> Iterator[GrantedEntitlement]:
        """A page may be empty and still carry a token; `{}` means none."""
        while True:
            page = self._call(partial(self._client("entitlement").get_entitlements, **parameters))
            yield from map(_entitlement, page.get("Entitlements", []))
            if not page.get("NextToken"):
                return
            parameters["NextToken"] = page["NextToken"]

    def batch_meter_usage(self, lines: Sequence[UsageLine], *, region: str) -> BatchAnswer:
        """Send one batch, once: the ledger retries, byte for byte and to the same Region, not the SDK."""
        request = wire.batch_request(lines)
        answer: BatchAnswer = self._call(
            lambda: _batch_answer(self._client("metering", region).batch_meter_usage(**request), lines)
        )
        return answer

    def describe_agreement(self, agreement_id: str) -> AgreementDetails | None:
        """Trial, term and renewal chain; None where the seller gave no permission for it."""
        if not self._connection.describe_agreements:
            return None
        answer = self._call(lambda: self._client("agreement").describe_agreement(agreementId=agreement_id))
        return AgreementDetails(
            status=answer.get("status", ""),
            initial_agreement_id=answer.get("initialAgreementId"),
            starts_at=answer.get("startTime"),
            ends_at=answer.get("endTime"),
            trial_ends_at=answer.get("freeTrialSummary", {}).get("trialEndTime"),
        )

    def receive_messages(
        self, queue_url: str, *, wait_seconds: int, visibility_seconds: int
    ) -> list[QueueMessage]:
        """Up to ten, which no other receiver gets for ``visibility_seconds`` from now."""
        answer = self._call(
            lambda: self._client("queue").receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=visibility_seconds,
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
        for queue_url, batch in _batches(messages):
            answer = self._call(
                partial(
                    self._client("queue").delete_message_batch,
                    QueueUrl=queue_url,
                    Entries=[
                        {"Id": str(place), "ReceiptHandle": message.receipt}
                        for place, message in enumerate(batch)
                    ],
                )
            )
            for failure in answer.get("Failed", []):
                logger.warning(
                    "Message %s was not deleted and comes again: %s",
                    batch[int(failure["Id"])].message_id,
                    failure.get("Code"),
                )

    def extend_visibility(self, messages: Iterable[QueueMessage], *, seconds: int) -> None:
        """Keep messages from other receivers for so long from now. One that they may have is passed over."""
        for message in messages:
            try:
                self._call(
                    partial(
                        self._client("queue").change_message_visibility,
                        QueueUrl=message.queue_url,
                        ReceiptHandle=message.receipt,
                        VisibilityTimeout=seconds,
                    )
                )
            except MarketplaceError as error:
                if isinstance(error, MarketplaceUnavailable) or error.scope is Scope.ACCOUNT:
                    raise  # so would be the rest
                logger.warning("Message %s is hidden no longer: %s", message.message_id, error.code)

    def _client(self, purpose: str, metering_region: str = "") -> Any:
        with self._lock:
            if (purpose, metering_region) not in self._clients:
                self._clients[purpose, metering_region] = self._new_client(purpose, metering_region)
            return self._clients[purpose, metering_region]

    def _new_client(self, purpose: str, metering_region: str) -> Any:
        connection = self._connection
        service, region = {
            "resolve": ("meteringmarketplace", connection.metering_region),
            # A record's own, frozen when its hour closed: AWS bills an hour once per Region.
            "metering": ("meteringmarketplace", metering_region),
            "entitlement": ("marketplace-entitlement", GLOBAL_REGION),
            "agreement": ("marketplace-agreement", GLOBAL_REGION),
            "queue": ("sqs", GLOBAL_REGION),
            "identity": ("sts", connection.metering_region),
            "rule": ("events", GLOBAL_REGION),
        }[purpose]
        is_metering = purpose == "metering"
        # Metering gets one attempt: a hidden retry could answer for a call whose first try was accepted.
        attempts = 1 if is_metering else 3
        read_timeout = {
            "resolve": min(connection.read_timeout, 5),  # a buyer is waiting
            "queue": connection.read_timeout + 20,  # a long poll is silent for up to 20 seconds
        }.get(purpose, connection.read_timeout)
        return self._session.client(  # type: ignore[call-overload]  # its overloads want a literal service name
            service,
            region_name=region,
            config=_config(
                connection, attempts=attempts, read_timeout=read_timeout, validates=not is_metering
            ),
        )

    def _call(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except ClientError as error:
            details = error.response.get("Error", {})
            metadata = error.response.get("ResponseMetadata", {})
            raise error_for(
                _words(details.get("Code")),
                _words(details.get("Message")),
                status=metadata.get("HTTPStatusCode", 400),
                request_id=_words(metadata.get("RequestId")),
            ) from error
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
            raise MarketplaceError("NoCredentials", str(error)) from error
        except ParamValidationError as error:
            raise MarketplaceError("ParamValidation", str(error)) from error
        except (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError) as error:
            raise MarketplaceUnavailable("Unreachable", type(error).__name__) from error
        except (BotoCoreError, ResponseParserError) as error:
            # Time-outs and broken connections: AWS may or may not have acted.
            raise MarketplaceUnavailable("NoAnswer", type(error).__name__) from error
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, OSError) as error:
            # AWS acted, and says so in a form that its own model does not have: boto3 or we trip over it.
            logger.exception("AWS's answer cannot be read")
            raise MarketplaceUnavailable("UnreadableAnswer", type(error).__name__) from error


@cache
def get_marketplace() -> BotoMarketplace:
    """The process's client, as the settings describe it."""
    return BotoMarketplace(Connection(**settings.MARKETPLACE))


def _session(connection: Connection) -> boto3.Session:
    """The process's own credentials, or a role in the seller's account that renews itself."""
    source = _botocore_session()
    if connection.role_arn is None:
        return boto3.Session(botocore_session=source)
    own = source.get_credentials()
    if own is None:
        return boto3.Session(botocore_session=source)  # every call will say NoCredentials
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=partial(
            source.create_client, region_name=connection.metering_region, config=_config(connection)
        ),
        source_credentials=own,
        role_arn=connection.role_arn,
        extra_args={
            "RoleSessionName": "marketplace-saas",
            **({"ExternalId": connection.role_external_id} if connection.role_external_id else {}),
        },
    )
    assumed = _botocore_session()
    assumed.register_component("credential_provider", CredentialResolver([_AssumedRole(fetcher)]))
    return boto3.Session(botocore_session=assumed)


def _botocore_session() -> Session:
    """As boto3 makes it, but that it reads instants as UTC: this machine's own zone is slow, and nobody's."""
    session = get_session()
    session.register_component("data_loader", _service_models())
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_instant)
    return session


@cache
def _service_models() -> Loader:
    """AWS's descriptions of its services: read from disk once per process, not once per session."""
    return create_loader(get_session().get_config_variable("data_path"))


def _instant(value: Any) -> datetime:
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return parse_timestamp(value).astimezone(UTC)


class _AssumedRole(CredentialProvider):
    """The role's credentials, fetched at the first call and renewed before they expire."""

    METHOD = "assume-role"

    def __init__(self, fetcher: AssumeRoleCredentialFetcher) -> None:
        super().__init__()
        self._fetcher = fetcher

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(self._fetcher.fetch_credentials, self.METHOD)


def _config(
    connection: Connection, *, attempts: int = 3, read_timeout: float | None = None, validates: bool = True
) -> Config:
    """``validates``: whether boto3 looks at parameters first. Of a record it checks less than closing did and
    AWS does, at a tenth of what the call takes."""
    return Config(
        parameter_validation=validates,
        connect_timeout=connection.connect_timeout,
        read_timeout=connection.read_timeout if read_timeout is None else read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=20,
    )


def _batch_answer(answer: dict[str, Any], lines: Sequence[UsageLine]) -> BatchAnswer:
    reference_of = wire.matcher(lines)
    results = [(reference_of(row.get("UsageRecord", {})), row) for row in answer.get("Results", [])]
    unprocessed = map(reference_of, answer.get("UnprocessedRecords", []))
    return BatchAnswer(
        outcomes=tuple(
            UsageOutcome(
                reference, _words(row.get("Status", "")), _words(row.get("MeteringRecordId")) or None
            )
            for reference, row in results
            if reference is not None
        ),
        unprocessed=tuple(reference for reference in unprocessed if reference is not None),
        request_id=_words(answer["ResponseMetadata"].get("RequestId", "")),
    )


def _words(given: Any) -> str:
    """AWS's text as the database can keep it."""
    return "" if given is None else storable(str(given))


def _filter(of: EntitlementFilter) -> dict[str, list[str]]:
    # The two customer keys exclude each other; a license says everything.
    if of.license_arn is not None:
        return {"LICENSE_ARN": [of.license_arn]}
    if of.aws_account_id is not None:
        return {"CUSTOMER_AWS_ACCOUNT_ID": [of.aws_account_id]}
    if of.customer_identifier is not None:
        return {"CUSTOMER_IDENTIFIER": [of.customer_identifier]}
    raise ValueError(
        "An entitlement filter names a license or a customer: without one AWS returns everybody's."
    )


def _entitlement(row: dict[str, Any]) -> GrantedEntitlement:
    values = [row["Value"][kind] for kind in _VALUE_KINDS if kind in row.get("Value", {})]
    if len(values) != 1 or "Dimension" not in row:
        raise MarketplaceError("UnreadableAnswer", "An entitlement has exactly one value and a dimension.")
    return GrantedEntitlement(
        dimension=row["Dimension"],
        value=values[0],
        expires_at=row.get("ExpirationDate"),
        license_arn=row.get("LicenseArn"),
        aws_account_id=row.get("CustomerAWSAccountId"),
        customer_identifier=row.get("CustomerIdentifier"),
    )


_VALUE_KINDS = ("IntegerValue", "DoubleValue", "BooleanValue", "StringValue")


_MOST_ENTRIES = 10  # of one queue, in one batch of SQS's


def _batches(messages: Iterable[QueueMessage]) -> Iterator[tuple[str, list[QueueMessage]]]:
    by_queue: dict[str, list[QueueMessage]] = defaultdict(list)
    for message in messages:
        by_queue[message.queue_url].append(message)
    for queue_url, theirs in by_queue.items():
        for start in range(0, len(theirs), _MOST_ENTRIES):
            yield queue_url, theirs[start : start + _MOST_ENTRIES]


def _milliseconds(text: str | None) -> datetime | None:
    return datetime.fromtimestamp(int(text) / 1000, tz=UTC) if text else None
