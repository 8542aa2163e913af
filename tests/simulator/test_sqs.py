from __future__ import annotations

import base64
import hashlib
import json
import threading
import time

import pytest
from botocore.exceptions import ClientError

from billing.simulator import queues
from billing.simulator.aws import sqs as simulated
from billing.simulator.client import ControlError
from billing.simulator.queues import Messages, Queue
from tests.simulator.conftest import NOON, code_of


@pytest.fixture
def sqs(shop, aws):
    return aws("sqs")


@pytest.fixture
def url(sqs):
    return sqs.get_queue_url(QueueName="marketplace-events")["QueueUrl"]


@pytest.fixture
def two_messages(shop):
    shop.control.subscribe("reports-payg")
    shop.control.advance(5)


def refusal(call, **request):
    with pytest.raises(ClientError) as error:
        call(**request)
    return code_of(error)


def receive(sqs, url, **options):
    return sqs.receive_message(QueueUrl=url, **{"MaxNumberOfMessages": 10, **options}).get("Messages", [])


def test_the_queue_url_names_this_server(simulator, url):
    assert url == f"{simulator.url}/000000000000/marketplace-events"


def test_a_message_has_body_digest_and_the_attributes_asked_for(sqs, url, two_messages):
    message = receive(sqs, url, MessageSystemAttributeNames=["All"])[0]
    assert message["MD5OfBody"] == hashlib.md5(message["Body"].encode()).hexdigest()
    assert message["Attributes"]["SentTimestamp"] == str(int(NOON.timestamp() * 1000) + 2000)
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert "ApproximateFirstReceiveTimestamp" in message["Attributes"]


def test_attributes_may_be_chosen_or_left_out(sqs, url, two_messages):
    assert "Attributes" not in receive(sqs, url, VisibilityTimeout=0)[0]
    chosen = receive(sqs, url, AttributeNames=["ApproximateReceiveCount", "SequenceNumber"])[0]
    assert chosen["Attributes"] == {"ApproximateReceiveCount": "2"}


def test_a_received_message_is_hidden_until_its_visibility_ends(sqs, url, two_messages):
    assert len(receive(sqs, url, VisibilityTimeout=1)) == 2
    assert receive(sqs, url) == []
    again = receive(sqs, url, WaitTimeSeconds=5, AttributeNames=["All"])
    assert [message["Attributes"]["ApproximateReceiveCount"] for message in again] == ["2", "2"]


def test_messages_come_one_at_a_time_unless_asked_otherwise(sqs, url, two_messages):
    assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1


def test_a_deleted_message_is_gone_and_deleting_again_is_fine(sqs, url, two_messages):
    for message in receive(sqs, url, VisibilityTimeout=0):
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert receive(sqs, url) == []


def test_messages_are_deleted_in_batches(sqs, url, two_messages):
    entries = [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
        for number, message in enumerate(receive(sqs, url, VisibilityTimeout=0))
    ]
    answer = sqs.delete_message_batch(
        QueueUrl=url, Entries=[*entries, {"Id": "bad", "ReceiptHandle": "none"}]
    )
    assert [entry["Id"] for entry in answer["Successful"]] == ["0", "1"]
    assert [entry["Code"] for entry in answer["Failed"]] == ["ReceiptHandleIsInvalid"]
    assert receive(sqs, url) == []


def test_bad_batches_are_refused(sqs, url):
    def code(entries):
        return refusal(sqs.delete_message_batch, QueueUrl=url, Entries=entries)

    assert code([]).endswith("EmptyBatchRequest")
    assert code([{"Id": "a", "ReceiptHandle": "x"}] * 2).endswith("BatchEntryIdsNotDistinct")
    many = [{"Id": str(number), "ReceiptHandle": "x"} for number in range(11)]
    assert code(many).endswith("TooManyEntriesInBatchRequest")


def test_visibility_can_be_given_back_and_extended(sqs, url, two_messages):
    first, second = receive(sqs, url)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"], VisibilityTimeout=60)
    assert [message["MessageId"] for message in receive(sqs, url)] == [first["MessageId"]]


def test_visibility_of_what_is_not_in_flight_cannot_change(sqs, url, two_messages):
    (first, _) = receive(sqs, url, VisibilityTimeout=0)
    change = sqs.change_message_visibility
    handle = first["ReceiptHandle"]
    assert refusal(change, QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=5).endswith(
        "MessageNotInflight"
    )
    assert (
        refusal(change, QueueUrl=url, ReceiptHandle="none", VisibilityTimeout=5) == "ReceiptHandleIsInvalid"
    )
    assert (
        refusal(change, QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=43201)
        == "InvalidParameterValue"
    )


def test_attributes_count_what_waits_and_what_is_in_flight(sqs, url, two_messages):
    receive(sqs, url, MaxNumberOfMessages=1)
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == "1"
    assert attributes["ApproximateNumberOfMessagesNotVisible"] == "1"
    assert attributes["QueueArn"] == "arn:aws:sqs:us-east-1:000000000000:marketplace-events"


def test_a_queue_that_does_not_exist_is_the_error_sdks_know(sqs, shop):
    assert refusal(sqs.get_queue_url, QueueName="none") == "AWS.SimpleQueueService.NonExistentQueue"
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.receive_message(QueueUrl=f"{shop.url}/000000000000/none")


def test_bad_parameters_are_refused(aws, sqs, url):
    assert refusal(sqs.receive_message, QueueUrl=url, MaxNumberOfMessages=11) == "InvalidParameterValue"
    assert refusal(sqs.receive_message, QueueUrl=url, WaitTimeSeconds=21) == "InvalidParameterValue"
    assert refusal(sqs.delete_message, QueueUrl=url, ReceiptHandle="none") == "ReceiptHandleIsInvalid"
    careless = aws("sqs", careless=True)
    assert refusal(careless.delete_message, QueueUrl=url) == "MissingParameter"
    assert refusal(careless.delete_message, QueueUrl=url, ReceiptHandle=3) == "SerializationException"


def test_throttling_has_the_name_it_has_in_sqs(shop, sqs, url):
    shop.control.fault("ReceiveMessage", "throttle")
    assert refusal(sqs.receive_message, QueueUrl=url) == "RequestThrottled"
    shop.control.fault("ReceiveMessage", "internal_error")
    assert refusal(sqs.receive_message, QueueUrl=url) == "InternalFailure"


class Waiting(threading.Thread):
    """Receives in the background, and remembers what it got and how long that took."""

    def __init__(self, sqs, url, seconds=20):
        super().__init__()
        self._receive = lambda: receive(sqs, url, WaitTimeSeconds=seconds)
        self.got = None
        self.seconds = 0.0
        self.start()

    def run(self):
        started = time.monotonic()
        self.got = self._receive()
        self.seconds = time.monotonic() - started


def test_a_long_poll_ends_as_soon_as_a_moved_clock_makes_an_event_due(shop, sqs, url):
    shop.control.subscribe("reports-payg")
    waiting = Waiting(sqs, url)
    time.sleep(0.3)
    shop.control.advance(5)
    waiting.join(5)
    assert len(waiting.got) == 2
    assert 0.2 < waiting.seconds < 10  # not the 20 it would have waited


def test_a_long_poll_ends_when_time_passes_and_an_event_falls_due(shop, sqs, url):
    shop.control.resume()
    shop.control.subscribe("reports-payg", agreement_created_after=1)
    waiting = Waiting(sqs, url)
    waiting.join(5)
    assert len(waiting.got) == 1
    assert waiting.seconds < 10  # not the 20 it would have waited


def test_a_long_poll_without_messages_ends_on_time(sqs, url):
    waiting = Waiting(sqs, url, seconds=1)
    waiting.join(5)
    assert waiting.got == []
    assert 0.9 < waiting.seconds < 10  # not the 20 it would have waited


def test_long_polls_do_not_keep_others_waiting(shop, aws, url, monkeypatch):
    monkeypatch.setattr(simulated, "MOST_WAITING", 2)
    pollers = [Waiting(aws("sqs"), url, seconds=2) for _ in range(2)]
    time.sleep(0.3)
    started = time.monotonic()
    assert receive(aws("sqs"), url, WaitTimeSeconds=20) == []
    assert time.monotonic() - started < 10
    shop.control.subscribe("reports-payg", agreement_created_after=0, license_updated_after=0)
    for poller in pollers:
        poller.join(6)
    assert sum(len(poller.got) for poller in pollers) == 2


def test_a_reset_reaches_who_waits(shop, sqs, url):
    waiting = Waiting(sqs, url)
    time.sleep(0.3)
    shop.control.reset()
    shop.control.add_product({"code": "p"})
    shop.control.subscribe("p", agreement_created_after=0, license_updated_after=0)
    waiting.join(5)
    assert len(waiting.got) == 2


class TestDeadLetters:
    @pytest.fixture
    def dead(self, sqs):
        return sqs.get_queue_url(QueueName="marketplace-events-dead")["QueueUrl"]

    @pytest.fixture
    def poison(self, shop, sqs, url):
        """A message received five times and never deleted."""
        shop.control.send("marketplace-events", "poison")
        for _ in range(5):
            (message,) = receive(sqs, url, VisibilityTimeout=0)
        return message

    def test_the_sixth_receive_moves_it_as_it_is(self, sqs, url, dead, poison):
        assert receive(sqs, url, VisibilityTimeout=0) == []
        (moved,) = receive(sqs, dead, AttributeNames=["All"])
        assert (moved["MessageId"], moved["Body"]) == (poison["MessageId"], "poison")
        attributes = moved["Attributes"]
        assert attributes["SentTimestamp"] == str(int(NOON.timestamp() * 1000))
        assert attributes["DeadLetterQueueSourceArn"].endswith(":marketplace-events")

    def test_it_does_not_hold_up_others(self, shop, sqs, url, poison):
        shop.control.send("marketplace-events", "fine")
        assert [message["Body"] for message in receive(sqs, url, MaxNumberOfMessages=1)] == ["fine"]

    def test_it_can_be_moved_back(self, shop, sqs, url, dead, poison):
        receive(sqs, url)
        shop.control.send("marketplace-events-dead", "sent there")
        assert shop.control.redrive("marketplace-events-dead") == 2
        assert receive(sqs, dead) == []
        again = receive(sqs, url, AttributeNames=["All"])
        assert {message["Body"] for message in again} == {"poison", "sent there"}
        assert {message["Attributes"]["ApproximateReceiveCount"] for message in again} == {"1"}

    def test_only_a_dead_letter_queue_is_redriven(self, shop):
        with pytest.raises(ControlError, match="nobody's dead-letter queue"):
            shop.control.redrive("marketplace-events")

    def test_the_policy_is_an_attribute(self, sqs, url, dead):
        def policy(queue):
            answer = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["RedrivePolicy"])
            return answer.get("Attributes", {}).get("RedrivePolicy")

        assert json.loads(policy(url)) == {
            "deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:marketplace-events-dead",
            "maxReceiveCount": 5,
        }
        assert policy(dead) is None

    def test_a_handle_from_before_the_move_deletes_nothing(self, sqs, url, dead, poison):
        receive(sqs, url)
        sqs.delete_message(QueueUrl=url, ReceiptHandle=poison["ReceiptHandle"])
        assert len(receive(sqs, dead)) == 1


class TestHandles:
    def test_a_handle_is_of_one_queue(self, sqs, url, two_messages):
        other = sqs.get_queue_url(QueueName="marketplace-events-dead")["QueueUrl"]
        first, _ = receive(sqs, url)
        request = {"QueueUrl": other, "ReceiptHandle": first["ReceiptHandle"]}
        assert refusal(sqs.delete_message, **request) == "InvalidParameterValue"
        change = refusal(sqs.change_message_visibility, **request, VisibilityTimeout=0)
        assert change == "InvalidParameterValue"
        batch = sqs.delete_message_batch(
            QueueUrl=other, Entries=[{"Id": "a", "ReceiptHandle": first["ReceiptHandle"]}]
        )
        assert batch["Failed"][0]["Code"] == "InvalidParameterValue"

    def test_a_handle_cannot_be_made_up_from_a_message_id(self, sqs, url, two_messages):
        first, _ = receive(sqs, url)
        for text in (
            f"receipt:marketplace-events:{first['MessageId']}:0123456789abcdef",
            f"ticket:marketplace-events:{first['MessageId']}:0123456789abcdef",
            "receipt",
        ):
            forged = base64.urlsafe_b64encode(text.encode()).decode()
            code = refusal(sqs.delete_message, QueueUrl=url, ReceiptHandle=forged)
            assert code == "ReceiptHandleIsInvalid"

    def test_visibility_of_a_deleted_message_cannot_change(self, sqs, url, two_messages):
        first, _ = receive(sqs, url)
        request = {"QueueUrl": url, "ReceiptHandle": first["ReceiptHandle"]}
        sqs.delete_message(**request)
        code = refusal(sqs.change_message_visibility, **request, VisibilityTimeout=0)
        assert code.endswith("MessageNotInflight")


def test_ten_thousand_in_flight_do_not_slow_the_next_down():
    now = NOON
    messages = Messages()
    queue = Queue("busy")
    for number in range(10_000):
        queues.send(messages, "busy", str(number), sent_at=now)
    looked_at = 0

    class Counting(dict):
        def get(self, key, default=None):
            nonlocal looked_at
            looked_at += 1
            return super().get(key, default)

    def take(limit):
        return queues.receive(messages, queue, limit=limit, visibility_seconds=60, now=now)

    assert [message.body for message, _ in take(9_999)] == [str(number) for number in range(9_999)]
    messages.data = Counting(messages.data)
    assert [message.body for message, _ in take(10)] == ["9999"]
    assert take(10) == []
    assert queues.seconds_until_visible(messages, "busy") > 50
    assert looked_at < 20
