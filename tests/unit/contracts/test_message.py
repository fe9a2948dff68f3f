"""Messages are strict when written and tolerant when read, and every failure is one short line."""

import copy
import datetime as dt
import pickle
import tracemalloc

import pytest
from pydantic import TypeAdapter, ValidationError

from contracts.accounting import AdjustBalance, TransactionApplied
from contracts.catalog import CATALOG, Entry
from contracts.invalid import FIELD_MAX_CHARACTERS, TEXT_MAX_CHARACTERS
from contracts.message import InvalidMessage, Problem, UndecodableMessage
from contracts.rejections import CommandRejected
from contracts.strict_json import flaw_in
from contracts.tasks import CompleteTask, CreateTask, TaskCompleted

UUID = "0192f0c1-aaaa-7bbb-8ccc-0123456789ab"
VALID = b'{"task_id":"%s","title":"Title"}' % UUID.encode()


def with_title(text: bytes) -> bytes:
    """Give a create-task whose title is this JSON text."""
    return b'{"task_id":"%s","title":%s}' % (UUID.encode(), text)


def with_extra(text: bytes) -> bytes:
    """Give a create-task with an unknown field of this JSON text."""
    return b'{"task_id":"%s","title":"Title","extra":%s}' % (UUID.encode(), text)


UNDECODABLE: dict[str, bytes | None] = {
    "tombstone": None,
    "empty": b"",
    "blank": b" \n",
    "truncated": VALID[:-1],
    "truncated-in-text": VALID[:-4],
    "not-utf-8": with_title(b'"\xff\xfe"'),
    "not-utf-8-in-unknown-field": with_extra(b'"\xff"'),
    "surrogate-as-utf-8": with_title(b'"\xed\xa0\x80"'),
    "overlong-utf-8": with_title(b'"\xc0\x80"'),
    "utf-16": VALID.decode().encode("utf-16"),
    "utf-16-without-mark": VALID.decode().encode("utf-16-le"),
    "byte-order-mark": b"\xef\xbb\xbf" + VALID,
    "confluent-magic-byte": b"\x00\x00\x00\x00\x01" + VALID,
    "trailing-text": VALID + b"x",
    "trailing-nul": VALID + b"\x00",
    "two-documents": VALID + VALID,
    "trailing-comma": VALID[:-1] + b",}",
    "single-quotes": VALID.replace(b'"', b"'"),
    "raw-nul-in-text": with_title(b'"a\x00b"'),
    "raw-line-feed-in-text": with_title(b'"a\nb"'),
    "lone-high-surrogate": with_title(b'"\\ud800"'),
    "lone-low-surrogate": with_title(b'"\\udc00"'),
    "lone-surrogate-in-unknown-field": with_extra(b'"\\ud800"'),
    "bad-escape": with_title(b'"\\x41"'),
    "leading-zero": with_extra(b"01"),
    "nan-in-known-field": with_title(b"NaN"),
    "nan-in-unknown-field": with_extra(b"NaN"),
    "infinity-in-unknown-field": with_extra(b"[-Infinity]"),
    "deep-arrays": b"[" * 1_000_000,
    "deep-objects": b'{"a":' * 1_000_000,
    "deep-closed-in-unknown-field": with_extra(b"[" * 100_000 + b"]" * 100_000),
    "number-of-many-digits": with_extra(b"9" * 100_000),
    "number-of-many-digits-in-known-field": with_title(b"-" + b"9" * 100_000),
}

INVALID: dict[str, bytes] = {
    "null": b"null",
    "array": b"[]",
    "text": b'"text"',
    "number": b"1",
    "empty-object": b"{}",
    "escaped-nul": with_title(b'"a\\u0000b"'),
    "escaped-control": with_title(b'"a\\u001bb"'),
    "a-megabyte-of-text": with_title(b'"' + b"x" * 1_000_000 + b'"'),
    "title-is-null": with_title(b"null"),
    "title-is-a-number": with_title(b"1"),
    "title-is-nested": with_title(b'{"title":{"title":"x"}}'),
    "id-beyond-int64": VALID.replace(b'"%s"' % UUID.encode(), b"9223372036854775808"),
    "id-in-upper-case": VALID.replace(UUID.encode(), UUID.upper().encode()),
    "name-twice-same-value": VALID[:-1] + b',"title":"Title"}',
    "name-twice-other-value": VALID[:-1] + b',"title":"Other"}',
    "name-twice-first-invalid": b'{"title":1,' + VALID[1:],
    "name-twice-second-invalid": VALID[:-1] + b',"title":1}',
    "name-twice-escaped": VALID[:-1] + b',"titl\\u0065":"Other"}',
    "name-twice-spaced": VALID[:-1] + b',"title" :"Other"}',
    "unknown-name-twice": VALID[:-1] + b',"x":1,"x":2}',
    "name-twice-in-unknown-field": with_extra(b'[{"x":1,"x":1}]'),
}


@pytest.mark.parametrize("value", UNDECODABLE.values(), ids=UNDECODABLE.keys())
def test_bytes_that_are_not_json_are_undecodable(value: bytes | None) -> None:
    """Whatever is not one UTF-8 JSON document is told apart from JSON with wrong content."""
    with pytest.raises(UndecodableMessage) as caught:
        CreateTask.decode(value)
    assert str(caught.value).startswith("tasks.create-task.v1: ")
    assert_short_line(caught.value)


@pytest.mark.parametrize("value", INVALID.values(), ids=INVALID.keys())
def test_json_that_breaks_the_contract_is_invalid(value: bytes) -> None:
    """JSON with wrong content is invalid and not undecodable, names given twice included."""
    with pytest.raises(InvalidMessage) as caught:
        CreateTask.decode(value)
    assert type(caught.value) is InvalidMessage
    assert_short_line(caught.value)


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.type_name)
def test_no_contract_lets_another_exception_through(entry: Entry) -> None:
    """Hostile bytes raise `InvalidMessage` and nothing else, whatever the contract."""
    for value in (*UNDECODABLE.values(), *INVALID.values()):
        with pytest.raises(InvalidMessage) as caught:
            entry.contract.decode(value)
        assert caught.value.type_name == entry.type_name


def test_the_second_look_does_not_run_out_of_stack() -> None:
    """Nesting that is too deep for Python's own reader is undecodable and not a `RecursionError`."""
    assert isinstance(flaw_in("some.type.v1", b"[" * 100_000 + b"]" * 100_000), UndecodableMessage)
    assert CreateTask.decode(with_extra(b"[" * 150 + b"]" * 150)) == CreateTask.decode(VALID)


def test_unknown_fields_are_ignored_when_read() -> None:
    """A consumer reads a message of a newer version as if the new fields were not there."""
    message = CreateTask.decode(with_extra(b'{"a":[1,{"b":null}],"c":1.5e300,"d":12345678901234567890123}'))
    assert message == CreateTask(task_id=UUID, title="Title")
    assert message.encode() == VALID


def test_unknown_fields_are_refused_when_written() -> None:
    """A producer is told about a field that does not exist, however it makes the message."""
    reason = "tasks.create-task.v1: extra: is not a field of this message"
    fields = {"task_id": UUID, "title": "Title", "extra": 1}
    with pytest.raises(InvalidMessage) as caught:
        CreateTask(**fields)  # type: ignore[arg-type]
    assert str(caught.value) == reason
    with pytest.raises(InvalidMessage) as caught:
        CreateTask.model_validate(fields)
    assert str(caught.value) == reason
    with pytest.raises(InvalidMessage) as caught:
        CreateTask.model_validate_json(with_extra(b"1"))
    assert str(caught.value) == reason


def test_reading_as_a_producer_takes_text_and_bytes() -> None:
    """Strict reading of JSON takes what pydantic's method takes, and refuses bytes that are not JSON."""
    expected = CreateTask(task_id=UUID, title="Title")
    for value in (VALID, VALID.decode(), bytearray(VALID)):
        assert CreateTask.model_validate_json(value) == expected
    with pytest.raises(InvalidMessage, match="title: is given more than once"):
        CreateTask.model_validate_json(INVALID["name-twice-other-value"])
    for text in ("", "{", '{"task_id":"\ud800"}'):
        with pytest.raises(UndecodableMessage):
            CreateTask.model_validate_json(text)


def test_an_error_names_fields_and_rules() -> None:
    """The text is the type name, then each field with what is wrong, in the contract's order."""
    cases: list[tuple[dict[str, object], str]] = [
        ({"task_id": 1}, "task_id: should be a valid string; title: is missing"),
        ({"task_id": UUID, "title": "x" * 201}, "title: should have at most 200 characters"),
        ({"task_id": UUID, "title": ""}, "title: should have at least 1 character"),
        (
            {"task_id": "7", "title": "\x00"},
            (
                "task_id: should be a UUID in lower case with hyphens; "
                "title: should be one line without control characters"
            ),
        ),
    ]
    for fields, expected in cases:
        for make in (lambda f: CreateTask(**f), CreateTask.model_validate):
            with pytest.raises(InvalidMessage) as caught:
                make(fields)
            assert str(caught.value) == f"tasks.create-task.v1: {expected}"
    with pytest.raises(InvalidMessage) as caught:
        CreateTask.model_validate(3)
    assert caught.value.problems == (Problem("", caught.value.problems[0].reason),)


def test_an_error_says_which_amounts_are_allowed() -> None:
    """The union behind a non-zero amount does not show in the text."""
    with pytest.raises(InvalidMessage) as caught:
        AdjustBalance(worker_id=UUID, amount_minor=0, currency="USD", note="", requested_by=UUID)
    assert str(caught.value) == (
        "accounting.adjust-balance.v1: amount_minor: "
        "should be a whole number other than 0, from -1000000000000 to 1000000000000"
    )


def test_a_long_list_of_problems_is_cut() -> None:
    """Five problems are listed; the rest are counted in the text and kept in the attribute."""
    with pytest.raises(InvalidMessage) as caught:
        TransactionApplied.decode(b"{}")
    assert len(caught.value.problems) == 9
    assert str(caught.value).endswith("; amount_minor: is missing; and 4 more")
    with pytest.raises(InvalidMessage) as caught:
        AdjustBalance.decode(b"{}")
    assert str(caught.value).endswith("; requested_by: is missing")


def test_hostile_field_names_are_neither_echoed_nor_unbounded() -> None:
    """Names that a sender made up appear shortened and without unprintable characters."""
    names = [f"{number}\n\x00\u2028\u202e" + "y" * 100_000 for number in range(100)]
    with pytest.raises(InvalidMessage) as caught:
        CreateTask.model_validate(dict.fromkeys(names, 1))
    assert_short_line(caught.value)
    assert str(caught.value).endswith("; and 97 more")
    with pytest.raises(InvalidMessage) as caught:
        CreateTask.decode(b'{"%s":1,"%s":2}' % (b"\\n" * 100_000, b"\\n" * 100_000))
    assert_short_line(caught.value)


def test_an_error_is_bounded_even_when_every_problem_is_long() -> None:
    """The whole line keeps to its limit, and the count of what was left out survives."""
    problems = tuple(Problem("f" * 60, "r" * 400) for _ in range(9))
    text = str(InvalidMessage("some.type.v1", problems))
    assert len(text) <= TEXT_MAX_CHARACTERS
    assert text.endswith("…; and 4 more")


def test_an_error_does_not_hold_on_to_the_input() -> None:
    """No chained exception keeps a large or private value alive."""
    with pytest.raises(InvalidMessage) as caught:
        CreateTask(task_id=UUID, title="secret" * 1000)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert "secret" not in repr(caught.value)


def test_pydantic_itself_does_not_show_the_input() -> None:
    """Where pydantic validates on behalf of a framework, its own error keeps values to itself too."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(CreateTask).validate_python({"task_id": UUID, "title": "secret" * 100})
    assert "secret" not in str(caught.value)


def test_an_error_survives_pickling() -> None:
    """An error can cross a process boundary and keeps its class, attributes and text."""
    with pytest.raises(UndecodableMessage) as caught:
        CreateTask.decode(b"{")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is UndecodableMessage
    assert (again.type_name, again.problems) == (caught.value.type_name, caught.value.problems)
    assert str(again) == str(caught.value)
    assert isinstance(again, ValueError)


def test_a_message_cannot_be_changed() -> None:
    """Messages are frozen and can be used as keys."""
    message = CompleteTask(task_id=UUID, worker_id=UUID)
    with pytest.raises(ValueError, match="frozen"):
        message.task_id = "x"  # type: ignore[misc]
    assert {message: 1}[copy.copy(message)] == 1


def test_encoding_is_compact_and_leaves_out_what_is_not_there() -> None:
    """The body has no blanks, keeps the fields' order, writes UTF-8 and leaves out `None`."""
    assert CreateTask(task_id=UUID, title="“é” 1").encode() == VALID.replace(b"Title", "“é” 1".encode())
    posting = TransactionApplied(
        transfer_id=UUID,
        worker_id=UUID,
        sequence=1,
        kind="fee",
        amount_minor=-5,
        currency="USD",
        balance_after_minor=-5,
        period=dt.date(2026, 11, 23),
        business_date=dt.date(2026, 11, 22),
        task_id=UUID,
    )
    assert b"payout_id" not in posting.encode()
    assert posting.encode().endswith(b'"business_date":"2026-11-22","task_id":"%s"}' % UUID.encode())
    with_null = posting.encode()[:-1] + b',"payout_id":null}'
    assert TransactionApplied.decode(with_null) == posting


def test_colons_in_text_do_not_hide_a_repeated_name() -> None:
    """The shortcut that spares most messages the second look is exact, not a guess."""
    assert CreateTask.decode(VALID.replace(b"Title", b"a: b: c")).title == "a: b: c"
    moment = b'{"task_id":"%s","worker_id":"%s","completed_at":"2026-11-22T10:30:00Z"}' % ((UUID.encode(),) * 2)
    assert TaskCompleted.decode(moment).completed_at.hour == 10
    escaped = moment.replace(b"10:30:00Z", b"10\\u003a30\\u003a00Z")
    twice = escaped[:-1] + b',"task_id":"%s"}' % UUID.encode()
    assert TaskCompleted.decode(escaped) == TaskCompleted.decode(moment)
    with pytest.raises(InvalidMessage, match="task_id: is given more than once"):
        TaskCompleted.decode(twice)


def test_decoding_a_megabyte_of_rubbish_stays_small() -> None:
    """The error for a large record keeps nothing of its size."""
    value = b'{"title":"' + b"x" * 5_000_000 + b'"}'
    tracemalloc.start()
    try:
        with pytest.raises(InvalidMessage) as caught:
            CreateTask.decode(value)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert_short_line(caught.value)
    assert kept < 1_000_000


def test_a_contract_outside_the_catalogue_goes_by_its_class_name() -> None:
    """A class that is not listed has its own name in errors, never that of the class it extends."""

    class Refined(CreateTask):
        """Extends a catalogued contract."""

    for contract, name in ((Refined, "Refined"), (CommandRejected, "CommandRejected")):
        with pytest.raises(InvalidMessage, match=f"^{name}: "):
            contract.decode(b"{}")


def assert_short_line(error: InvalidMessage) -> None:
    """The text of an error is printable, on one line and bounded, and so are its parts."""
    text = str(error)
    assert text.isprintable()
    assert 0 < len(text) <= TEXT_MAX_CHARACTERS
    assert all(len(problem.field) <= FIELD_MAX_CHARACTERS for problem in error.problems)
