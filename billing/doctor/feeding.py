"""Who feeds a queue: its policy, and the EventBridge rule that the policy names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from billing.aws.errors import MarketplaceError
from billing.aws.probes import QueueFacts, RuleFacts
from billing.doctor import patterns
from billing.doctor.findings import Finding, Patient, bad, good, open_question

DEPLOY = "Deploy deploy/aws/marketplace.yaml, or compare with it."
_RULE = re.compile(r"arn:aws[a-z-]*:events:us-east-1:\d{12}:rule/(?P<name>[\w.-]+)")
_KINDS = (
    "Purchase Agreement Created - Proposer",
    "Purchase Agreement Created - Manufacturer",
    "Purchase Agreement Amended - Proposer",
    "Purchase Agreement Ended - Proposer",
    "Purchase Agreement Ended - Manufacturer",
    "License Updated - Manufacturer",
    "License Deprovisioned - Manufacturer",
    "Purchase Agreement Advisory Issued - Manufacturer",
)


def look(name: str, facts: QueueFacts, patient: Patient) -> Iterator[Finding]:
    statements = facts.policy.get("Statement", [])
    statements = statements if isinstance(statements, list) else [statements]
    allowed = [one for one in statements if isinstance(one, dict) and one.get("Effect") == "Allow"]
    by_rule = [one for one in allowed if _is_service(one, "events.amazonaws.com")]
    by_topic = [one for one in allowed if _is_service(one, "sns.amazonaws.com")]
    if any(not one.get("Condition") for one in by_rule + by_topic):
        yield bad(
            "queue policy",
            f"Anybody's rule or topic may send to queue {name}",
            cause="A statement of its policy has no condition on aws:SourceArn.",
            fix=DEPLOY,
        )
    if not by_rule and by_topic:
        yield good("rule", f"Queue {name} is fed by SNS")
        return
    if not by_rule:
        yield bad(
            "rule",
            f"Nothing may send to queue {name}",
            cause="Its policy lets neither events.amazonaws.com nor sns.amazonaws.com in.",
            fix=DEPLOY,
        )
        return
    names = [found["name"] for one in by_rule for arn in _sources(one) if (found := _RULE.fullmatch(arn))]
    if not names:
        yield open_question(
            "rule",
            f"The policy of queue {name} names no rule of us-east-1",
            fix="AWS Marketplace speaks in us-east-1 only: the rule must be there. Name it in aws:SourceArn.",
        )
    for rule in names:
        yield from _rule(rule, facts, patient)


def _rule(name: str, queue: QueueFacts, patient: Patient) -> Iterator[Finding]:
    try:
        rule = patient.probes.rule(name)
    except MarketplaceError as error:
        if error.code == "ResourceNotFoundException":
            yield bad("rule", f"There is no rule {name}, which the queue's policy names", fix=DEPLOY)
        else:
            yield open_question(
                "rule",
                f"The rule {name} cannot be looked at ({error.code})",
                fix="Allow events:DescribeRule and events:ListTargetsByRule on it:"
                " deploy/aws/marketplace.yaml.",
            )
        return
    problems = list(_problems(name, rule, queue))
    yield from problems or [good("rule", f"The rule {name} takes AWS Marketplace's events to the queue")]


def _problems(name: str, rule: RuleFacts, queue: QueueFacts) -> Iterator[Finding]:
    if not rule.enabled:
        yield bad("rule", f"The rule {name} is disabled", fix=f"aws events enable-rule --name {name}")
    if queue.arn not in rule.target_arns:
        yield bad("rule", f"The rule {name} does not send to {queue.arn}", fix=DEPLOY)
    try:
        missed = [kind for kind in _KINDS if not patterns.matches(rule.pattern, _event(kind))]
    except patterns.UnknownOperator as unknown:
        yield open_question(
            "rule pattern", f"The pattern of rule {name} cannot be judged: {unknown}", fix=DEPLOY
        )
        return
    if missed or not rule.pattern:
        yield bad(
            "rule pattern",
            f"The rule {name} passes over: {', '.join(missed) or 'everything'}",
            fix='Its pattern is to be {"source": ["aws.agreement-marketplace"]}.',
        )


def _event(kind: str) -> dict[str, Any]:
    return {
        "source": "aws.agreement-marketplace",
        "detail-type": kind,
        "region": "us-east-1",
        "detail": {"catalog": "AWSMarketplace"},
    }


def _is_service(statement: dict[str, Any], service: str) -> bool:
    principal = statement.get("Principal")
    named = principal.get("Service") if isinstance(principal, dict) else None
    return service in (named if isinstance(named, list) else [named])


def _sources(statement: dict[str, Any]) -> Iterator[str]:
    for condition in (statement.get("Condition") or {}).values():
        for key, value in condition.items():
            if key.lower() == "aws:sourcearn":
                yield from value if isinstance(value, list) else [value]
