"""The CloudFormation templates: lint, the rule against every event, the role against every call."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from billing.aws.errors import MEANINGS
from billing.doctor import patterns
from billing.inbox import notifications, polling
from billing.simulator.lifecycle import eventbridge
from tests.billing import notices
from tests.billing.test_samples import DAY, LIVE, RENEWED, SAMPLE

FOLDER = settings.BASE_DIR / "deploy/aws"
TEMPLATES = sorted(FOLDER.glob("*.yaml"))


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as its long ones."""


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _intrinsic)


def load(name: str) -> dict[str, Any]:
    template: dict[str, Any] = yaml.load((FOLDER / name).read_text(), _Loader)
    return template


MARKETPLACE = load("marketplace.yaml")
RESOURCES = MARKETPLACE["Resources"]


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = RESOURCES[name]["Properties"]
    return found


def unconditional(items: list[Any]) -> list[Any]:
    """Statements, those under an Fn::If included."""
    return [item["Fn::If"][1] if "Fn::If" in item else item for item in items]


def actions(statement: dict[str, Any]) -> set[str]:
    named = statement["Action"]
    return {named} if isinstance(named, str) else set(named)


def test_cfn_lint_has_nothing_to_say():
    assert len(TEMPLATES) == 2
    lint = Path(sys.executable).with_name("cfn-lint")
    found = subprocess.run(
        [lint, "--include-checks", "I", "--", *TEMPLATES], capture_output=True, text=True, timeout=120
    )
    assert (found.returncode, found.stdout) == (0, "")


# --- The rule


PATTERN = properties("EventRule")["EventPattern"]
# Every kind the Seller Guide names, of either copy, also those whose schema nobody has seen.
KINDS = [
    *notifications._DETAIL_TYPES,
    "Purchase Agreement Ending",
    "Purchase Agreement Renewal Terms Finalized",
    "Purchase Agreement Renewal Upcoming",
    "Agreement Cancellation Request Pending Approval",
    "Purchase Agreement Billing Adjustment Completed",
    "Spend Threshold Reached",
    "Vet Succeeded",
    "A kind that AWS has yet to make",
]


@pytest.mark.parametrize("role", ["", " - Manufacturer", " - Proposer"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_rule_takes_every_kind_of_event(kind, role):
    assert patterns.matches(PATTERN, json.loads(notices.eventbridge(kind + role, DAY)))


@pytest.mark.parametrize("body", [SAMPLE, *LIVE, RENEWED])
def test_the_rule_takes_awss_sample_and_the_live_purchase(body):
    assert patterns.matches(PATTERN, json.loads(body))


def test_the_rule_takes_everything_that_the_simulator_sends(aws):
    bought = aws.buy("reports-flex", quantities={"included_pages": 100}, auto_renew=True)
    aws.control.advance(120)
    aws.control.amend(bought.agreement_id, {"included_pages": 200})
    aws.control.issue_advisory(bought.agreement_id)
    aws.control.resolve_advisory(bought.agreement_id)
    aws.control.cancel(bought.agreement_id)
    other = aws.buy("reports-flex", quantities={"included_pages": 1}, channel_partner="333333333333")
    aws.control.advance(120)
    aws.control.renew(other.agreement_id)
    aws.control.advance(7200)
    bodies = [json.loads(message.body) for message in aws.simulator.state.messages.values()]
    sent = {eventbridge.stem(body["detail-type"]) for body in bodies}
    assert {
        eventbridge.CREATED,
        eventbridge.AMENDED,
        eventbridge.ENDED,
        eventbridge.LICENSE_UPDATED,
        eventbridge.LICENSE_DEPROVISIONED,
        eventbridge.ADVISORY_ISSUED,
        eventbridge.ADVISORY_RESOLVED,
    } <= sent
    assert [body["detail-type"] for body in bodies if not patterns.matches(PATTERN, body)] == []


@pytest.mark.parametrize(
    "foreign",
    [
        {"source": "aws.ec2"},
        {"source": "aws.agreement-marketplace.forged"},
        {"source": "AWS.agreement-marketplace"},
        {"source": "seller.test-publisher"},
        {"source": ""},
        {"source": None},
        {"source": ["aws.ec2"]},
    ],
)
def test_the_rule_takes_nothing_else(foreign):
    event = json.loads(notices.license_updated(DAY, **foreign))
    assert not patterns.matches(PATTERN, event)
    del event["source"]
    assert not patterns.matches(PATTERN, event)


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ({"a": ["x"]}, True),
        ({"a": ["y", "x"]}, True),
        ({"a": ["X"]}, False),
        ({"a": [{"prefix": "x"}]}, True),
        ({"a": [{"prefix": "xx"}]}, False),
        ({"a": [{"suffix": "x"}]}, True),
        ({"a": [{"equals-ignore-case": "X"}]}, True),
        ({"a": [{"anything-but": ["x"]}]}, False),
        ({"a": [{"anything-but": "y"}]}, True),
        ({"a": [{"exists": True}]}, True),
        ({"z": [{"exists": False}]}, True),
        ({"a": [{"exists": False}]}, False),
        ({"b": {"c": [1]}}, True),
        ({"b": {"c": ["1"]}}, False),
        ({"b": {"c": [True]}}, False),
        ({"b": {"d": ["x"]}}, False),
        ({"a": {"b": ["x"]}}, False),
        ({"l": ["two"]}, True),
        ({"l": ["three"]}, False),
        ({"a": ["x"], "z": ["x"]}, False),
        ({}, True),
    ],
)
def test_event_patterns_match_as_eventbridge_documents(pattern, matched):
    event = {"a": "x", "b": {"c": 1}, "l": ["one", "two"]}
    assert patterns.matches(pattern, event) is matched


@pytest.mark.parametrize(
    "pattern",
    [
        {"a": "x"},
        {"a": [{"wildcard": "*"}]},
        {"a": [{"numeric": ["=", 1]}]},
        {"a": [{"prefix": "x", "suffix": "y"}]},
        {"a": [{"prefix": {"equals-ignore-case": "x"}}]},
        {"$or": [{"a": ["x"]}]},
        {"b": ["no"], "a": [{"cidr": "10.0.0.0/8"}]},
    ],
)
def test_what_is_not_understood_is_never_taken_for_a_match(pattern):
    with pytest.raises(patterns.UnknownOperator):
        patterns.matches(pattern, {"a": "x"})


# --- The queue


def test_the_queue_is_as_the_consumer_reads_it():
    queue = properties("EventQueue")
    assert queue["VisibilityTimeout"] == polling.VISIBILITY
    assert queue["RedrivePolicy"]["maxReceiveCount"] >= 3
    for name in ("EventQueue", "DeadLetterQueue"):
        assert properties(name)["KmsMasterKeyId"] == {"Fn::GetAtt": "Key.Arn"}
        assert properties(name)["MessageRetentionPeriod"] == 14 * 24 * 3600
        assert RESOURCES[name]["DeletionPolicy"] == RESOURCES[name]["UpdateReplacePolicy"] == "Retain"
    assert RESOURCES["Key"]["DeletionPolicy"] == "Retain"


@pytest.mark.parametrize("name", ["EventQueuePolicy", "DeadLetterQueuePolicy"])
def test_only_the_rule_and_named_topics_may_send(name):
    statements = unconditional(properties(name)["PolicyDocument"]["Statement"])
    allowed = [one for one in statements if one["Effect"] == "Allow"]
    assert allowed
    for statement in allowed:
        assert actions(statement) == {"sqs:SendMessage"}
        assert set(statement["Principal"]) == {"Service"}
        source = statement["Condition"]["ArnEquals"]["aws:SourceArn"]
        assert source in (
            {"Fn::GetAtt": "EventRule.Arn"},
            {"Ref": "SubscriptionTopicArn"},
            {"Ref": "EntitlementTopicArn"},
        )
    (denied,) = [one for one in statements if one["Effect"] == "Deny"]
    assert (denied["Principal"], denied["Condition"]) == ("*", {"Bool": {"aws:SecureTransport": "false"}})


def test_whoever_sends_to_the_queue_may_use_its_key():
    senders = {
        one["Principal"]["Service"]
        for one in unconditional(properties("EventQueuePolicy")["PolicyDocument"]["Statement"])
        if one["Effect"] == "Allow"
    }
    using = {
        one["Principal"]["Service"]
        for one in unconditional(properties("Key")["KeyPolicy"]["Statement"])
        if actions(one) == {"kms:GenerateDataKey", "kms:Decrypt"}
    }
    assert senders == using


def test_what_the_rule_cannot_deliver_is_kept():
    (target,) = properties("EventRule")["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": "EventQueue.Arn"}
    assert target["DeadLetterConfig"]["Arn"] == {"Fn::GetAtt": "DeadLetterQueue.Arn"}


def test_topics_are_those_of_awss_naming_or_none():
    topic = "arn:aws:sns:us-east-1:287250355862:aws-mp-{}-notification-abc123"
    for parameter, kind in (("SubscriptionTopicArn", "subscription"), ("EntitlementTopicArn", "entitlement")):
        allowed = MARKETPLACE["Parameters"][parameter]["AllowedPattern"]
        assert MARKETPLACE["Parameters"][parameter]["Default"] == ""
        for text, fits in ((topic.format(kind), True), ("", True), (topic.format("x"), False), ("x", False)):
            assert bool(re.fullmatch(allowed, text)) is fits


def test_an_alarm_watches_each_way_that_events_are_lost():
    watched = {
        (one["Properties"]["Namespace"], one["Properties"]["MetricName"])
        for one in RESOURCES.values()
        if one["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert watched == {
        ("AWS/SQS", "ApproximateAgeOfOldestMessage"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
        ("AWS/Events", "FailedInvocations"),
    }


# --- The role


# What a client of a purpose is called in IAM.
SERVICES = {
    "resolve": "aws-marketplace",
    "metering": "aws-marketplace",
    "entitlement": "aws-marketplace",
    "agreement": "aws-marketplace",
    "queue": "sqs",
    "rule": "events",
    "identity": "sts",
}
# SQS has no permission of its own for batches; who one is may everybody ask.
AS_PERMITTED = {"sqs:DeleteMessageBatch": {"sqs:DeleteMessage"}, "sts:GetCallerIdentity": set()}


def called() -> set[str]:
    """IAM's names of every call in billing/aws: `self._client("purpose", …).method`."""
    found: set[str] = set()
    for path in sorted((settings.BASE_DIR / "billing/aws").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):
                client = node.value
                if isinstance(client.func, ast.Attribute) and client.func.attr == "_client":
                    assert isinstance(client.args[0], ast.Constant), f"{path}: the purpose is not written out"
                    method = "".join(word.title() for word in node.attr.split("_"))
                    action = f"{SERVICES[client.args[0].value]}:{method}"
                    found |= AS_PERMITTED.get(action, {action})
    return found


def permitted() -> set[str]:
    (policy,) = properties("AppRole")["Policies"]
    return {
        action
        for statement in unconditional(policy["PolicyDocument"]["Statement"])
        for action in actions(statement)
    }


def test_the_code_is_read_whole():
    source = "".join(path.read_text() for path in (settings.BASE_DIR / "billing/aws").glob("*.py"))
    purposes = set(re.findall(r'^ {12}"(\w+)": \("', source, re.MULTILINE))
    assert purposes == set(SERVICES)
    # Every client is got that way, and used at once.
    assert len(re.findall(r"\b_client\(", source)) - 1 == len(
        re.findall(r'_client\("\w+"[^)]*\)\.\w+', source)
    )
    assert len(called()) >= 10


def test_the_role_permits_exactly_what_the_code_calls_and_reading_what_is_encrypted():
    assert permitted() == called() | {"kms:Decrypt"}


def test_only_what_knows_no_resource_is_permitted_on_all():
    (policy,) = properties("AppRole")["Policies"]
    for statement in unconditional(policy["PolicyDocument"]["Statement"]):
        if statement["Resource"] == "*":
            assert all(action.startswith("aws-marketplace:") for action in actions(statement))
        assert not any("*" in action for action in actions(statement))


def test_the_role_is_assumed_with_the_external_id_only():
    (statement,) = properties("AppRole")["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"AWS": {"Ref": "AppPrincipalArn"}}
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": {"Ref": "ExternalId"}}}
    external_id = MARKETPLACE["Parameters"]["ExternalId"]
    assert external_id["NoEcho"] is True
    assert external_id["MinLength"] >= 16
    assert "Default" not in external_id


def test_the_apps_account_permits_assuming_the_role_and_nothing_else():
    policy = load("app-account.yaml")["Resources"]["AssumeMarketplaceRole"]["Properties"]["PolicyDocument"]
    assert policy["Statement"] == [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": {"Ref": "MarketplaceRoleArn"}}
    ]


def test_the_fix_of_a_refusal_names_every_permission_that_selling_needs():
    fix = MEANINGS["AccessDeniedException"].fix
    optional = {"aws-marketplace:DescribeAgreement", "events:DescribeRule", "events:ListTargetsByRule"}
    for action in called() - optional:
        assert re.search(rf"\b{action.partition(':')[2]}\b", fix), action
    assert MEANINGS["AccessDenied"] is MEANINGS["AccessDeniedException"]


def test_what_the_readme_says_of_parameters_and_outputs_is_there():
    text = (FOLDER / "README.md").read_text()
    for name in MARKETPLACE["Parameters"]:
        assert f"`{name}`" in text, name
    for name in ("QueueUrl", "RoleArn"):
        assert f"`{name}`" in text
        assert name in MARKETPLACE["Outputs"]
    for name in re.findall(r"`(MARKETPLACE_\w+)`", text):
        assert f"{name}=" in (settings.BASE_DIR / ".env.example").read_text()
