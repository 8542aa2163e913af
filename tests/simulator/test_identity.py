"""STS and EventBridge, as far as an app asks them: with real boto3."""

from __future__ import annotations

import json

import boto3
import pytest
from botocore.exceptions import ClientError

SELLER = "111111111111"


@pytest.fixture
def client(simulator):
    def make(service, **options):
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", **options}
        return boto3.client(service, region_name="us-east-1", endpoint_url=simulator.url, **keys)

    return make


def test_the_caller_is_the_seller(client):
    answer = client("sts").get_caller_identity()
    assert (answer["Account"], answer["Arn"]) == (SELLER, f"arn:aws:iam::{SELLER}:user/simulated")
    assert answer["ResponseMetadata"]["HTTPHeaders"]["date"]


def test_keys_of_another_account_are_anothers(client, simulator):
    simulator.control.switch(foreign_access_keys=["key"])
    assert client("sts").get_caller_identity()["Account"] == "999999999999"


def test_an_assumed_role_belongs_to_its_account_and_calls_with_its_own_keys(client, simulator):
    role = "arn:aws:iam::222222222222:role/metering"
    given = client("sts").assume_role(RoleArn=role, RoleSessionName="app", ExternalId="kit-42")["Credentials"]
    assert given["Expiration"].tzinfo is not None
    own = client("sts", aws_access_key_id=given["AccessKeyId"], aws_session_token=given["SessionToken"])
    assert own.get_caller_identity()["Account"] == "222222222222"
    asked = simulator.control.requests("AssumeRole")[0]
    assert (asked["request"]["RoleArn"], asked["request"]["ExternalId"]) == (role, "kit-42")


def test_what_is_no_role_cannot_be_assumed(client):
    with pytest.raises(ClientError, match="ValidationError"):
        client("sts").assume_role(RoleArn="arn:aws:iam::222222222222:user/x", RoleSessionName="app")


def test_faults_strike_sts_too_and_are_told_in_its_words(client, simulator):
    simulator.control.fault("AssumeRole", "error", code="AccessDenied", message="not <you>")
    with pytest.raises(ClientError) as denied:
        client("sts").assume_role(RoleArn="arn:aws:iam::222222222222:role/x", RoleSessionName="app")
    assert denied.value.response["Error"] == {
        "Type": "Sender",
        "Code": "AccessDenied",
        "Message": "not <you>",
    }
    assert denied.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_the_rule_takes_the_marketplaces_events_to_the_queue(client):
    rule = client("events").describe_rule(Name="marketplace-events")
    assert (rule["State"], json.loads(rule["EventPattern"])) == (
        "ENABLED",
        {"source": ["aws.agreement-marketplace"]},
    )
    (target,) = client("events").list_targets_by_rule(Rule="marketplace-events")["Targets"]
    queue = client("sqs").get_queue_url(QueueName="marketplace-events")["QueueUrl"]
    attributes = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert target["Arn"] == attributes["QueueArn"]
    first = json.loads(attributes["Policy"])["Statement"][0]
    assert first["Condition"]["ArnLike"]["aws:SourceArn"] == rule["Arn"]


def test_a_queue_that_does_not_receive_them_is_no_target(client, simulator):
    simulator.control.queue("marketplace-events", receives=["sns"])
    assert client("events").list_targets_by_rule(Rule="marketplace-events")["Targets"] == []


def test_no_other_rule_exists(client):
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client("events").describe_rule(Name="another")


def test_a_form_that_is_no_call_is_refused_like_one(simulator, client):
    with pytest.raises(ClientError, match="UnknownOperation"):
        client("sts").get_session_token()
