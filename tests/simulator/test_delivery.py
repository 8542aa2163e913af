"""How AWS's messages reach the queues: accidents of events, forms of messages, several queues."""

from __future__ import annotations

import json
from datetime import timedelta

from tests.simulator.messages import kinds, received, told

__all__ = ["received"]


def pay_as_you_go(shop, **delays):
    return shop.control.subscribe("reports-payg", **delays)


def pending_faults(shop):
    return [(fault["fault"], fault["count"]) for fault in shop.control.state()["faults"]]


class TestAccidents:
    def test_a_delayed_event_comes_late_with_its_own_time(self, shop, received):
        shop.control.fault("events", "delay", seconds=60)
        pay_as_you_go(shop)
        shop.control.advance(61)
        assert told(received()) == ["License Updated"]
        shop.control.advance(1)
        (created,) = received()
        assert created["detail-type"] == "Purchase Agreement Created - Proposer"
        assert created["time"] == "2026-11-23T12:00:02Z"
        assert pending_faults(shop) == []

    def test_a_doubled_event_comes_twice_with_one_id(self, shop, received):
        shop.control.fault("events", "double")
        pay_as_you_go(shop)
        shop.control.advance(5)
        first, second, licensed = received()
        assert first == second
        assert licensed["detail-type"] == "License Updated - Manufacturer"

    def test_a_lost_event_never_comes(self, shop, received):
        shop.control.fault("events", "lose")
        pay_as_you_go(shop)
        shop.control.advance(timedelta(days=400))
        assert told(received()) == ["License Updated"]

    def test_a_reordered_event_is_overtaken_by_the_next(self, shop, received):
        shop.control.fault("events", "reorder")
        pay_as_you_go(shop)
        shop.control.advance(2)
        assert received() == []
        assert shop.control.state()["events_held_back"] == 1
        shop.control.advance(3)
        assert told(received()) == ["License Updated", "Purchase Agreement Created"]

    def test_a_reordered_event_waits_for_one_that_is_not_even_scheduled(self, shop, received):
        purchase = pay_as_you_go(shop, agreement_created_after=0)
        shop.control.advance(1)
        received()
        shop.control.fault("events", "reorder")
        shop.control.advance(timedelta(days=30))
        assert received() == []
        shop.control.cancel(purchase.agreement_id)
        assert told(received()) == ["Purchase Agreement Ended", "License Updated"]
        assert shop.control.state()["events_held_back"] == 0

    def test_two_reordered_events_are_overtaken_by_the_third(self, shop, received):
        shop.control.fault("events", "reorder", count=2)
        purchase = pay_as_you_go(shop)
        shop.control.advance(10)
        assert received() == []
        shop.control.fault("events", "double")
        shop.control.cancel(purchase.agreement_id)
        assert told(received()) == [
            *["Purchase Agreement Ended"] * 2,
            "Purchase Agreement Created",
            "License Updated",
        ]

    def test_what_nothing_receives_meets_no_accident(self, shop, received):
        shop.control.queue("marketplace-events", receives=["sns"])
        shop.control.fault("events", "lose")
        pay_as_you_go(shop)
        shop.control.subscribe("reports-legacy")
        shop.control.advance(10)
        assert told(received()) == ["entitlement-updated"]

    def test_a_renewal_by_itself_is_no_event_to_lose(self, shop, received):
        shop.control.subscribe("reports-flex", auto_renew=True)
        shop.control.advance(timedelta(days=364))
        received()
        shop.control.fault("events", "lose")
        shop.control.advance(timedelta(days=2))
        assert told(received()) == ["Purchase Agreement Ended", "License Updated", "License Deprovisioned"]


class TestForms:
    def test_an_arn_may_be_printed_as_the_guides_samples_do(self, shop, received):
        purchase = pay_as_you_go(shop)
        shop.control.switch(license_arn_prefix=False)
        shop.control.advance(5)
        created, licensed = received()
        license_id = purchase.license_arn.rpartition(":")[2]
        printed = f"aws:license-manager:us-east-1:294406891311:{license_id}"
        assert licensed["detail"]["license"]["arn"] == printed
        assert "license" not in created["detail"]

    def test_raw_delivery_leaves_the_message_alone(self, shop, received):
        shop.control.switch(sns_body="raw")
        purchase = shop.control.subscribe("reports-legacy")
        shop.control.advance(5)
        _, entitled = received()
        assert entitled == {
            "action": "entitlement-updated",
            "customer-identifier": purchase.customer_identifier,
            "product-code": "reports-legacy",
        }

    def test_a_message_may_be_an_object_in_its_envelope(self, shop, received):
        shop.control.switch(sns_body="object")
        shop.control.subscribe("reports-legacy")
        shop.control.advance(5)
        subscribed, _ = received()
        assert subscribed["Type"] == "Notification"
        assert subscribed["Message"]["action"] == "subscribe-success"

    def test_old_texts_had_other_keys_and_stray_spaces(self, shop, received):
        shop.control.switch(sns_old_keys=True)
        purchase = shop.control.subscribe("reports-legacy")
        shop.control.advance(5)
        _, entitled = received()
        assert json.loads(entitled["Message"]) == {
            "action": " entitlement-updated ",
            "CustomerIdentifier": f" {purchase.customer_identifier} ",
            "ProductCode": " reports-legacy ",
        }


class TestQueues:
    def test_each_queue_gets_the_channels_it_receives(self, shop, received):
        shop.control.queue("only-sns", receives=["sns"])
        shop.control.queue("nothing")
        pay_as_you_go(shop)
        shop.control.subscribe("reports-legacy")
        shop.control.advance(5)
        assert len(received()) == 4
        assert told(received("only-sns")) == ["subscribe-success", "entitlement-updated"]
        assert received("nothing") == []

    def test_what_is_not_given_stays(self, shop):
        made = shop.control.queue("mine", receives=["sns"], visibility_seconds=3, max_receives=2)
        assert made == {
            "name": "mine",
            "visibility_seconds": 3,
            "receives": ["sns"],
            "dead_letter_queue": None,
            "max_receives": 2,
            "visible": 0,
            "in_flight": 0,
        }
        changed = shop.control.queue("mine", dead_letter_queue="marketplace-events-dead")
        assert changed == {**made, "dead_letter_queue": "marketplace-events-dead"}
        assert shop.control.queue("mine", dead_letter_queue=None) == made

    def test_any_body_can_be_sent(self, shop, aws):
        sent = shop.control.send("marketplace-events", "{poison")
        client = aws("sqs")
        url = client.get_queue_url(QueueName="marketplace-events")["QueueUrl"]
        (message,) = client.receive_message(QueueUrl=url)["Messages"]
        assert (message["MessageId"], message["Body"]) == (sent, "{poison")


def test_license_events_and_agreement_events_share_no_id(shop, received):
    pay_as_you_go(shop)
    shop.control.advance(5)
    bodies = received()
    assert len({body["id"] for body in bodies}) == len(bodies) == 2
    assert kinds(bodies)[0].endswith("Proposer")
