"""How AWS's events reach us: the queue, its dead letters, the inbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from django.conf import settings

from billing.aws.errors import MarketplaceError
from billing.aws.probes import QueueFacts
from billing.doctor import feeding
from billing.doctor.feeding import DEPLOY
from billing.doctor.findings import Finding, Patient, bad, good, open_question, refused
from billing.models import JobRun, MarketplaceEvent

_STALE = timedelta(minutes=10)
_JOB = "poll_events"


def look(patient: Patient) -> Iterator[Finding]:
    queues = settings.MARKETPLACE_EVENT_QUEUES
    if not queues and settings.SNS_ENDPOINT_TOPICS:
        yield good("queue", "Events come to /marketplace/sns/; there is no queue")
    elif not queues:
        yield bad(
            "queue",
            "Nothing brings AWS's events",
            cause="MARKETPLACE_EVENT_QUEUES and SNS_ENDPOINT_TOPICS are empty.",
            fix=f"{DEPLOY} Set MARKETPLACE_EVENT_QUEUES to its QueueUrl.",
        )
    for url in queues:
        if patient.identity is None:
            yield open_question("queue", f"Queue {_name(url)}: AWS does not know who asks")
        else:
            yield from _queue(url, patient)
    yield from _inbox(patient)


def _queue(url: str, patient: Patient) -> Iterator[Finding]:
    name = _name(url)
    try:
        facts = patient.probes.queue(url)
    except MarketplaceError as error:
        if error.code.endswith(("NonExistentQueue", "QueueDoesNotExist")):
            yield bad(
                "queue",
                f"There is no queue {name}",
                cause=error.code,
                fix=f"{DEPLOY} Set MARKETPLACE_EVENT_QUEUES to its QueueUrl.",
            )
        else:
            yield refused("queue", f"Queue {name}", error, allow="sqs:GetQueueAttributes")
        return
    yield good("queue", f"Queue {name}: {facts.visible} waiting, {facts.in_flight} in hand")
    yield from _permissions(url, name, patient)
    yield _reading(name, facts, patient)
    yield open_question(
        "message age",
        f"Queue {name}: SQS tells the age of the oldest message to CloudWatch only",
        fix="The alarm EventsWaitTooLong of deploy/aws/marketplace.yaml watches it.",
    )
    if not facts.encrypted:
        yield bad("queue encryption", f"Queue {name} is not encrypted at rest", fix=DEPLOY)
    yield from _dead_letters(url, name, facts, patient)
    yield from feeding.look(name, facts, patient)


def _permissions(url: str, name: str, patient: Patient) -> Iterator[Finding]:
    tried: dict[str, Callable[[str], None]] = {
        "sqs:DeleteMessage": patient.probes.try_deleting,
        "sqs:ChangeMessageVisibility": patient.probes.try_hiding,
    }
    for action, attempt in tried.items():
        try:
            attempt(url)
        except MarketplaceError as error:
            yield refused(action, f"Queue {name} ({action})", error, allow=f"{action} on the queue")
        else:
            yield good(action, f"Queue {name} ({action})")


def _reading(name: str, facts: QueueFacts, patient: Patient) -> Finding:
    """To receive is to take messages from whoever else waits for them: the last run of the job tells."""
    check = "sqs:ReceiveMessage"
    run = JobRun.objects.filter(name=_JOB).first()
    if run is None or run.succeeded_at is None:
        if run is not None and run.failed_in_a_row:
            return bad(
                check,
                f"Queue {name} has never been read",
                cause=f"The job {_JOB} failed: {run.error}",
                fix="Allow sqs:ReceiveMessage on the queue, and kms:Decrypt on its key:"
                " deploy/aws/marketplace.yaml.",
            )
        return open_question(
            check,
            f"Queue {name} ({check}) cannot be tried without taking a message",
            fix="Start beat and a worker, then run the doctor again: the job's run proves it.",
        )
    if patient.now - run.succeeded_at > _STALE and facts.visible:
        return bad(
            check,
            f"{facts.visible} messages wait in queue {name}",
            cause=f"It was last read at {run.succeeded_at:%Y-%m-%d %H:%M} UTC."
            + (f" The job {_JOB} fails: {run.error}" if run.failed_in_a_row else ""),
            fix="Start beat and a worker. If they run: allow sqs:ReceiveMessage on the queue, and"
            " kms:Decrypt on its key.",
        )
    return good(check, f"Queue {name} ({check}): last read at {run.succeeded_at:%Y-%m-%d %H:%M} UTC")


def _dead_letters(url: str, name: str, facts: QueueFacts, patient: Patient) -> Iterator[Finding]:
    if facts.dead_letter_arn is None:
        yield bad(
            "dead letters",
            f"Queue {name} has no dead-letter queue",
            cause="A message that cannot be stored is handed out until SQS forgets it.",
            fix=DEPLOY,
        )
        return
    dead = facts.dead_letter_arn.rpartition(":")[2]
    try:
        buried = patient.probes.queue(f"{url.rpartition('/')[0]}/{dead}")
    except MarketplaceError as error:
        yield open_question(
            "dead letters",
            f"Dead letters of {name} cannot be counted ({error.code})",
            fix="Allow sqs:GetQueueAttributes on the dead-letter queue: deploy/aws/marketplace.yaml.",
        )
        return
    if buried.visible:
        yield bad(
            "dead letters",
            f"{buried.visible} events of AWS lie in {dead}",
            cause="They could not be stored, or not be delivered.",
            fix="Find out why in the worker's log, then start a redrive of that queue in the SQS console.",
        )
    else:
        yield good("dead letters", f"No dead letters in {dead}")


def _inbox(patient: Patient) -> Iterator[Finding]:
    states = MarketplaceEvent.State
    failed = MarketplaceEvent.objects.filter(state=states.FAILED).count()
    late = MarketplaceEvent.objects.filter(
        state=states.RECEIVED, received_at__lt=patient.now - _STALE
    ).count()
    if failed:
        yield bad(
            "inbox",
            f"{failed} events of AWS failed",
            fix="Look at them in the admin, Inbox, state Failed: each says why, and can be read again.",
        )
    if late:
        yield bad(
            "inbox",
            f"{late} events of AWS were stored and not applied for over 10 minutes",
            fix="Is the worker running? The log says what it met.",
        )
    if not failed and not late:
        yield good("inbox", "Inbox: nothing failed, nothing waits to be applied")


def _name(url: str) -> str:
    return url.rpartition("/")[2]
