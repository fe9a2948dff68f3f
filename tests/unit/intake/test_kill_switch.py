"""Many different keys that fail for one cause are not many bad records."""

from __future__ import annotations

from collections.abc import Sequence

from streams.intake.kill_switch import KillSwitch, KillSwitchLimits

OK = None


def fail(key: object, error_type: str = "KeyError") -> tuple[str, object]:
    return (error_type, key)


def feed(switch: KillSwitch, *batches: Sequence[tuple[str, object] | None]) -> str | None:
    """Commit batch after batch until one is refused."""
    for batch in batches:
        if (why := switch.judge(batch)) is not None:
            return why
        switch.keep(batch)
    return None


def switch(**limits: object) -> KillSwitch:
    return KillSwitch(KillSwitchLimits(**limits))  # type: ignore[arg-type]


def test_twenty_keys_in_a_row_trip_it() -> None:
    assert feed(switch(), [fail(key) for key in range(19)]) is None
    assert "20 different keys" in (feed(switch(), [fail(key) for key in range(20)]) or "")


def test_twenty_keys_in_a_row_trip_it_one_by_one() -> None:
    """Also where each record has a transaction of its own."""
    assert feed(switch(), *([fail(key)] for key in range(19))) is None
    assert feed(switch(), *([fail(key)] for key in range(20))) is not None


def test_one_key_that_fails_for_ever_does_not() -> None:
    """That is one bad record, however often it comes."""
    assert feed(switch(), *([fail("same")] for _ in range(500))) is None


def test_a_tenth_that_fails_does_not() -> None:
    """Each with a key of its own, batch after batch."""
    batches = [[fail(n) if n % 10 == 0 else OK for n in range(b * 500, b * 500 + 500)] for b in range(20)]
    assert feed(switch(), *batches) is None


def test_half_of_the_window_with_one_error_does() -> None:
    """Although there are successes between them."""
    assert feed(switch(), [fail(n) if n % 2 else OK for n in range(60)]) is not None


def test_half_of_the_window_with_many_errors_does_not() -> None:
    """Different errors have different causes."""
    assert feed(switch(), [fail(n, f"Error{n}") if n % 2 else OK for n in range(200)]) is None


def test_what_was_long_ago_does_not_count() -> None:
    """Only the last so many records are looked at."""
    several = switch(window_records=40)
    assert feed(several, [fail(n) for n in range(15)], [OK] * 40, [fail(n) for n in range(100, 115)]) is None


def test_what_was_not_committed_is_not_counted() -> None:
    """A transaction that is redone is judged again, not twice."""
    one = switch()
    for start in range(0, 75, 15):
        assert one.judge([fail(n) for n in range(start, start + 15)]) is None
    assert feed(one, [fail(n) for n in range(100, 115)]) is None


def test_a_failing_probe_leaves_it_tripped_and_a_success_closes_it() -> None:
    one = switch()
    one.trip("why")
    assert one.judge([fail(1)]) == "why"
    assert one.judge([OK]) is None
    one.keep([OK])
    assert one.tripped is None


def test_a_bad_record_at_the_front_does_not_keep_it_tripped() -> None:
    """Every other probe takes the whole delivery: where most of it succeeds, the cause is over."""
    one = switch()
    one.trip("why")
    assert [one.probe_records(50) for _ in range(3)] == [1, 50, 1]
    assert one.judge([fail(1), *[OK] * 49]) is None


def test_it_can_be_switched_off() -> None:
    assert feed(switch(enabled=False), [fail(key) for key in range(500)]) is None
