"""The AWS services this simulator is: what each calls itself, speaks and answers, and its accidents' codes.

The names are those of the service models' metadata; statuses are the models' too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from billing.simulator.aws import agreement, entitlement, identity, metering, registration, rules, sqs
from billing.simulator.aws.call import Call
from billing.simulator.aws.protocols import CBOR, JSON_1_0, JSON_1_1, QUERY, Protocol
from billing.simulator.aws.shapes import Json
from billing.simulator.errors import AwsError
from billing.simulator.state import State

Operation = Callable[[State, Json, Call], Json]


@dataclass(frozen=True, slots=True)
class Service:
    signing_name: str
    namespace: str
    """Of its shapes in AWS's published Smithy models: SDKs on CBOR find the error's class by it."""
    protocols: tuple[Protocol, ...]
    """AWS JSON in the service's version first, then what else its model lists."""
    operations: Mapping[str, Operation]
    throttled: str = "ThrottlingException"
    broken: str = "InternalFailure"
    statuses: Mapping[str, int] = field(default_factory=dict)
    """Of codes that are not answered with 400."""
    needs_enabling: bool = False
    """Whether a Region may have it disabled."""
    models_validation: bool = False
    """Whether its model names ValidationException, and its errors carry the request id."""
    query_codes: Mapping[str, str] | None = None
    """What it called its errors before it spoke JSON; SDKs still report these."""

    def error(self, code: str, message: str, status: int | None = None) -> AwsError:
        return AwsError(code, message, status=status or self.statuses.get(code, 400))


STS = "2011-06-15"
"""Query services are told apart by the version that a request names."""
SERVICES = {
    "AWSMPMeteringService": Service(
        signing_name="aws-marketplace",
        namespace="com.amazonaws.marketplacemetering",
        protocols=(JSON_1_1,),
        operations={
            "ResolveCustomer": registration.resolve_customer,
            "BatchMeterUsage": metering.batch_meter_usage,
        },
        broken="InternalServiceErrorException",
        statuses={"InternalServiceErrorException": 500},
        needs_enabling=True,
    ),
    "AWSMPEntitlementService": Service(
        signing_name="aws-marketplace",
        namespace="com.amazonaws.marketplaceentitlementservice",
        protocols=(JSON_1_1, CBOR),
        operations={"GetEntitlements": entitlement.get_entitlements},
        broken="InternalServiceErrorException",
        statuses={"InternalServiceErrorException": 500},
    ),
    "AWSMPCommerceService_v20200301": Service(
        signing_name="aws-marketplace",
        namespace="com.amazonaws.marketplaceagreement",
        protocols=(JSON_1_0, CBOR),
        operations={"DescribeAgreement": agreement.describe_agreement},
        broken="InternalServerException",
        statuses={
            "AccessDeniedException": 403,
            "ResourceNotFoundException": 404,
            "ThrottlingException": 429,
            "InternalServerException": 500,
        },
        models_validation=True,
    ),
    "AmazonSQS": Service(
        signing_name="sqs",
        namespace="com.amazonaws.sqs",
        protocols=(JSON_1_0,),
        operations={
            "GetQueueUrl": sqs.get_queue_url,
            "GetQueueAttributes": sqs.get_queue_attributes,
            "ReceiveMessage": sqs.receive_message,
            "DeleteMessage": sqs.delete_message,
            "DeleteMessageBatch": sqs.delete_message_batch,
            "ChangeMessageVisibility": sqs.change_message_visibility,
        },
        throttled="RequestThrottled",
        statuses={"InternalFailure": 500},
        query_codes={
            "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
            **{
                code: f"AWS.SimpleQueueService.{code}"
                for code in (
                    "EmptyBatchRequest",
                    "TooManyEntriesInBatchRequest",
                    "BatchEntryIdsNotDistinct",
                    "MessageNotInflight",
                )
            },
        },
    ),
    "AWSEvents": Service(
        signing_name="events",
        namespace="com.amazonaws.events",
        protocols=(JSON_1_1,),
        operations={
            "DescribeRule": rules.describe_rule,
            "ListTargetsByRule": rules.list_targets_by_rule,
        },
        statuses={"InternalFailure": 500},
    ),
    STS: Service(
        signing_name="sts",
        namespace="com.amazonaws.sts",
        protocols=(QUERY,),
        operations={"GetCallerIdentity": identity.get_caller_identity, "AssumeRole": identity.assume_role},
        throttled="Throttling",
        statuses={"AccessDenied": 403, "InvalidClientTokenId": 403, "InternalFailure": 500},
    ),
}
UNKNOWN_SERVICE = Service(
    signing_name="", namespace="com.amazon.coral.service", protocols=(JSON_1_1, CBOR), operations={}
)
