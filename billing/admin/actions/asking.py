"""The page that asks before a repair: what would happen, what would not and why, and for what reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from accounts.models import User
from billing import tasks
from billing.admin.actions import wishes
from billing.admin.actions.wishes import Wish
from billing.admin.columns import link, list_url, page_url, purchase
from billing.admin.site import admin_site
from billing.aws.client import get_marketplace
from billing.decision_rules import Refused
from billing.models import Agreement, MeteringRecord, OperatorTask
from billing.repairs import running
from billing.repairs.kinds import Foreseen, Repair
from billing.repairs.known import REPAIRS

MOST = running.MOST
_SHOWN = 50  # rows that cannot be done, each with its reason


@dataclass(frozen=True, slots=True)
class Button:
    """A form of one button; it only asks."""

    title: Any
    url: str
    row: int | None
    is_final: bool


def button(repair: Repair, row: Model | None = None) -> Button:
    return Button(repair.title, _url(repair), row.pk if row is not None else None, repair.is_final)


class ReasonForm(forms.Form):
    reason = forms.CharField(min_length=10, max_length=500)

    def __init__(self, answers: QueryDict | None = None) -> None:
        super().__init__(answers, label_suffix="")
        field = self.fields["reason"]
        field.label = _("Reason")
        field.help_text = _(
            "It stays in the audit trail, under your name: 10 to 500 characters, no personal data."
        )
        field.widget = UnfoldAdminTextareaWidget(
            {
                "rows": 3,
                "maxlength": 500,
                "minlength": 10,
                "aria-describedby": "id_reason_help id_reason_errors",
            }
        )
        field.widget.is_required = True


class AnswersForm(forms.Form):
    """What a repair must be told beside the reason."""

    def __init__(self, repair: Repair, answers: QueryDict | None = None) -> None:
        super().__init__(answers, label_suffix="")
        self.repair = repair
        for question in repair.questions:
            described = {"aria-describedby": f"id_{question.name}_help id_{question.name}_errors"}
            self.fields[question.name] = forms.CharField(
                label=question.label,
                help_text=question.help,
                max_length=300,
                widget=UnfoldAdminTextInputWidget(described),
            )

    def clean(self) -> dict[str, Any]:
        answers = super().clean() or {}
        if self.errors:
            return answers
        try:
            return dict(self.repair.read(answers))
        except Refused as refused:
            self.add_error(self.repair.questions[0].name, str(refused))
            return answers


def view(request: HttpRequest, name: str) -> HttpResponseBase:
    """Asks; and with a reason, does. Nothing here answers a GET: a link must not lead to it."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    repair = REPAIRS.get(name)
    if repair is None:
        raise Http404
    user = _authorized(request, repair)
    token = request.POST.get("token", "")
    if not token:
        if repair.model is None:
            return _page(request, Wish(repair, {}))
        pks = [int(pk) for pk in request.POST.getlist("row") if _is_key(pk)]
        return of_rows(request, repair, repair.model._default_manager.filter(pk__in=pks))
    try:
        wish = wishes.read(token, repair, by=user)
    except wishes.Outdated:
        messages.warning(request, _("The page was open for too long. Nothing was done: look at it again."))
        return redirect(_back(repair, ()))
    if repair.questions and not wish.parameters:
        answers = AnswersForm(repair, request.POST)
        if not answers.is_valid():
            return _page(request, wish, answers=answers)
        return _page(request, Wish(repair, wish.rows, answers.cleaned_data, wish.is_cut, wish.nonce))
    reason = ReasonForm(request.POST)
    if not reason.is_valid():
        return _page(request, wish, reason=reason)
    return _do(wish, by=user, reason=reason.cleaned_data["reason"])


def of_rows(request: HttpRequest, repair: Repair, rows: QuerySet[Any]) -> HttpResponseBase:
    """Ask about these rows, or as many of them as somebody can answer for."""
    _authorized(request, repair)
    found = list(_with_names(rows)[: MOST + 1])
    if not found:
        messages.warning(request, _("Nothing was selected."))
        return redirect(_back(repair, ()))
    seen = {row.pk: repair.seen(row) for row in found[:MOST]}
    return _page(request, Wish(repair, seen, is_cut=len(found) > MOST))


def _is_key(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def _authorized(request: HttpRequest, repair: Repair) -> User:
    user = request.user
    if not isinstance(user, User) or not user.has_perm(repair.needs):
        raise PermissionDenied
    model = repair.model or MeteringRecord  # what needs no row tells of records
    if not admin_site.get_model_admin(model).has_view_permission(request):
        raise PermissionDenied
    return user


def _do(wish: Wish, *, by: User, reason: str) -> HttpResponseBase:
    now = timezone.now()
    task = running.ask(
        wish.repair,
        nonce=wish.nonce,
        rows=wish.rows,
        parameters=wish.parameters,
        by=by,
        reason=reason,
        now=now,
    )
    if running.is_short(wish.repair, task.total):
        running.run(task.pk, get_marketplace, now=now)
    else:
        tasks.ring(tasks.run_operator_tasks)
    return redirect(page_url(task))


def _page(
    request: HttpRequest,
    wish: Wish,
    *,
    answers: AnswersForm | None = None,
    reason: ReasonForm | None = None,
) -> TemplateResponse:
    repair, user = wish.repair, request.user
    assert isinstance(user, User)
    rows = list(_with_names(repair.model._default_manager.filter(pk__in=wish.rows))) if repair.model else []
    needs_answers = bool(repair.questions) and not wish.parameters
    foreseen = None if needs_answers else repair.foresee(rows, wish.parameters, now=timezone.now())
    context = {
        **admin_site.each_context(request),
        "title": repair.title,
        "repair": repair,
        "url": _url(repair),
        "back": _back(repair, rows),
        "token": wish.signed(user),
        "only_one": link(rows[0], name_of(rows[0])) if len(rows) == 1 else "",
        "is_cut": wish.is_cut,
        "most": MOST,
        "answers": (answers or AnswersForm(repair)) if needs_answers else None,
        "foreseen": foreseen,
        "is_possible": foreseen is not None and (repair.model is None or bool(foreseen.decided.done)),
        "refusals": _refusals(rows, foreseen),
        "is_later": not running.is_short(repair, len(wish.rows)),
        "reason": reason or ReasonForm(),
    }
    return TemplateResponse(request, "admin/billing/confirm.html", context)


def _refusals(rows: Sequence[Any], foreseen: Foreseen | None) -> dict[str, Any] | None:
    """As unfold's table."""
    if foreseen is None or not foreseen.decided.refused:
        return None
    by_pk = {row.pk: row for row in rows}
    shown = list(foreseen.decided.refused.items())[:_SHOWN]
    return {
        "headers": [_("Cannot be done"), _("Why")],
        "rows": [[link(by_pk[pk], name_of(by_pk[pk])), why] for pk, why in shown],
    }


def name_of(row: Any) -> str:
    return purchase(row) if isinstance(row, Agreement) else str(row)


def _with_names(rows: QuerySet[Any]) -> QuerySet[Any]:
    """With what their names take."""
    return rows.select_related("product", "customer", "organization") if rows.model is Agreement else rows


def _url(repair: Repair) -> str:
    return reverse("admin:billing_operatortask_ask", args=[repair.name])


def _back(repair: Repair, rows: Sequence[Any]) -> str:
    if len(rows) == 1:
        return page_url(rows[0])
    return list_url(repair.model or OperatorTask)
