"""The SQS operations a queue worker calls, over AWS JSON 1.0, on standard queues.

Errors carry the old query code in a header too, because SDKs show that one (the model is
``awsQueryCompatible``).
"""

from __future__ import annotations

import json
import time

from billing.simulator import queues
from billing.simulator.aws import bounds
from billing.simulator.aws.call import Call
from billing.simulator.aws.shapes import Json, Structure, parse
from billing.simulator.errors import AwsError
from billing.simulator.lifecycle import delivery
from billing.simulator.queues import BadHandle, Message, Queue
from billing.simulator.records import SELLER_ACCOUNT_ID
from billing.simulator.state import State

QUEUE_OWNER = "000000000000"
RULE = "marketplace-events"
"""The EventBridge rule that feeds the queues."""
LONGEST_VISIBILITY = 43200
LONGEST_WAIT = 20
MOST_WAITING = 24
"""Long polls beyond this many answer at once: waiting receivers never take the server's last thread."""
GONE_CHECK_SECONDS = 1.0


def queue_url(call: Call, name: str) -> str:
    return f"{call.base_url}/{QUEUE_OWNER}/{name}"


def arn(call: Call, name: str) -> str:
    return f"arn:aws:sqs:{call.region}:{QUEUE_OWNER}:{name}"


def rule_arn(call: Call) -> str:
    return f"arn:aws:events:{call.region}:{SELLER_ACCOUNT_ID}:rule/{RULE}"


def _policy(call: Call, queue: Queue) -> str:
    """Who may send to it: the channels that end in it."""
    sources = {
        "eventbridge": ("events.amazonaws.com", rule_arn(call)),
        "sns": ("sns.amazonaws.com", f"arn:aws:sns:{call.region}:287250355862:aws-mp-*"),
    }
    statements = [
        {
            "Effect": "Allow",
            "Principal": {"Service": sources[channel][0]},
            "Action": "sqs:SendMessage",
            "Resource": arn(call, queue.name),
            "Condition": {"ArnLike": {"aws:SourceArn": sources[channel][1]}},
        }
        for channel in queue.receives
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def get_queue_url(state: State, body: Json, call: Call) -> Json:
    name = _parse(bounds.GET_QUEUE_URL, body)["QueueName"]
    return {"QueueUrl": queue_url(call, _queue(state, name).name)}


def get_queue_attributes(state: State, body: Json, call: Call) -> Json:
    request = _parse(bounds.GET_QUEUE_ATTRIBUTES, body)
    with state.lock:
        queue = _queue_of(state, request)
        delivery.catch_up(state)
        held = list(queues.of(state.messages, queue.name))
        in_flight = sum(message.is_in_flight() for message in held)
        attributes = {
            "QueueArn": arn(call, queue.name),
            "ApproximateNumberOfMessages": str(len(held) - in_flight),
            "ApproximateNumberOfMessagesNotVisible": str(in_flight),
            "ApproximateNumberOfMessagesDelayed": "0",
            "VisibilityTimeout": str(queue.visibility_seconds),
            "ReceiveMessageWaitTimeSeconds": "0",
            "DelaySeconds": "0",
            "SqsManagedSseEnabled": "true",
        }
        if queue.receives:
            attributes["Policy"] = _policy(call, queue)
        if queue.dead_letter_queue:
            policy = {
                "deadLetterTargetArn": arn(call, queue.dead_letter_queue),
                "maxReceiveCount": queue.max_receives,
            }
            attributes["RedrivePolicy"] = json.dumps(policy, separators=(",", ":"))
    return {"Attributes": _chosen(attributes, request.get("AttributeNames", []))}


def receive_message(state: State, body: Json, call: Call) -> Json:
    request = _parse(bounds.RECEIVE_MESSAGE, body)
    limit = _within(request, "MaxNumberOfMessages", default=1, low=1, high=10)
    wait = _within(request, "WaitTimeSeconds", default=0, low=0, high=LONGEST_WAIT)
    deadline = time.monotonic() + wait
    with state.lock:
        queue = _queue_of(state, request)
        visibility = _within(
            request, "VisibilityTimeout", default=queue.visibility_seconds, low=0, high=LONGEST_VISIBILITY
        )
        if state.waiting >= MOST_WAITING:
            deadline = time.monotonic()
        state.waiting += 1
        try:
            received = _receive(
                state, queue.name, call, limit=limit, visibility=visibility, deadline=deadline
            )
        finally:
            state.waiting -= 1
        if not received:
            return {}
        wanted = [*request.get("AttributeNames", []), *request.get("MessageSystemAttributeNames", [])]
        return {"Messages": [_message(message, handle, wanted, call) for message, handle in received]}


def _receive(
    state: State, name: str, call: Call, *, limit: int, visibility: int, deadline: float
) -> list[tuple[Message, str]]:
    """Wait until something is visible, the deadline passes, or nobody listens any more."""
    while True:
        # Whoever hung up while waiting must not take a message with them.
        if call.gone():
            return []
        # Looked up anew each time: a reset while we waited made new queues.
        queue = _queue(state, name)
        delivery.catch_up(state)
        received = queues.receive(
            state.messages, queue, limit=limit, visibility_seconds=visibility, now=state.clock.now()
        )
        remaining = deadline - time.monotonic()
        if received or remaining <= 0:
            return received
        wakes = (
            remaining,
            GONE_CHECK_SECONDS,
            queues.seconds_until_visible(state.messages, name),
            state.real_seconds_until_next_event(),
        )
        state.lock.wait(min(seconds for seconds in wakes if seconds is not None))


def delete_message(state: State, body: Json, call: Call) -> Json:
    request = _parse(bounds.DELETE_MESSAGE, body)
    with state.lock:
        queue = _queue_of(state, request)
        try:
            queues.delete(state.messages, queue.name, request["ReceiptHandle"])
        except BadHandle as bad:
            raise _invalid_handle(bad, request["ReceiptHandle"]) from None
    return {}


def delete_message_batch(state: State, body: Json, call: Call) -> Json:
    request = _parse(bounds.DELETE_MESSAGE_BATCH, body)
    entries: list[Json] = request["Entries"]
    if not entries:
        raise AwsError(
            "EmptyBatchRequest", "There should be at least one DeleteMessageBatchRequestEntry in the request."
        )
    if len(entries) > 10:
        raise AwsError("TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10.")
    if len({entry["Id"] for entry in entries}) < len(entries):
        raise AwsError("BatchEntryIdsNotDistinct", "An Id is repeated in the batch.")
    answer: Json = {"Successful": [], "Failed": []}
    with state.lock:
        queue = _queue_of(state, request)
        for entry in entries:
            try:
                queues.delete(state.messages, queue.name, entry["ReceiptHandle"])
            except BadHandle as bad:
                error = _invalid_handle(bad, entry["ReceiptHandle"])
                failure = {"Id": entry["Id"], "SenderFault": True, "Code": error.code}
                answer["Failed"].append({**failure, "Message": error.message})
            else:
                answer["Successful"].append({"Id": entry["Id"]})
    return answer


def change_message_visibility(state: State, body: Json, call: Call) -> Json:
    request = _parse(bounds.CHANGE_MESSAGE_VISIBILITY, body)
    seconds = _within(request, "VisibilityTimeout", default=0, low=0, high=LONGEST_VISIBILITY)
    with state.lock:
        queue = _queue_of(state, request)
        try:
            message = queues.named_by(state.messages, queue.name, request["ReceiptHandle"])
        except BadHandle as bad:
            raise _invalid_handle(bad, request["ReceiptHandle"]) from None
        if message is None or not message.is_in_flight():
            raise AwsError("MessageNotInflight", "The message referred to is not in flight.")
        queues.hide(state.messages, message, seconds=seconds)
        state.lock.notify_all()
    return {}


def _parse(shape: Structure, body: Json) -> Json:
    try:
        return parse(shape, body)
    except AwsError as error:
        if error.code == "ValidationException":
            raise AwsError("MissingParameter", error.message) from error
        raise


def _queue_of(state: State, request: Json) -> Queue:
    """Only the path of the URL counts: SDKs send the host they were pointed at."""
    return _queue(state, request["QueueUrl"].rstrip("/").rpartition("/")[2])


def _queue(state: State, name: str) -> Queue:
    try:
        return state.queues[name]
    except KeyError:
        raise AwsError("QueueDoesNotExist", "The specified queue does not exist.") from None


def _within(request: Json, name: str, *, default: int, low: int, high: int) -> int:
    value: int = request.get(name, default)
    if not low <= value <= high:
        raise AwsError(
            "InvalidParameterValue",
            f"Value {value} for parameter {name} is invalid. Must be {low} to {high}.",
        )
    return value


def _invalid_handle(bad: BadHandle, handle: str) -> AwsError:
    if bad.is_foreign:
        return AwsError(
            "InvalidParameterValue",
            f"Value {handle} for parameter ReceiptHandle is invalid."
            " Reason: The receipt handle is not valid for this queue.",
        )
    return AwsError("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")


def _chosen(attributes: dict[str, str], wanted: list[str]) -> dict[str, str]:
    return (
        attributes if "All" in wanted else {name: attributes[name] for name in wanted if name in attributes}
    )


def _message(message: Message, handle: str, wanted: list[str], call: Call) -> Json:
    first_received_at = message.first_received_at or message.sent_at
    attributes = {
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "SentTimestamp": str(int(message.sent_at.timestamp() * 1000)),
        "ApproximateReceiveCount": str(message.receive_count),
        "ApproximateFirstReceiveTimestamp": str(int(first_received_at.timestamp() * 1000)),
    }
    if message.moved_from:
        attributes["DeadLetterQueueSourceArn"] = arn(call, message.moved_from)
    answer: Json = {
        "MessageId": message.message_id,
        "ReceiptHandle": handle,
        "MD5OfBody": message.md5,
        "Body": message.body,
    }
    if chosen := _chosen(attributes, wanted):
        answer["Attributes"] = chosen
    return answer
