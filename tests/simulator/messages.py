"""What lies in the seller's queue: taken, deleted and read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def received(shop, aws) -> Callable[..., list[Any]]:
    """Takes every message that is in the queue now, deletes it, and returns the parsed bodies."""
    client = aws("sqs")

    def _received(queue: str = "marketplace-events") -> list[Any]:
        url = client.get_queue_url(QueueName=queue)["QueueUrl"]
        bodies = []
        while messages := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    return _received


def kinds(bodies: list[Any]) -> list[str]:
    return [body["detail-type"] for body in bodies]


def actions(bodies: list[Any]) -> list[str]:
    return [json.loads(body["Message"])["action"] for body in bodies]


def told(bodies: list[Any]) -> list[str]:
    """Either channel's, without the role it was sent to."""
    return [
        body["detail-type"].partition(" - ")[0]
        if "detail-type" in body
        else json.loads(body["Message"])["action"]
        for body in bodies
    ]
