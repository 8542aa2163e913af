"""The request shapes of the four services, bound by bound, as their models state them (facts page §1).

Tags and the names of queue attributes are looser here than in the models, because a bad one has an error of
its own: InvalidTagException and InvalidAttributeName.
"""

from __future__ import annotations

import re

from billing.simulator.aws.shapes import ListOf, MapOf, OneOf, Structure, Text, Timestamp, Whole

PRODUCT_CODE = re.compile(r"^[-a-zA-Z0-9/=:_.@]*$")
LICENSE_ARN = re.compile(
    r"^arn:aws[a-zA-Z-]*:[A-Za-z0-9][A-Za-z0-9_/.-]{0,62}:[A-Za-z0-9_/.-]{0,63}:[A-Za-z0-9_/.-]{0,63}"
    r":[A-Za-z0-9][A-Za-z0-9:_/+=,@.-]{0,1023}$"
)
DECIMAL = re.compile(r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$")
TAG = re.compile(r"^[a-zA-Z0-9+ -=._:\/@]+$")
TAG_KEY_LENGTH = 100
TAG_VALUE_LENGTH = 256
TAGS_PER_ALLOCATION = 5
LARGEST_BATCH_BYTES = 1024 * 1024

_DECIMAL = Text(min=1, max=17, pattern=DECIMAL)
_INTEGER = Whole(min=0, max=2147483647)
_TAG = Structure({"Key": Text(), "Value": Text()}, required=("Key", "Value"))
_ALLOCATION = Structure(
    {
        "AllocatedUsageQuantity": _INTEGER,
        "AllocatedUsageQuantityAsDecimal": _DECIMAL,
        "Tags": ListOf(_TAG, min=1),
    }
)
USAGE_RECORD = Structure(
    {
        "Timestamp": Timestamp(),
        "CustomerIdentifier": Text(max=255),
        "Dimension": Text(min=1, max=255),
        "Quantity": _INTEGER,
        "QuantityAsDecimal": _DECIMAL,
        "UsageAllocations": ListOf(_ALLOCATION, min=1, max=2500),
        "CustomerAWSAccountId": Text(min=1, max=255, pattern=re.compile(r"^[0-9]+$")),
        "LicenseArn": Text(pattern=LICENSE_ARN),
    },
    required=("Timestamp", "Dimension"),
)
BATCH_METER_USAGE = Structure(
    {"UsageRecords": ListOf(USAGE_RECORD, max=25), "ProductCode": Text(max=255, pattern=PRODUCT_CODE)},
    required=("UsageRecords",),
)
RESOLVE_CUSTOMER = Structure(
    {"RegistrationToken": Text(pattern=re.compile(r"[\s\S]+"))}, required=("RegistrationToken",)
)
GET_ENTITLEMENTS = Structure(
    {
        "ProductCode": Text(min=1, max=255),
        "Filter": MapOf(
            Text(
                enum=frozenset({"CUSTOMER_IDENTIFIER", "DIMENSION", "CUSTOMER_AWS_ACCOUNT_ID", "LICENSE_ARN"})
            ),
            ListOf(Text(), min=1),
        ),
        "NextToken": Text(pattern=re.compile(r"\S+")),
        "MaxResults": Whole(min=1, max=25),
    },
    required=("ProductCode",),
)
DESCRIBE_AGREEMENT = Structure(
    {"agreementId": Text(min=1, max=64, pattern=re.compile(r"[A-Za-z0-9_/-]+"))}, required=("agreementId",)
)

_QUEUE_URL = {"QueueUrl": Text()}
_NAMES = ListOf(Text())
_QUEUE_ATTRIBUTES = frozenset(
    {
        "All",
        "Policy",
        "VisibilityTimeout",
        "MaximumMessageSize",
        "MessageRetentionPeriod",
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "CreatedTimestamp",
        "LastModifiedTimestamp",
        "QueueArn",
        "ApproximateNumberOfMessagesDelayed",
        "DelaySeconds",
        "ReceiveMessageWaitTimeSeconds",
        "RedrivePolicy",
        "FifoQueue",
        "ContentBasedDeduplication",
        "KmsMasterKeyId",
        "KmsDataKeyReusePeriodSeconds",
        "DeduplicationScope",
        "FifoThroughputLimit",
        "RedriveAllowPolicy",
        "SqsManagedSseEnabled",
    }
)
_SYSTEM_ATTRIBUTES = frozenset(
    {
        "All",
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
        "SequenceNumber",
        "MessageDeduplicationId",
        "MessageGroupId",
        "AWSTraceHeader",
        "DeadLetterQueueSourceArn",
    }
)
GET_QUEUE_URL = Structure({"QueueName": Text(), "QueueOwnerAWSAccountId": Text()}, required=("QueueName",))
GET_QUEUE_ATTRIBUTES = Structure(
    {**_QUEUE_URL, "AttributeNames": ListOf(OneOf(_QUEUE_ATTRIBUTES, "InvalidAttributeName"))},
    required=("QueueUrl",),
)
RECEIVE_MESSAGE = Structure(
    {
        **_QUEUE_URL,
        # Callers of before MessageSystemAttributeNames put those names here.
        "AttributeNames": ListOf(OneOf(_QUEUE_ATTRIBUTES | _SYSTEM_ATTRIBUTES, "InvalidAttributeName")),
        "MessageSystemAttributeNames": ListOf(OneOf(_SYSTEM_ATTRIBUTES, "InvalidAttributeName")),
        "MessageAttributeNames": _NAMES,
        "MaxNumberOfMessages": Whole(),
        "VisibilityTimeout": Whole(),
        "WaitTimeSeconds": Whole(),
        "ReceiveRequestAttemptId": Text(),
    },
    required=("QueueUrl",),
)
DELETE_MESSAGE = Structure({**_QUEUE_URL, "ReceiptHandle": Text()}, required=("QueueUrl", "ReceiptHandle"))
DELETE_MESSAGE_BATCH = Structure(
    {
        **_QUEUE_URL,
        "Entries": ListOf(
            Structure({"Id": Text(), "ReceiptHandle": Text()}, required=("Id", "ReceiptHandle"))
        ),
    },
    required=("QueueUrl", "Entries"),
)
CHANGE_MESSAGE_VISIBILITY = Structure(
    {**_QUEUE_URL, "ReceiptHandle": Text(), "VisibilityTimeout": Whole()},
    required=("QueueUrl", "ReceiptHandle", "VisibilityTimeout"),
)
