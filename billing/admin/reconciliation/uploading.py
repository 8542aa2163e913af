"""Importing AWS's usage report in the console."""

from __future__ import annotations

from typing import BinaryIO, cast

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponseBase, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldBooleanWidget

from accounts.models import User
from billing.admin.columns import link
from billing.admin.reconciliation import access
from billing.admin.site import admin_site
from billing.models import UsageReport
from billing.reconciliation import importing, report_rows
from billing.reconciliation.importing import Imported
from billing.reconciliation.months import Month, Scope
from billing.reconciliation.report_rows import ReportUnusable

_NEWEST = 10


class UploadForm(forms.Form):
    report = forms.FileField(
        label=gettext_lazy("Usage report"),
        help_text=gettext_lazy("AWS's CSV as it is, up to 100 MB."),
        allow_empty_file=True,
        max_length=255,
        widget=UnfoldAdminFileFieldWidget(
            {"accept": ".csv,text/csv", "aria-describedby": "id_report_help id_report_errors"}
        ),
    )
    again = forms.BooleanField(
        label=gettext_lazy("Use it although a newer report has replaced it"),
        help_text=gettext_lazy(
            "A file that was imported before changes nothing, unless you say here that it counts again."
        ),
        required=False,
        widget=UnfoldBooleanWidget({"aria-describedby": "id_again_help"}),
    )

    def clean_report(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["report"]
        try:
            report_rows.check_size(file.size or 0)
        except ReportUnusable as unusable:
            raise forms.ValidationError(str(unusable)) from unusable
        return file


def view(request: HttpRequest) -> HttpResponseBase:
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    access.check_may_look(request)
    if request.method != "POST":
        return _page(request, UploadForm(label_suffix=""))
    user = request.user
    if not isinstance(user, User) or not access.may_import(request):
        raise PermissionDenied
    form = UploadForm(request.POST, request.FILES, label_suffix="")
    if not form.is_valid():
        return _page(request, form)
    file: UploadedFile = form.cleaned_data["report"]
    try:
        imported = importing.import_report(
            cast(BinaryIO, file.file),
            name=file.name or "report.csv",
            by=user,
            now=timezone.now(),
            again=form.cleaned_data["again"],
        )
    except ReportUnusable as unusable:
        form.add_error("report", str(unusable))
        return _page(request, form)
    _tell(request, imported)
    last = imported.report.last_day
    return redirect(access.url(Scope(Month(last.year, last.month))))


def _tell(request: HttpRequest, imported: Imported) -> None:
    report = imported.report
    if imported.is_outdated:
        messages.warning(
            request,
            _("These rows were imported before, and newer reports have replaced some: nothing changed."),
        )
    elif not imported.is_new and not imported.replaced:
        messages.info(request, _("These rows were imported before: nothing changed."))
    else:
        lines = ngettext("%(count)d line was imported.", "%(count)d lines were imported.", report.line_count)
        messages.success(request, lines % {"count": report.line_count})
    if imported.replaced:
        text = ngettext(
            "It replaces %(count)d line of earlier reports.",
            "It replaces %(count)d lines of earlier reports.",
            imported.replaced,
        )
        messages.info(request, text % {"count": imported.replaced})
    if imported.unmatched:
        text = ngettext(
            "%(count)d line matches no purchase: it is listed below.",
            "%(count)d lines match no purchase: they are listed below.",
            imported.unmatched,
        )
        messages.warning(request, text % {"count": imported.unmatched})


def _page(request: HttpRequest, form: UploadForm) -> TemplateResponse:
    newest = UsageReport.objects.select_related("imported_by")[:_NEWEST]
    rows = [
        [
            link(report, report.name),
            f"{report.first_day:%Y-%m-%d} – {report.last_day:%Y-%m-%d}",
            str(report.line_count),
            f"{report.imported_at:%Y-%m-%d %H:%M}",
            link(report.imported_by) if report.imported_by else _("A command on the server"),
        ]
        for report in newest
    ]
    headers = [_("Report"), _("Days"), _("Lines"), _("Imported at (UTC)"), _("By")]
    context = {
        **admin_site.each_context(request),
        "title": _("AWS's usage report"),
        "form": form,
        "may_import": access.may_import(request),
        "table": {"headers": headers, "rows": rows} if rows else None,
        "back": access.url(Scope(Month.of(timezone.now()))),
    }
    return TemplateResponse(request, "admin/billing/reconciliation_import.html", context)


admin_site.pages.append(
    path("billing/reconciliation/import/", admin_site.admin_view(view), name="billing_reconciliation_import")
)
