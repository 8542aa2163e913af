"""What is for sale: the products and dimensions of the AWS Marketplace listings."""

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class Product(models.Model):
    """A SaaS listing. ``code`` is AWS's ProductCode, ``product_id`` its ``prod-…`` id."""

    class Pricing(models.TextChoices):
        SUBSCRIPTION = "subscription", _("Subscription (pay as you go)")
        CONTRACT = "contract", _("Contract")
        CONTRACT_WITH_CONSUMPTION = "contract_with_consumption", _("Contract with consumption")

    code = models.CharField(
        max_length=255, unique=True, validators=[RegexValidator(r"^[-a-zA-Z0-9/=:_.@]+$")]
    )
    product_id = models.CharField(max_length=255, unique=True)
    title = models.CharField(max_length=200)
    pricing = models.CharField(max_length=30, choices=Pricing)

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ["title", "pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(pricing__in=["subscription", "contract", "contract_with_consumption"]),
                name="product_pricing_known",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def has_entitlements(self) -> bool:
        """Subscriptions have none: being subscribed is the whole of it."""
        return self.pricing != self.Pricing.SUBSCRIPTION


class Dimension(models.Model):
    """Something a product counts. ``key`` is the API name of the listing, and case-sensitive.

    An entitled dimension is bought ahead and read with GetEntitlements; a metered one is reported with
    BatchMeterUsage. A metered dimension may draw on an entitled one first (``included_by``): then only
    what goes beyond that allowance, per term or per calendar month, is billed.
    """

    class Kind(models.TextChoices):
        ENTITLED = "entitled", _("Entitled (bought ahead)")
        METERED = "metered", _("Metered (billed by use)")

    class Period(models.TextChoices):
        TERM = "term", _("The agreement's term")
        MONTH = "month", _("A calendar month (UTC)")

    product = models.ForeignKey(Product, models.PROTECT, related_name="dimensions")
    key = models.CharField(max_length=255)
    label = models.CharField(max_length=200)
    unit = models.CharField(max_length=60, blank=True)
    kind = models.CharField(max_length=10, choices=Kind)
    included_by = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="covers",
        limit_choices_to={"kind": "entitled"},
    )
    allowance_period = models.CharField(max_length=10, choices=Period, default=Period.TERM)

    class Meta:
        verbose_name = _("dimension")
        verbose_name_plural = _("dimensions")
        ordering = ["product", "kind", "key"]
        constraints = [
            models.UniqueConstraint(fields=["product", "key"], name="dimension_key_once_per_product"),
            models.CheckConstraint(
                condition=Q(kind__in=["entitled", "metered"]), name="dimension_kind_known"
            ),
            models.CheckConstraint(
                condition=Q(allowance_period__in=["term", "month"]), name="dimension_period_known"
            ),
            models.CheckConstraint(
                condition=Q(included_by=None) | Q(kind="metered"),
                name="dimension_only_metered_draws_on_another",
            ),
        ]

    def __str__(self) -> str:
        return self.label
