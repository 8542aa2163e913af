"""`manage.py consume_events`: listen to AWS's event queues, and apply what it says at once."""

from __future__ import annotations

import signal
from argparse import ArgumentParser
from queue import SimpleQueue
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from billing import tasks
from billing.aws.client import get_marketplace
from billing.inbox import consumer


class Command(BaseCommand):
    help = "Listen to the queues of MARKETPLACE_EVENT_QUEUES until told to stop (SIGTERM or Ctrl-C)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="take in what is there now, and end")

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        queue_urls = settings.MARKETPLACE_EVENT_QUEUES
        if not queue_urls:
            raise CommandError(
                "There is no event queue to listen to."
                " Set MARKETPLACE_EVENT_QUEUES to the addresses of your SQS queues, separated by commas."
            )
        if once:
            consumer.consume_once(get_marketplace(), queue_urls, after=_carry_out)
            return
        told: SimpleQueue[object] = SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: told.put(number))
        self.stdout.write(f"Listening to {', '.join(queue_urls)}")
        self.stdout.flush()
        consumer.consume(get_marketplace(), queue_urls, after=_carry_out, told=told)


def _carry_out() -> None:
    tasks.ring(tasks.run_effects)
