"""How the state file is written: one line of JSON for what one answered request changed.

A new table is a member of ``Entry`` and a line of ``KEYS``. Who changes a value so that older lines cannot be
read any more raises ``VERSION``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import msgspec

from billing.simulator.catalog import Product
from billing.simulator.faults import Fault
from billing.simulator.queues import Message, Queue
from billing.simulator.records import (
    Agreement,
    BilledRecord,
    Conditions,
    CustomerIdentifier,
    Lint,
    Scheduled,
    Suspension,
    Token,
)
from billing.simulator.tables import Table

VERSION = 1
HEADER = b'{"state of": "the AWS Marketplace simulator", "version": %d}\n' % VERSION
LARGEST_PART = 500
"""Values in one line of a snapshot."""

Tables = Mapping[str, Table[Any, Any]]

KEYS: dict[str, Callable[[Any], Hashable]] = {
    "conditions": lambda _: "",
    "products": lambda product: product.code,
    "agreements": lambda agreement: agreement.agreement_id,
    "customer_identifiers": lambda known: known.aws_account_id,
    "suspensions": lambda suspension: suspension.aws_account_id,
    "tokens": lambda token: token.token,
    "billed": lambda record: record.key,
    "lints": lambda lint: lint.finding,
    "queues": lambda queue: queue.name,
    "messages": lambda message: message.message_id,
    "scheduled": lambda event: event.number,
    "overtaken": lambda event: event.number,
    "faults": lambda fault: fault.number,
}
"""The key a value has in its table."""


class Entry(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The new values by table, the keys that are gone, and whether all that was before is forgotten."""

    reset: bool = False
    gone: dict[str, list[str | int]] = {}
    conditions: list[Conditions] = []
    products: list[Product] = []
    agreements: list[Agreement] = []
    customer_identifiers: list[CustomerIdentifier] = []
    suspensions: list[Suspension] = []
    tokens: list[Token] = []
    billed: list[BilledRecord] = []
    lints: list[Lint] = []
    queues: list[Queue] = []
    messages: list[Message] = []
    scheduled: list[Scheduled] = []
    overtaken: list[Scheduled] = []
    faults: list[Fault] = []


class Unreadable(Exception):
    """The line is none of ours; the text says how."""


_decoder = msgspec.json.Decoder(Entry)


def changes(tables: Tables, *, reset: bool) -> Entry | None:
    """What was touched (after a reset: all there is); None when that is nothing."""
    entry = Entry(reset=reset)
    for name, table in tables.items():
        touched = dict.fromkeys(table, False) if reset else table.touched
        if touched:
            # A key deleted and written again is in both: so it takes its place at the table's end again.
            if gone := [key for key, deleted in touched.items() if deleted]:
                entry.gone = {**entry.gone, name: gone}
            setattr(entry, name, [table.data[key] for key in touched if key in table.data])
    return None if entry == Entry() else entry


def snapshot(values: Mapping[str, list[Any]]) -> Iterator[bytes]:
    """All values of all tables, in lines of bearable length."""
    for name, held in values.items():
        for start in range(0, len(held), LARGEST_PART):
            entry = Entry()
            setattr(entry, name, held[start : start + LARGEST_PART])
            yield encode(entry)


def apply(entry: Entry, tables: Tables) -> None:
    if entry.reset:
        for table in tables.values():
            table.clear()
    for name, gone in entry.gone.items():
        for key in gone:
            tables[name].pop(key, None)
    for name, key_of in KEYS.items():
        table = tables[name]
        for value in getattr(entry, name):
            table[key_of(value)] = value


def encode(entry: Entry) -> bytes:
    """One line. It is read back before it is trusted: what cannot be read must not reach the file."""
    try:
        line = msgspec.json.encode(entry)
        _decoder.decode(line)
    except (UnicodeEncodeError, msgspec.ValidationError):
        # Numbers without end and halves of characters, which JSON of the strict kind does not have.
        line = json.dumps(msgspec.to_builtins(entry)).encode()
        decode(line)
    return line + b"\n"


def decode(line: bytes) -> Entry:
    try:
        return _decoder.decode(line)
    except (ValueError, msgspec.DecodeError):
        pass
    try:
        return msgspec.convert(json.loads(line), Entry)
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from None


def check_header(line: bytes) -> None:
    """Raises Unreadable when a newer simulator, or none, wrote the file."""
    if line == HEADER:
        return
    try:
        version = json.loads(line)["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Unreadable("it is no state file of this simulator") from None
    raise Unreadable(f"its format is version {version}, and this simulator knows version {VERSION}")
