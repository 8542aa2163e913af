"""How an SDK's call reaches its operation, and how the answer goes back (facts page §1.1).

In AWS's order: who is asked, in which protocol, who asks, how often, and what. Signatures are not verified,
nobody here holds the secret, but the service name they are scoped to is: a client signing for the wrong
service fails against AWS with exactly this error.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from billing.simulator.aws.bounds import LARGEST_BATCH_BYTES
from billing.simulator.aws.call import Call
from billing.simulator.aws.protocols import CBOR, QUERY, Protocol
from billing.simulator.aws.services import SERVICES, UNKNOWN_SERVICE, Operation, Service
from billing.simulator.aws.shapes import Json
from billing.simulator.clock import iso
from billing.simulator.errors import AwsError, ShapeViolation
from billing.simulator.faults import Fault
from billing.simulator.state import State
from billing.simulator.web import Request, Response

_RPC_PATH = re.compile(r"/service/(?P<service>[^/]+)/operation/(?P<operation>[^/]+)")
_SCOPE = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<access_key>[^/,\s]+)/\d{8}/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)"
    r"/aws4_request *,(?=.*SignedHeaders=\S+)(?=.*Signature=[0-9a-f]{64})"
)


_LONGEST_QUERY = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Address:
    service: Service
    operation: str
    protocol: Protocol


@dataclass(slots=True)
class _Outcome:
    """What is known of a call so far: the log wants it also when the call is refused half way."""

    region: str = ""
    latency: float = 0.0
    fault: Fault | None = None
    over_quota: bool = False


def is_for_aws(request: Request) -> bool:
    """Whether an SDK speaks, not a browser."""
    return (
        bool(request.header("X-Amz-Target"))
        or request.path.startswith("/service/")
        or (request.method == "POST" and request.path == "/")
    )


def answer(state: State, request: Request, *, gone: Callable[[], bool]) -> Response:
    """Answer one SDK call as AWS would, and remember it."""
    started = time.perf_counter()
    address = _address(request)
    outcome = _Outcome()
    request_id = str(uuid.uuid4())
    try:
        content = _perform(state, request, address, outcome, gone)
        status, error = 200, None
    except AwsError as refusal:
        content = _error_content(state, address.service, refusal, request_id)
        status, error = refusal.status, refusal
    payload = address.protocol.write(content)
    fault = outcome.fault
    facts = {
        "request_id": request_id,
        "operation": address.operation,
        "region": outcome.region,
        "status": status,
        "milliseconds": round((time.perf_counter() - started) * 1000, 1),
        "fault": fault.kind if fault else ("latency" if outcome.latency else None),
        "over_quota": outcome.over_quota,
    }
    idle = address.operation == "ReceiveMessage" and status == 200 and not content
    with state.lock:
        state.requests.add(
            {"at": iso(state.clock.now()), **facts},
            protocol=address.protocol,
            sent=request.body,
            answered=payload,
            idle=idle and facts["fault"] is None,
        )
    dropped = fault is not None and fault.kind == "drop_after_accept"
    return Response(status, payload, _headers(address, request_id, error), dropped=dropped)


def _address(request: Request) -> _Address:
    if request.path.startswith("/service/"):
        called = _RPC_PATH.fullmatch(request.path)
        service = SERVICES.get(called["service"], UNKNOWN_SERVICE) if called else UNKNOWN_SERVICE
        return _Address(service, called["operation"] if called else "", CBOR)
    if QUERY.takes(request.environ.get("CONTENT_TYPE", "")) and not request.header("X-Amz-Target"):
        asked = QUERY.read(request.body) if len(request.body) <= _LONGEST_QUERY else {}
        return _Address(
            SERVICES.get(asked.get("Version", ""), UNKNOWN_SERVICE), asked.get("Action", ""), QUERY
        )
    prefix, _, operation = request.header("X-Amz-Target").partition(".")
    service = SERVICES.get(prefix, UNKNOWN_SERVICE)
    return _Address(service, operation, service.protocols[0])


def _perform(
    state: State, request: Request, address: _Address, outcome: _Outcome, gone: Callable[[], bool]
) -> Json:
    service = address.service
    operation = _operation(request, address)
    access_key, outcome.region = _caller(service, request)
    _admit(state, address, outcome)
    body = _body(state, request, address)
    with state.lock:
        outcome.latency, outcome.fault = state.faults.take(address.operation)
    time.sleep(outcome.latency)
    fault = outcome.fault
    kind = fault.kind if fault else None
    if kind == "throttle":
        raise service.error(service.throttled, "Rate exceeded")
    if kind == "internal_error":
        raise service.error(service.broken, "An internal error has occurred.")
    if fault and kind == "error":
        raise service.error(fault.code, fault.text, fault.status)
    call = Call(
        region=outcome.region,
        access_key=access_key,
        base_url=f"{request.environ.get('wsgi.url_scheme', 'http')}://{request.host}",
        unprocessed_share=fault.share if fault and kind == "unprocessed" else 0.0,
        empty_page=kind == "empty_page",
        gone=gone,
    )
    content = operation(state, body, call)
    return {} if kind == "empty" else content


def _operation(request: Request, address: _Address) -> Operation:
    """The operation, if it is asked for as the protocol wants; bodies are read only then."""
    operation = address.service.operations.get(address.operation)
    if operation is None or address.protocol not in address.service.protocols:
        raise _unknown(
            f"The operation is not one of this service, or it does not speak {address.protocol.name}."
        )
    if request.method != "POST":
        raise _unknown("The method is not POST.")
    if address.protocol is CBOR:
        # The protocol's own rules of a malformed request: a missing header, or another protocol's.
        if request.header("smithy-protocol") != "rpc-v2-cbor":
            raise _unknown("The smithy-protocol header is not rpc-v2-cbor.")
        if request.header("X-Amz-Target"):
            raise _unknown("A request to this path must not have an X-Amz-Target header.")
    content_type: str = request.environ.get("CONTENT_TYPE", "")
    if content_type and not address.protocol.takes(content_type):
        raise _unknown(f"The Content-Type is not {address.protocol.content_type}.")
    return operation


def _unknown(message: str) -> AwsError:
    return AwsError("UnknownOperationException", message)


def _caller(service: Service, request: Request) -> tuple[str, str]:
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
    return scope["access_key"], scope["region"]


def _admit(state: State, address: _Address, outcome: _Outcome) -> None:
    """Quotas count every signed call, also those refused further on; faults do not get past them."""
    service = address.service
    with state.lock:
        switches = state.switches
        if service.needs_enabling and outcome.region in switches.disabled_regions:
            raise service.error("DisabledApiException", f"The API is not enabled in {outcome.region}.")
        if switches.quotas and not state.quotas.admits(
            address.operation, outcome.region, moment=time.monotonic()
        ):
            outcome.over_quota = True
            raise service.error(service.throttled, "Rate exceeded")


def _body(state: State, request: Request, address: _Address) -> Json:
    if address.operation == "BatchMeterUsage" and len(request.body) >= LARGEST_BATCH_BYTES:
        raise AwsError(state.switches.oversize_error_code, "The request must be smaller than 1 MB.")
    body = address.protocol.read(request.body) if request.body else {}
    if not isinstance(body, dict):
        raise AwsError("SerializationException", "The request body is not a structure.")
    return body


def _error_content(state: State, service: Service, error: AwsError, request_id: str) -> Json:
    code = error.code
    if isinstance(error, ShapeViolation) and not service.models_validation:
        code = state.switches.shape_error_code
    members = {"requestId": request_id, **error.members} if service.models_validation else error.members
    return {"__type": f"{service.namespace}#{code}", "message": error.message, **members}


def _headers(address: _Address, request_id: str, error: AwsError | None) -> tuple[tuple[str, str], ...]:
    headers = (
        ("Content-Type", address.protocol.content_type),
        ("x-amzn-RequestId", request_id),
        *address.protocol.headers,
    )
    query_codes = address.service.query_codes
    if error is None or query_codes is None:
        return headers
    blame = "Receiver" if error.status >= 500 else "Sender"
    return (*headers, ("x-amzn-query-error", f"{query_codes.get(error.code, error.code)};{blame}"))
