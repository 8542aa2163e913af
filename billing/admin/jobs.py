"""The scheduled jobs, as they note their own runs."""

from __future__ import annotations

from django.contrib import admin
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import text, when
from billing.admin.health import jobs as health
from billing.admin.site import admin_site
from billing.models import JobRun


@admin.display(description=_("how it went"))
def _outcome(row: JobRun) -> str:
    return health.outcome(row)


@admin.display(description=_("next run"))
def _next_run(row: JobRun) -> str:
    return health.next_run(row, now=timezone.now())


@admin.register(JobRun, site=admin_site)
class JobRunAdmin(ReadOnlyAdmin):
    list_display = (
        text("name", _("job")),
        _outcome,
        when("started_at", _("started")),
        when("finished_at", _("finished")),
        when("succeeded_at", _("last went well")),
        _next_run,
    )
    list_filter = ("outcome",)
    ordering = ("name", "pk")
    search_fields = ("name__exact",)
    search_help_text = _("The job's name")
    sections = {
        "": (
            (text("name", _("job")), _outcome),
            (when("started_at", _("started")), when("finished_at", _("finished"))),
            (when("succeeded_at", _("last went well")), _next_run),
            (text("error", _("error")), text("failed_in_a_row", _("failed in a row"))),
        ),
    }
