"""AWS SNS over HTTPS, where a queue will not do: off unless SNS_ENDPOINT_TOPICS names whom to listen to.

The address is public, so nothing is believed before its signature is verified, and nobody is told why it is
refused. What is good goes to the inbox as if from a queue: the same message again, on either way, is one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from datetime import datetime, timedelta

from cryptography.x509.verification import Store

from billing import events
from billing.aws.sns_signature import Fetch, SignatureRefused, download, is_at_sns, verify
from billing.aws.types import QueueMessage

logger = logging.getLogger(__name__)

# SNS posts again for an hour at most. What is older and signed does no harm, but is not from SNS today.
_OLDEST, _AHEAD = timedelta(hours=24), timedelta(minutes=5)


class Refused(Exception):
    """Nothing that we take in. The text is for our log, and quotes nothing of what was posted."""


class Unreachable(Exception):
    """AWS could not be asked about it: it should come again."""


def receive(
    body: bytes,
    *,
    topics: Collection[str],
    now: datetime,
    fetch: Fetch = download,
    roots: Store | None = None,
) -> bool:
    """Take in what was posted. Returns whether there is an event to apply. Raises Refused or Unreachable."""
    text, message = _envelope(body)
    topic = message.get("TopicArn", "")
    # Before anything is fetched: a stranger's message costs us no request.
    if topic not in topics:
        raise Refused("Its TopicArn is not in SNS_ENDPOINT_TOPICS")
    sent_at = _time(message.get("Timestamp", ""))
    if not now - _OLDEST <= sent_at <= now + _AHEAD:
        raise Refused("Its Timestamp is not of today")
    try:
        verify(message, now=now, fetch=fetch, roots=roots)
    except SignatureRefused as refused:
        raise Refused(refused.reason) from refused
    except OSError as error:
        raise Unreachable(f"The certificate of SNS cannot be had: {error}") from error
    if message["Type"] == "SubscriptionConfirmation":
        _confirm(message["SubscribeURL"], topic=topic, fetch=fetch)
        return False
    if message["Type"] == "UnsubscribeConfirmation":
        logger.warning("The subscription of this endpoint to %s has ended: its events come no more", topic)
        return False
    events.store(
        QueueMessage(
            queue_url=topic, message_id=message["MessageId"], receipt="", body=text, sent_at=sent_at
        ),
        now=now,
    )
    return True


def _envelope(body: bytes) -> tuple[str, dict[str, str]]:
    """The body, and what in it is text: SNS signs nothing else."""
    try:
        text = body.decode()
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused("It is not JSON") from error
    if not isinstance(parsed, dict):
        raise Refused("It is not a JSON object")
    if "detail-type" in parsed:
        # That key is not signed, and the inbox would read the message as an event of EventBridge.
        raise Refused("It poses as an event of EventBridge")
    return text, {key: value for key, value in parsed.items() if isinstance(value, str)}


def _time(timestamp: str) -> datetime:
    try:
        instant = datetime.fromisoformat(timestamp)
    except ValueError as error:
        raise Refused("Its Timestamp is not a time") from error
    if instant.tzinfo is None:
        raise Refused("Its Timestamp has no time zone")
    return instant


def _confirm(url: str, *, topic: str, fetch: Fetch) -> None:
    # The address holds a token: it stands in no log, nor does what a failing request says of it.
    if not is_at_sns(url, topic_arn=topic):
        raise Refused("Its SubscribeURL is not at SNS in the topic's Region")
    try:
        fetch(url)
    except FileNotFoundError:
        raise Refused("SNS does not take its SubscribeURL") from None
    except OSError:
        raise Unreachable("SNS does not answer at its SubscribeURL") from None
    logger.info("This endpoint is subscribed to %s", topic)
