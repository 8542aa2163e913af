"""EventBridge as far as it concerns the seller: the one rule that brings its events to queues."""

from __future__ import annotations

import json

from billing.simulator.aws import sqs
from billing.simulator.aws.call import Call
from billing.simulator.aws.shapes import Json, Structure, Text, Whole, parse
from billing.simulator.errors import AwsError
from billing.simulator.state import State

PATTERN = {"source": ["aws.agreement-marketplace"]}
_DESCRIBE_RULE = Structure(
    {"Name": Text(min=1, max=64), "EventBusName": Text(min=1, max=1600)}, required=("Name",)
)
_LIST_TARGETS = Structure(
    {
        "Rule": Text(min=1, max=64),
        "EventBusName": Text(min=1, max=1600),
        "NextToken": Text(min=1, max=2048),
        "Limit": Whole(min=1, max=100),
    },
    required=("Rule",),
)


def describe_rule(state: State, body: Json, call: Call) -> Json:
    name = _known(parse(_DESCRIBE_RULE, body)["Name"])
    return {
        "Name": name,
        "Arn": sqs.rule_arn(call),
        "EventPattern": json.dumps(PATTERN),
        "State": "ENABLED",
        "EventBusName": "default",
    }


def list_targets_by_rule(state: State, body: Json, call: Call) -> Json:
    _known(parse(_LIST_TARGETS, body)["Rule"])
    with state.lock:
        fed = [queue.name for queue in state.queues.values() if "eventbridge" in queue.receives]
    return {"Targets": [{"Id": name, "Arn": sqs.arn(call, name)} for name in fed]}


def _known(name: str) -> str:
    if name != sqs.RULE:
        raise AwsError("ResourceNotFoundException", f"Rule {name} does not exist on EventBus default.")
    return name
