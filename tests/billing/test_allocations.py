"""Tags become allocations, exact to the millionth."""

import json
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.aws import wire
from billing.aws.limits import MAX_ALLOCATIONS, TAG_TEXT
from billing.closing.allocations import MAX_BYTES, allocate

quick = settings(deadline=None, max_examples=150)

amounts = st.integers(0, 10**16 - 1).map(lambda millionths: Decimal(millionths).scaleb(-6))
tag_sets = st.dictionaries(
    st.text("abcXYZ 019+-=._:/@", min_size=1, max_size=6),
    st.text("abcXYZ 019+-=._:/@", min_size=1, max_size=6),
    max_size=5,
)
usages = st.lists(st.tuples(tag_sets, amounts), min_size=1, max_size=30)


def shares(split):
    return {part.tags: Decimal(part.quantity) for part in wire.allocations_from_json(split.json)}


@quick
@given(usages, st.fractions(0, 1))
def test_the_sets_add_up_to_the_quantity(usage, part):
    used = sum(amount for _, amount in usage)
    quantity = Decimal(int(used.scaleb(6) * part.numerator // part.denominator)).scaleb(-6)
    split = allocate(usage, quantity=quantity)
    if split.json:
        assert sum(shares(split).values()) == quantity
        assert all(share > 0 for share in shares(split).values())
    else:
        assert quantity == 0 or not any(tags for tags, _ in usage)


@quick
@given(usages, st.randoms())
def test_the_order_of_the_usage_does_not_matter(usage, random):
    quantity = sum(amount for _, amount in usage)
    shuffled = list(usage)
    random.shuffle(shuffled)
    assert allocate(usage, quantity=quantity) == allocate(shuffled, quantity=quantity)


@quick
@given(usages, st.integers(1, 10**9))
def test_no_share_is_a_millionth_off_its_proportion(usage, millionths):
    used = sum(amount for _, amount in usage)
    quantity = min(used, Decimal(millionths).scaleb(-6))
    split = allocate(usage, quantity=quantity)
    per_set: dict = {}
    for tags, amount in usage:
        name = tuple(sorted(tags.items()))
        per_set[name] = per_set.get(name, 0) + int(amount.scaleb(6))
    for name, share in shares(split).items():
        exact = per_set[name] * int(quantity.scaleb(6)) / int(used.scaleb(6))
        assert abs(int(share.scaleb(6)) - exact) <= 1 + exact * 1e-9


def test_what_is_left_goes_to_the_largest_fraction_then_in_tag_order():
    usage = [({"t": "c"}, Decimal(1)), ({"t": "b"}, Decimal(1)), ({"t": "a"}, Decimal(1))]
    assert shares(allocate(usage, quantity=Decimal("0.000002"))) == {
        (("t", "a"),): Decimal("0.000001"),
        (("t", "b"),): Decimal("0.000001"),
    }
    usage = [({"t": "a"}, Decimal("1.4")), ({"t": "b"}, Decimal("1.6"))]
    assert shares(allocate(usage, quantity=Decimal("0.000001"))) == {(("t", "b"),): Decimal("0.000001")}


def test_one_tag_set_is_one_set_however_often_it_was_used():
    usage = [({"a": "1", "b": "2"}, Decimal(1)), ({"b": "2", "a": "1"}, Decimal(2)), ({}, Decimal(4))]
    assert shares(allocate(usage, quantity=Decimal(7))) == {
        (("a", "1"), ("b", "2")): Decimal(3),
        (): Decimal(4),
    }


def test_untagged_usage_and_a_zero_quantity_have_no_allocations():
    assert allocate([({}, Decimal(5))], quantity=Decimal(5)).json == ""
    assert allocate([({"t": "a"}, Decimal(5))], quantity=Decimal(0)).json == ""
    assert allocate([], quantity=Decimal(0)).json == ""


def test_the_most_sets_that_fit_are_kept_and_the_smallest_go_untagged():
    usage = [({"t": f"{n:05}"}, Decimal(n + 1)) for n in range(MAX_ALLOCATIONS + 100)]
    quantity = sum(amount for _, amount in usage)
    split = allocate(usage, quantity=quantity)
    parts = shares(split)
    assert len(parts) == MAX_ALLOCATIONS
    assert sum(parts.values()) == quantity
    assert split.folded == 101  # the hundred too many, and the one whose place the untagged set took
    assert parts[()] == sum(Decimal(n + 1) for n in range(101))


def test_exactly_as_many_sets_as_aws_takes_are_all_kept():
    usage = [({"t": f"{n:05}"}, Decimal(1)) for n in range(MAX_ALLOCATIONS)]
    split = allocate(usage, quantity=Decimal(MAX_ALLOCATIONS))
    assert (len(shares(split)), split.folded) == (MAX_ALLOCATIONS, 0)


def test_one_record_stays_below_a_quarter_megabyte_in_the_request():
    long = {f"{name}{'k' * 99}": "v" * 256 for name in "abcd"}
    usage = [({**long, "n": f"{n:04}"}, Decimal(n + 1)) for n in range(500)]
    quantity = sum(amount for _, amount in usage)
    split = allocate(usage, quantity=quantity)
    parts = wire.allocations_from_json(split.json)
    sent = json.dumps(
        [
            {
                "AllocatedUsageQuantityAsDecimal": part.quantity,
                "Tags": [{"Key": name, "Value": value} for name, value in part.tags],
            }
            for part in parts
        ]
    )
    assert len(sent.encode()) <= MAX_BYTES < 256_000
    assert sum(shares(split).values()) == quantity
    assert split.folded > 0


def test_small_tags_are_measured_as_they_are_sent_not_as_they_are_kept():
    # AWS's names make the request more than twice as long as the frozen text.
    usage = [(dict.fromkeys("abcd", "1") | {"n": str(n)}, Decimal(1)) for n in range(MAX_ALLOCATIONS)]
    split = allocate(usage, quantity=Decimal(MAX_ALLOCATIONS))
    assert wire.allocations_size(split.json) <= MAX_BYTES
    assert sum(shares(split).values()) == MAX_ALLOCATIONS
    assert TAG_TEXT.fullmatch("a b+c-=._:/@")
