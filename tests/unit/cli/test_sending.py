"""Lines of JSON become records, or say what is wrong with them."""

from __future__ import annotations

import io
import json
from typing import Any
from uuid import UUID

import pytest

from streams.cli.sending import LINE_MAX_BYTES, BadLine, Line, Sendable, WaitForSettled, lines_of

TASK = "0190a6b0-0000-7000-8000-000000000001"
MESSAGE = "0190a6b0-0000-7000-8000-0000000000ff"
CREATE = {"type": "tasks.create-task.v1", "data": {"task_id": TASK, "title": "[POP-1] - Täglich"}}


def read(*lines: str | bytes | dict[str, Any]) -> list[tuple[int, Line]]:
    texts = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    raw = b"\n".join(text.encode() if isinstance(text, str) else text for text in texts)
    return list(lines_of(io.BytesIO(raw)))


def only(line: str | bytes | dict[str, Any]) -> Line:
    ((_number, found),) = read(line)
    return found


def test_a_line_becomes_a_record() -> None:
    """Topic and key come from the catalogue, the headers are CloudEvents', the id and the time are the line's."""
    found = only({**CREATE, "id": MESSAGE.upper(), "time": "2026-11-22T10:00:00+02:00"})
    assert isinstance(found, Sendable)
    assert (found.topic, found.key) == ("tasks.commands", TASK)
    assert json.loads(found.value) == CREATE["data"]
    assert dict(found.headers) == {
        "ce_specversion": "1.0",
        "ce_id": MESSAGE,
        "ce_type": "tasks.create-task.v1",
        "ce_source": "payday/cli",
        "ce_time": "2026-11-22T08:00:00.000Z",
        "content-type": "application/json",
    }


def test_a_line_without_id_gets_one_of_its_own() -> None:
    """Two lines that say the same are two messages."""
    first, second = (found for _number, found in read(CREATE, CREATE))
    assert isinstance(first, Sendable)
    assert isinstance(second, Sendable)
    assert str(UUID(first.message_id)) == first.message_id != second.message_id


def test_blank_lines_count_and_are_passed_over() -> None:
    """Numbers are those that an editor shows."""
    assert [number for number, _line in read("", CREATE, "   ", {"wait": "settled"})] == [2, 4]


def test_a_wait_line_is_understood() -> None:
    """It stands where a message could."""
    assert only({"wait": "settled"}) == WaitForSettled()


def test_a_default_type_serves_lines_without_one() -> None:
    """`payday send TYPE --file` with bodies only."""
    source = io.BytesIO(json.dumps({"data": CREATE["data"]}).encode())
    ((_number, found),) = lines_of(source, "tasks.create-task.v1")
    assert isinstance(found, Sendable)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        ("nonsense", "is not JSON"),
        (b'{"type": "\xff"}', "is not UTF-8"),
        ("[1]", "should be an object"),
        ('{"type": "tasks.create-task.v1", "data": {"task_id": NaN}}', "NaN is no JSON value"),
        ('{"type": "a", "type": "b", "data": {}}', "'type' is given more than once"),
        ("[" * 100_000, "nested too deeply"),
        ({"data": {}}, "type is missing"),
        ({"type": 7, "data": {}}, "type should be text"),
        ({"type": "tasks.create-task.v1"}, "data is missing"),
        ({"type": "tasks.create-task.v1", "data": []}, "data should be an object"),
        ({"type": "tasks.create-tsk.v1", "data": {}}, "did you mean tasks.create-task.v1"),
        ({**CREATE, "data": {"task_id": TASK}}, "title: is missing"),
        ({**CREATE, "data": {**CREATE["data"], "extra": 1}}, "extra: is not a field"),  # type: ignore[dict-item]
        ({**CREATE, "data": {"task_id": "x", "title": "t"}}, "task_id: should be a UUID"),
        ({**CREATE, "id": "x"}, "should be a UUID"),
        ({**CREATE, "id": 5}, "should be a UUID"),
        ({**CREATE, "time": "yesterday"}, "time 'yesterday' should be like"),
        ({**CREATE, "time": "2026-11-22T10:00:00"}, "should be like"),
        ({**CREATE, "time": "2026-13-22T10:00:00Z"}, "should be like"),
        ({**CREATE, "key": "k"}, "'key' is no field of a line"),
        ({"wait": "forever"}, 'there is only {"wait": "settled"}'),
        ({"type": "tasks.command-rejected.v1", "data": {}}, "tasks.command-rejected.v1"),
        ("x" * (LINE_MAX_BYTES + 1), "is longer than"),
    ],
)
def test_a_bad_line_says_why(line: str | bytes | dict[str, Any], reason: str) -> None:
    """Every mistake has its own words, and none is sent."""
    found = only(line)
    assert isinstance(found, BadLine)
    assert reason in found.reason
    assert "\n" not in found.reason


def test_an_answer_cannot_be_sent_by_itself() -> None:
    """A rejection takes the key of the command that it answers."""
    body = {"command_id": MESSAGE, "command_type": "tasks.create-task.v1", "reason_code": "task-exists", "message": "m"}
    found = only({"type": "tasks.command-rejected.v1", "data": body})
    assert isinstance(found, BadLine)
    assert "answers a command" in found.reason


def test_the_line_after_an_endless_one_is_read() -> None:
    """A line that is too long is passed over without being held in memory."""
    found = read("y" * (3 * LINE_MAX_BYTES), CREATE)
    assert isinstance(found[0][1], BadLine)
    assert isinstance(found[1][1], Sendable)
    assert [number for number, _line in found] == [1, 2]
