"""What is for sale. Edited here or loaded with `manage.py load_catalog`."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from billing import events
from billing.admin.actions.attached import WithRepairs
from billing.admin.base import OperatorAdmin
from billing.admin.columns import link, list_url
from billing.admin.panels import Panel, panel
from billing.admin.site import admin_site
from billing.models import Dimension, Product


class _CatalogAdmin(OperatorAdmin):
    """A catalog is short: it may be counted and sorted."""

    paginator = Paginator
    show_full_result_count = True
    sortable_by = None


@admin.register(Product, site=admin_site)
class ProductAdmin(WithRepairs, _CatalogAdmin):  # type: ignore[misc]  # unfold's own mixins differ
    repairs = ("walk_product",)
    list_display = ("title", "code", "product_id", "pricing")
    list_filter = ("pricing",)
    ordering = ("title", "pk")
    search_fields = ("code__exact", "product_id__exact")
    search_help_text = _("Product code or prod-… id")
    fields = ("title", "code", "product_id", "pricing")

    def get_readonly_fields(self, request: HttpRequest, obj: Product | None = None) -> tuple[str, ...]:
        # Events, registrations and legacy records name the product by these.
        return ("code", "product_id") if obj else ()

    def save_model(  # type: ignore[override]  # unfold's mixin says that a row is any model's
        self, request: HttpRequest, obj: Product, form: Any, change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        if not change:  # AWS may have told of its purchases already
            events.reopen_foreign([obj])

    def panels(self, request: HttpRequest, row: Product) -> list[Panel]:
        return [
            panel(
                _("Dimensions"),
                row.dimensions.select_related("included_by"),
                {
                    _("API name"): lambda dimension: link(dimension, dimension.key),
                    _("Label"): lambda dimension: dimension.label,
                    _("Unit"): lambda dimension: dimension.unit,
                    _("Kind"): lambda dimension: dimension.get_kind_display(),
                    _("Included by"): lambda dimension: link(dimension.included_by),
                },
                more=list_url(Dimension, product=row.pk),
            )
        ]


class DimensionForm(forms.ModelForm):
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        included_by = cleaned.get("included_by")
        product = cleaned.get("product") or getattr(self.instance, "product", None)
        if included_by is not None and included_by.product != product:
            self.add_error("included_by", _("An allowance comes from a dimension of the same product."))
        return cleaned


@admin.register(Dimension, site=admin_site)
class DimensionAdmin(_CatalogAdmin):
    form = DimensionForm
    list_display = ("label", "key", "product", "kind", "unit", "included_by", "allowance_period")
    list_select_related = ("product", "included_by")
    list_filter = ("kind", "product")
    ordering = ("product", "kind", "key")
    search_fields = ("key__exact",)
    search_help_text = _("API name")
    fields = ("product", "key", "label", "unit", "kind", "included_by", "allowance_period")

    def get_readonly_fields(self, request: HttpRequest, obj: Dimension | None = None) -> tuple[str, ...]:
        # A record on its way to AWS names its dimension by the key, and must stay what it was.
        return ("product", "key", "kind") if obj else ()
