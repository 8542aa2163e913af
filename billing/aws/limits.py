"""AWS's bounds. boto3 checks few of them, so they are checked here before anything is stored.

Sources: botocore's service model `meteringmarketplace/2016-01-14` (shapes UsageRecord, UsageAllocation,
Tag, UsageQuantityAsDecimalString) and the Seller Guide page "Metering for usage".
"""

import re
from datetime import timedelta
from decimal import Decimal

MAX_RECORDS_PER_CALL = 25
MAX_ENTITLEMENTS_PER_CALL = 25  # GetEntitlements' MaxResults
MAX_BYTES_PER_CALL = 1_000_000  # "less than 1 MB", keys included
MAX_QUANTITY = Decimal("9999999999.999999")
MAX_DIMENSION_LENGTH = 255

MAX_ALLOCATIONS = 2500
MAX_TAGS = 5
MAX_TAG_KEY_LENGTH = 100
MAX_TAG_VALUE_LENGTH = 256
# The documented characters. The model's own expression has an accidental range and forbids the backslash.
TAG_TEXT = re.compile(r"[a-zA-Z0-9 +\-=._:/@]+")

METERING_WINDOW = timedelta(hours=24)  # refused once this old
MONTH_END_GRACE = timedelta(hours=6)  # last month's records, until 06:00 UTC on the 1st
FINAL_WINDOW = timedelta(hours=1)  # after License Deprovisioned
TOKEN_LIFETIME = timedelta(hours=4)
