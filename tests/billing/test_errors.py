"""AWS's refusals as a closed table."""

import botocore.session
import pytest

from billing.aws.errors import MEANINGS, NOT_TAKEN, MarketplaceError, MarketplaceUnavailable, Scope, error_for

METERING = botocore.session.get_session().get_service_model("meteringmarketplace")


def modelled(operation):
    return {shape.name for shape in METERING.operation_model(operation).error_shapes}


@pytest.mark.parametrize("code", sorted(modelled("BatchMeterUsage") | modelled("ResolveCustomer")))
def test_every_modelled_error_is_in_the_table(code):
    assert MEANINGS[code].scope is not Scope.UNKNOWN
    assert MEANINGS[code].explanation
    assert MEANINGS[code].fix


@pytest.mark.parametrize(
    ("code", "scope"),
    [
        ("TimestampOutOfBoundsException", Scope.RECORD),
        ("InvalidLicenseException", Scope.RECORD),
        ("InvalidUsageDimensionException", Scope.RECORD),
        ("InvalidUsageAllocationsException", Scope.RECORD),
        ("InvalidTagException", Scope.RECORD),
        ("InvalidCustomerIdentifierException", Scope.RECORD),
        ("ValidationException", Scope.RECORD),
        ("InvalidProductCodeException", Scope.ACCOUNT),
        ("DisabledApiException", Scope.ACCOUNT),
        ("AccessDeniedException", Scope.ACCOUNT),
        ("AccessDenied", Scope.ACCOUNT),
        ("UnrecognizedClientException", Scope.ACCOUNT),
        ("InvalidClientTokenId", Scope.ACCOUNT),
        ("InvalidSignatureException", Scope.ACCOUNT),
        ("SignatureDoesNotMatch", Scope.ACCOUNT),
        ("ExpiredToken", Scope.ACCOUNT),
        ("InvalidTokenException", Scope.BUYER),
        ("ExpiredTokenException", Scope.BUYER),
        ("ThrottlingException", Scope.TRANSIENT),
        ("InternalServiceErrorException", Scope.TRANSIENT),
    ],
)
def test_a_code_says_what_is_wrong_with_what(code, scope):
    assert error_for(code, "").scope is scope


def test_transient_codes_are_unavailability_and_others_are_not():
    assert isinstance(error_for("ThrottlingException", ""), MarketplaceUnavailable)
    assert not isinstance(error_for("ValidationException", ""), MarketplaceUnavailable)


def test_an_unknown_code_is_neither_success_nor_final():
    error = error_for("BrandNewException", "what is this")
    assert error.scope is Scope.UNKNOWN
    assert not isinstance(error, MarketplaceUnavailable)
    assert "does not know" in error.meaning.explanation


def test_an_unknown_code_of_a_server_fault_may_succeed_later():
    assert isinstance(error_for("BrandNewException", "", status=503), MarketplaceUnavailable)
    assert not isinstance(error_for("AccessDeniedException", "", status=500), MarketplaceUnavailable)


def test_expired_credentials_are_not_taken_for_an_expired_token_of_a_buyer():
    of_sts = error_for("ExpiredTokenException", "The security token included in the request is expired")
    of_buyer = error_for("ExpiredTokenException", "The submitted registration token has expired.")
    assert (of_sts.code, of_sts.scope) == ("ExpiredCredentials", Scope.ACCOUNT)
    assert (of_buyer.code, of_buyer.scope) == ("ExpiredTokenException", Scope.BUYER)


def test_only_transient_codes_leave_a_batch_untouched():
    assert all(MEANINGS[code].scope is Scope.TRANSIENT for code in NOT_TAKEN)
    assert not NOT_TAKEN & {"NoAnswer", "InternalServiceErrorException"}


def test_an_error_keeps_awss_code_and_request_id():
    error = error_for("ValidationException", "bad", request_id="r-1")
    assert isinstance(error, MarketplaceError)
    assert (error.code, error.message, error.request_id, str(error)) == (
        "ValidationException", "bad", "r-1", "ValidationException: bad",
    )  # fmt: skip
