"""What a mailed error report may show."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter

TOKEN_FIELD = "x-amzn-marketplace-token"


class ErrorReportFilter(SafeExceptionReporterFilter):
    """Hides a buyer's token also where the view, which marks it sensitive, was never reached."""

    def get_post_parameters(self, request: HttpRequest | None) -> Any:
        parameters = super().get_post_parameters(request)
        if TOKEN_FIELD in parameters:
            parameters = parameters.copy()
            parameters[TOKEN_FIELD] = self.cleansed_substitute
        return parameters
