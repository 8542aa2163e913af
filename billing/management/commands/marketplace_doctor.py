"""`manage.py marketplace_doctor`: does everything work that selling depends on, and what to do if not."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from billing.aws.probes import Probes
from billing.aws.types import Connection
from billing.doctor import examination, review
from billing.doctor.findings import Finding, Verdict


class Command(BaseCommand):
    help = (
        "Look at credentials, permissions, listing, events, jobs, mail and this installation. Changes"
        " nothing, here or at AWS. Each line is well (✓), not well (✗, with the fix) or not checked (–)."
        " Exits with 1 on any ✗."
    )
    requires_system_checks: list[str] = []  # a missing trigger is a finding, not the end

    def add_arguments(self, parser: CommandParser) -> None:
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="for machines")
        form.add_argument(
            "--report",
            action="store_true",
            help="AWS's checklist before publication, as Markdown: attach it to the review",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        probes = Probes(Connection(**settings.MARKETPLACE))
        found: list[tuple[str, Finding]] = []
        shown = ""
        for title, finding in examination.examine(probes, now=now):
            found.append((title, finding))
            if not options["json"] and not options["report"]:
                self._tell(title if title != shown else "", finding)
                shown = title
        failed = sum(finding.verdict is Verdict.FAILED for _, finding in found)
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(found, failed), indent=2))
        elif options["report"]:
            self.stdout.write(review.report(found, now=now))
        else:
            open_ = sum(finding.verdict is Verdict.NOT_CHECKED for _, finding in found)
            self.stdout.write(f"\n{len(found) - failed - open_} ✓   {failed} ✗   {open_} –")
        if failed:
            sys.exit(1)

    def _tell(self, title: str, finding: Finding) -> None:
        if title:
            self.stdout.write(f"\n{title}")
        styles = {Verdict.OK: self.style.SUCCESS, Verdict.FAILED: self.style.ERROR}
        sign = styles.get(finding.verdict, self.style.WARNING)(finding.verdict.sign)
        self.stdout.write(f"  {sign} {finding.text}")
        if finding.cause:
            self.stdout.write(f"      Cause: {finding.cause}")
        if finding.fix:
            self.stdout.write(f"      Fix: {finding.fix}")


def _as_json(found: list[tuple[str, Finding]], failed: int) -> dict[str, Any]:
    return {
        "ok": not failed,
        "findings": [
            {
                "part": title,
                "check": finding.check,
                "verdict": finding.verdict.value,
                "text": finding.text,
                "cause": finding.cause,
                "fix": finding.fix,
            }
            for title, finding in found
        ],
    }
