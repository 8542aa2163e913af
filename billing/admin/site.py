"""The operators' site: Django admin in unfold's theme."""

from unfold.sites import UnfoldAdminSite


class OperatorSite(UnfoldAdminSite):
    pass


admin_site = OperatorSite(name="admin")
