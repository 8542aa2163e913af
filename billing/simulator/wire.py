"""AWS JSON over HTTP (facts page §1.1): X-Amz-Target dispatch, SigV4 scope, ``__type`` errors, request ids.

Signatures are not verified, nobody here holds the secret, but the service name they are scoped to is: a
client signing for the wrong service fails against AWS with exactly this error.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from billing.simulator import agreement, entitlement, metering, registration, sqs
from billing.simulator.bounds import LARGEST_BATCH_BYTES
from billing.simulator.call import Call
from billing.simulator.clock import iso
from billing.simulator.errors import AwsError
from billing.simulator.faults import Fault
from billing.simulator.request_log import LARGEST_PAYLOAD, mask
from billing.simulator.shapes import Json
from billing.simulator.state import State
from billing.simulator.web import Request, Response

Operation = Callable[[State, Json, Call], Json]


@dataclass(frozen=True, slots=True)
class Service:
    """How one AWS service speaks, and the codes of its accidents."""

    signing_name: str
    json_version: str
    namespace: str
    operations: dict[str, Operation]
    throttled: Callable[[], AwsError]
    broken: Callable[[], AwsError]


SERVICES = {
    "AWSMPMeteringService": Service(
        signing_name="aws-marketplace",
        json_version="1.1",
        namespace="com.amazonaws.awsmarketplace.metering",
        operations={
            "ResolveCustomer": registration.resolve_customer,
            "BatchMeterUsage": metering.batch_meter_usage,
        },
        throttled=partial(AwsError, "ThrottlingException", "Rate exceeded"),
        broken=partial(
            AwsError, "InternalServiceErrorException", "An internal error has occurred.", status=500
        ),
    ),
    "AWSMPEntitlementService": Service(
        signing_name="aws-marketplace",
        json_version="1.1",
        namespace="com.amazonaws.awsmarketplace.entitlement",
        operations={"GetEntitlements": entitlement.get_entitlements},
        throttled=partial(AwsError, "ThrottlingException", "Rate exceeded"),
        broken=partial(
            AwsError, "InternalServiceErrorException", "An internal error has occurred.", status=500
        ),
    ),
    "AWSMPCommerceService_v20200301": Service(
        signing_name="aws-marketplace",
        json_version="1.0",
        namespace="com.amazonaws.awsmpcommerceservice",
        operations={"DescribeAgreement": agreement.describe_agreement},
        throttled=partial(AwsError, "ThrottlingException", "Rate exceeded", status=429),
        broken=partial(AwsError, "InternalServerException", "An internal error has occurred.", status=500),
    ),
    "AmazonSQS": Service(
        signing_name="sqs",
        json_version="1.0",
        namespace="com.amazonaws.sqs",
        operations={
            "GetQueueUrl": sqs.get_queue_url,
            "GetQueueAttributes": sqs.get_queue_attributes,
            "ReceiveMessage": sqs.receive_message,
            "DeleteMessage": sqs.delete_message,
            "DeleteMessageBatch": sqs.delete_message_batch,
            "ChangeMessageVisibility": sqs.change_message_visibility,
        },
        throttled=partial(AwsError, "RequestThrottled", "Rate exceeded"),
        broken=partial(AwsError, "InternalFailure", "An internal error has occurred.", status=500),
    ),
}

# What SQS called its errors before it spoke JSON; SDKs still report these.
_QUERY_CODES = {"QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue"} | {
    code: f"AWS.SimpleQueueService.{code}"
    for code in (
        "EmptyBatchRequest",
        "TooManyEntriesInBatchRequest",
        "BatchEntryIdsNotDistinct",
        "MessageNotInflight",
    )
}
_UNKNOWN_SERVICE = Service(
    signing_name="",
    json_version="1.1",
    namespace="com.amazon.coral.service",
    operations={},
    throttled=partial(AwsError, "ThrottlingException", "Rate exceeded"),
    broken=partial(AwsError, "InternalFailure", "An internal error has occurred.", status=500),
)
_SCOPE = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=[^/,\s]+/\d{8}/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)/aws4_request *,"
    r"(?=.*SignedHeaders=\S+)(?=.*Signature=[0-9a-f]{64})"
)


def answer(state: State, request: Request, *, gone: Callable[[], bool]) -> Response:
    """Answer one SDK call as AWS would, and remember it."""
    started = time.perf_counter()
    prefix, _, name = request.header("X-Amz-Target").partition(".")
    service = SERVICES.get(prefix, _UNKNOWN_SERVICE)
    latency, fault = 0.0, None
    region, body = "", None
    try:
        operation = _operation(service, name)
        region = _region(service, request)
        body = _body(request, name)
        with state.lock:
            latency, fault = state.faults.take(name)
        time.sleep(latency)
        content: Json = _perform(state, service, operation, body, _call(request, region, fault, gone), fault)
        status, error = 200, None
    except AwsError as refusal:
        status, error, content = refusal.status, refusal, _error_content(service, refusal)
    request_id = str(uuid.uuid4())
    dropped = fault is not None and fault.kind == "drop_after_accept"
    payload = json.dumps(content, separators=(",", ":")).encode()
    entry = {
        "request_id": request_id,
        "operation": name,
        "region": region,
        "request": _shown(body, len(request.body)),
        "status": status,
        "response": _shown(content, len(payload)),
        "milliseconds": round((time.perf_counter() - started) * 1000, 1),
        "fault": fault.kind if fault else ("latency" if latency else None),
    }
    with state.lock:
        state.requests.add({"at": iso(state.clock.now()), **entry})
    return Response(status, payload, _headers(service, request_id, error), dropped=dropped)


def _operation(service: Service, name: str) -> Operation:
    try:
        return service.operations[name]
    except KeyError:
        raise AwsError("UnknownOperationException", "The operation is not one of this service.") from None


def _region(service: Service, request: Request) -> str:
    """Check that the call is signed, and for whom; the Region it is signed for is the Region it is in."""
    authorization = request.header("Authorization")
    if not authorization:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token")
    scope = _SCOPE.match(authorization)
    if scope is None:
        raise AwsError(
            "IncompleteSignatureException", "Authorization header is not a complete SigV4 signature."
        )
    if scope["service"] != service.signing_name:
        raise AwsError(
            "InvalidSignatureException",
            f"Credential should be scoped to correct service: '{service.signing_name}'.",
        )
    return scope["region"]


def _body(request: Request, operation: str) -> Json:
    if operation == "BatchMeterUsage" and len(request.body) >= LARGEST_BATCH_BYTES:
        raise AwsError("ValidationException", "The request must be smaller than 1 MB.")
    try:
        body = json.loads(request.body or b"{}", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise AwsError("SerializationException", "The request body is not JSON.") from None
    if not isinstance(body, dict):
        raise AwsError("SerializationException", "The request body is not a JSON object.")
    return body


def _no_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _call(request: Request, region: str, fault: Fault | None, gone: Callable[[], bool]) -> Call:
    scheme = request.environ.get("wsgi.url_scheme", "http")
    return Call(
        region=region,
        base_url=f"{scheme}://{request.host}",
        unprocessed_share=fault.share if fault and fault.kind == "unprocessed" else 0.0,
        gone=gone,
    )


def _perform(
    state: State, service: Service, operation: Operation, body: Json, call: Call, fault: Fault | None
) -> Json:
    if fault and fault.kind == "throttle":
        raise service.throttled()
    if fault and fault.kind == "internal_error":
        raise service.broken()
    content = operation(state, body, call)
    return {} if fault and fault.kind == "empty" else content


def _error_content(service: Service, error: AwsError) -> Json:
    return {"__type": f"{service.namespace}#{error.code}", "message": error.message, **error.members}


def _headers(service: Service, request_id: str, error: AwsError | None) -> tuple[tuple[str, str], ...]:
    headers = (
        ("Content-Type", f"application/x-amz-json-{service.json_version}"),
        ("x-amzn-RequestId", request_id),
    )
    if error is None or service is not SERVICES["AmazonSQS"]:
        return headers
    blame = "Receiver" if error.status >= 500 else "Sender"
    return (*headers, ("x-amzn-query-error", f"{_QUERY_CODES.get(error.code, error.code)};{blame}"))


def _shown(content: Json | None, size: int) -> object:
    """What the request log keeps: all of it unless it is large, never a token."""
    if size > LARGEST_PAYLOAD:
        return f"({size} bytes, not kept)"
    return mask(content)
