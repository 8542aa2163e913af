"""The example product's two forms."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from uuid import uuid4

from django import forms
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy


class ReportForm(forms.Form):
    title = forms.CharField(
        label=gettext_lazy("Title"), max_length=100, initial=gettext_lazy("Quarterly figures")
    )
    pages = forms.IntegerField(label=gettext_lazy("Pages"), min_value=1, max_value=500, initial=3)
    team = forms.RegexField(
        r"^[A-Za-z0-9 ._-]*$",
        label=gettext_lazy("Team"),
        max_length=50,
        required=False,
        help_text=gettext_lazy("Shown on the AWS bill."),
    )
    # Made when the form is shown: sent twice, it is the same report, billed once.
    request_key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)


@dataclass(frozen=True, slots=True)
class RenderJob:
    line: int
    key: str
    finished_at: datetime
    pages: Decimal
    team: str


class RenderLogForm(forms.Form):
    """The log of a render machine that was offline: it tells later what it did, with its own times."""

    log = forms.CharField(
        label=gettext_lazy("Log"),
        widget=forms.Textarea(attrs={"rows": 5, "placeholder": "job-17,2026-11-23T09:30:00Z,40,finance"}),
        max_length=100_000,
        help_text=gettext_lazy("One line per job: job id, finished at (with time zone), pages, team."),
    )

    def clean_log(self) -> list[RenderJob]:
        return [
            self._job(number, line)
            for number, line in enumerate(self.cleaned_data["log"].splitlines(), start=1)
            if line.strip()
        ]

    def _job(self, number: int, line: str) -> RenderJob:
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 4:
            raise forms.ValidationError(
                _("Line %(number)s needs four parts: job id, finished at, pages, team."),
                params={"number": number},
            )
        key, finished, pages, team = parts
        try:
            finished_at = parse_datetime(finished)
            quantity = Decimal(pages)
        except (ValueError, InvalidOperation) as error:
            raise forms.ValidationError(
                _("Line %(number)s has a malformed time or number."), params={"number": number}
            ) from error
        if finished_at is None or finished_at.tzinfo is None:
            raise forms.ValidationError(
                _("Line %(number)s: the time needs a time zone, as in 2026-11-23T09:30:00Z."),
                params={"number": number},
            )
        return RenderJob(number, f"render:{key}", finished_at, quantity, team)
