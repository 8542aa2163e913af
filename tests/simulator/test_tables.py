from __future__ import annotations

from billing.simulator.tables import Table


def filled(**values: int) -> Table[str, int]:
    table: Table[str, int] = Table()
    table.update(values)
    return table


def replayed(before: dict[str, int], table: Table[str, int]) -> dict[str, int]:
    """What becomes of a copy that is told only what was touched."""
    copy = dict(before)
    for key, deleted in table.touched.items():
        if deleted:
            copy.pop(key, None)
    for key in table.touched:
        if key in table:
            copy[key] = table[key]
    return copy


def test_an_unwatched_table_remembers_nothing():
    assert filled(a=1).touched == {}


def test_what_was_touched_gives_the_same_table_in_the_same_order():
    table = filled(a=1, b=2, c=3)
    table.watch()
    before = dict(table)
    table["c"] = 4
    del table["a"]
    table["d"] = 5
    table["e"] = 6
    del table["e"]
    table["a"] = 7  # back, and now last but one
    table["e"] = 8
    table["b"] = 9
    assert list(replayed(before, table).items()) == list(table.items())
    assert list(table) == ["b", "c", "d", "a", "e"]


def test_what_was_made_and_deleted_again_is_touched_and_gone():
    table = filled()
    table.watch()
    table["a"] = 1
    del table["a"]
    assert table.touched == {"a": True}
    assert replayed({}, table) == {}


def test_touched_is_forgotten_on_demand():
    table = filled(a=1)
    table.forget_touched()
    table.watch()
    table["a"] = 2
    table.forget_touched()
    assert table.touched == {}
    table["a"] = 3
    assert table.touched == {"a": False}


def test_a_cleared_table_touches_all_it_held():
    table = filled(a=1, b=2)
    table.watch()
    table.clear()
    assert len(table) == 0
    assert table.touched == {"a": True, "b": True}
