"""AWS's refusals as a closed table: what each code means for us, and what a person can do.

A code that is not in the table is UNKNOWN: never taken for success, never for final. Sources: the modelled
errors of botocore's `meteringmarketplace`, `marketplace-entitlement` and `marketplace-agreement` models, and
the codes any AWS JSON service may answer with.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Scope(Enum):
    TRANSIENT = "transient"  # the same request may succeed later
    RECORD = "record"  # something in the request is wrong: isolate it, send the rest
    ACCOUNT = "account"  # nothing will succeed until a person acts: stop
    BUYER = "buyer"  # the buyer's token is no good
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Meaning:
    scope: Scope
    explanation: str
    fix: str


_AGAIN = "Nothing to do: it is tried again."

MEANINGS: dict[str, Meaning] = {
    # transient
    "ThrottlingException": Meaning(Scope.TRANSIENT, "AWS limits the rate of calls.", _AGAIN),
    "TooManyRequestsException": Meaning(Scope.TRANSIENT, "AWS limits the rate of calls.", _AGAIN),
    "InternalServiceErrorException": Meaning(Scope.TRANSIENT, "AWS had a fault.", _AGAIN),
    "InternalServerException": Meaning(Scope.TRANSIENT, "AWS had a fault.", _AGAIN),
    "ServiceUnavailable": Meaning(Scope.TRANSIENT, "AWS had a fault.", _AGAIN),
    "ServiceUnavailableException": Meaning(Scope.TRANSIENT, "AWS had a fault.", _AGAIN),
    "InternalFailure": Meaning(Scope.TRANSIENT, "AWS had a fault.", _AGAIN),
    "Throttling": Meaning(Scope.TRANSIENT, "AWS limits the rate of calls.", _AGAIN),
    "RequestThrottled": Meaning(Scope.TRANSIENT, "AWS limits the rate of calls.", _AGAIN),
    # Ours, for calls without an answer: nothing left this machine, or nobody knows what became of it.
    "Unreachable": Meaning(Scope.TRANSIENT, "No connection to AWS could be made.", _AGAIN),
    "NoAnswer": Meaning(Scope.TRANSIENT, "AWS did not answer in time.", _AGAIN),
    "NotSent": Meaning(Scope.TRANSIENT, "The run ended before this call was made.", _AGAIN),
    # the buyer's token
    "InvalidTokenException": Meaning(
        Scope.BUYER,
        "AWS does not know the registration token.",
        "The buyer starts again from the AWS console.",
    ),
    "ExpiredTokenException": Meaning(
        Scope.BUYER, "The registration token is too old.", "The buyer starts again from the AWS console."
    ),
    # one record of a batch
    "TimestampOutOfBoundsException": Meaning(
        Scope.RECORD,
        "The hour is outside the 24 hours (or the month end) that AWS accepts, or before the license starts.",
        "It can no longer be billed through metering: write it off, or bill it with a private offer.",
    ),
    "InvalidLicenseException": Meaning(
        Scope.RECORD,
        "AWS does not know the license, or it is another customer's, or was not active in that hour.",
        "Compare the agreement's license and dates with the AWS Marketplace console, then retry.",
    ),
    "InvalidUsageDimensionException": Meaning(
        Scope.RECORD,
        "The listing has no metered dimension of that name. Names are case-sensitive.",
        "Add the dimension to the listing or correct its key in the catalog, then retry.",
    ),
    "InvalidUsageAllocationsException": Meaning(
        Scope.RECORD,
        "The tagged quantities do not add up to the record's.",
        "Report it: this is a defect of the kit.",
    ),
    "InvalidTagException": Meaning(
        Scope.RECORD,
        "AWS refuses a tag of this record.",
        "Report it: tags are checked when usage is recorded.",
    ),
    "InvalidCustomerIdentifierException": Meaning(
        Scope.RECORD,
        "AWS does not know the customer.",
        "Compare the customer with the AWS Marketplace console.",
    ),
    "ValidationException": Meaning(
        Scope.RECORD,
        "AWS found the record malformed.",
        "Report it: records are checked before they are sent.",
    ),
    "ParamValidation": Meaning(
        Scope.RECORD, "The AWS SDK found the record malformed.", "Report it: this is a defect of the kit."
    ),
    # the seller's account
    "InvalidProductCodeException": Meaning(
        Scope.ACCOUNT,
        "The product code is not one of the account whose credentials are used.",
        "Check the catalog's product code and MARKETPLACE_ROLE_ARN.",
    ),
    "DisabledApiException": Meaning(
        Scope.ACCOUNT,
        "The API is not enabled in this Region.",
        "Enable it there. Closed hours keep the Region that MARKETPLACE_METERING_REGION named then.",
    ),
    "AccessDeniedException": Meaning(
        Scope.ACCOUNT,
        "The credentials may not make this call.",
        "Allow aws-marketplace:ResolveCustomer, GetEntitlements and BatchMeterUsage, and of the event queue"
        " sqs:ReceiveMessage, DeleteMessage, ChangeMessageVisibility and GetQueueAttributes:"
        " deploy/aws/marketplace.yaml.",
    ),
    "UnrecognizedClientException": Meaning(
        Scope.ACCOUNT, "AWS does not know the credentials.", "Check the access key and the assumed role."
    ),
    "InvalidSignatureException": Meaning(
        Scope.ACCOUNT, "The request's signature is wrong.", "Check the secret key and this machine's clock."
    ),
    "NoCredentials": Meaning(
        Scope.ACCOUNT, "There are no AWS credentials.", "Give this process a role or keys."
    ),
    "UnreadableAnswer": Meaning(
        Scope.UNKNOWN,
        "AWS answered something that this version cannot read.",
        "Look it up, then update the kit.",
    ),
    "ExpiredCredentials": Meaning(
        Scope.ACCOUNT, "The temporary credentials have expired.", "Check the assumed role."
    ),
    "InvalidParameterException": Meaning(
        Scope.ACCOUNT, "AWS found the request's parameters wrong.", "Check the catalog's product code."
    ),
}

# What AWS's services say of credentials and signatures in other words (IAM "Common errors", STS, SQS).
MEANINGS |= {
    other: MEANINGS[known]
    for other, known in {
        "AccessDenied": "AccessDeniedException",
        "InvalidClientTokenId": "UnrecognizedClientException",
        "InvalidAccessKeyId": "UnrecognizedClientException",
        "MissingAuthenticationTokenException": "UnrecognizedClientException",
        "SignatureDoesNotMatch": "InvalidSignatureException",
        "IncompleteSignatureException": "InvalidSignatureException",
        "RequestExpired": "InvalidSignatureException",
        "ExpiredToken": "ExpiredCredentials",
        "OptInRequired": "DisabledApiException",
    }.items()
}

THROTTLED = frozenset({"ThrottlingException", "TooManyRequestsException", "Throttling", "RequestThrottled"})
# Of the account's refusals, those that say nothing of other Regions, or of other products.
OF_ONE_REGION = frozenset({"DisabledApiException", "OptInRequired"})
OF_ONE_PRODUCT = frozenset({"InvalidProductCodeException"})
# A call that failed so was not looked at: whatever was in it is exactly as before.
NOT_TAKEN = THROTTLED | {"Unreachable", "NotSent"}

_UNKNOWN = Meaning(
    Scope.UNKNOWN,
    "AWS answered with a code that this version does not know.",
    "Look it up, then update the kit.",
)


class MarketplaceError(Exception):
    """AWS refused or did not answer. ``code`` is AWS's; the message is AWS's too and never for buyers."""

    def __init__(self, code: str, message: str = "", *, request_id: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.request_id = request_id

    @property
    def meaning(self) -> Meaning:
        return MEANINGS.get(self.code, _UNKNOWN)

    @property
    def scope(self) -> Scope:
        return self.meaning.scope


class MarketplaceUnavailable(MarketplaceError):
    """A transient failure: the same call may succeed later."""


def error_for(code: str, message: str, *, status: int = 400, request_id: str = "") -> MarketplaceError:
    """The exception for an AWS error answer: ``code`` as AWS gives it, ``status`` the HTTP status."""
    if code == "ExpiredTokenException" and "security token" in message.lower():
        # STS says the same of old credentials; ResolveCustomer says it of the buyer's token.
        code = "ExpiredCredentials"
    transient = code in MEANINGS and MEANINGS[code].scope is Scope.TRANSIENT
    if transient or (code not in MEANINGS and status >= 500):
        return MarketplaceUnavailable(code, message, request_id=request_id)
    return MarketplaceError(code, message, request_id=request_id)
