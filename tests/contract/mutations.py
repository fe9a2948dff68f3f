"""Ways to spoil a record, and whether it is a message all the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from contracts.message import Message
    from streams.contract_kit.records import Sent

HUGE_CHARACTERS = 300_000
DEEP = 50_000


@dataclass(frozen=True)
class Spoilt:
    """A sound record that is about to be spoilt."""

    record: Sent
    contract: type[Message]

    @property
    def value(self) -> bytes:
        assert self.record.value is not None, "a sound record has a body"
        return self.record.value

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.value)
        return body

    def with_value(self, value: bytes | None) -> Sent:
        return replace(self.record, value=value)

    def with_body(self, body: object) -> Sent:
        return self.with_value(json.dumps(body).encode())

    def with_header(self, name: str, value: bytes) -> Sent:
        return replace(
            self.record,
            headers=[(known, value if known == name else content) for known, content in self.record.headers],
        )

    def truncated(self, length: int) -> Sent:
        return self.with_value(self.value[:length])


@dataclass(frozen=True)
class Mutation:
    """`spoil` is given the record and Hypothesis' `draw`; `breaks` is False where what comes out is still a message."""

    spoil: Callable[[Spoilt, Callable[..., Any]], Sent]
    breaks: bool = True


def _member(sound: Spoilt, draw: Callable[..., Any]) -> str:
    name: str = draw(st.sampled_from(sorted(sound.body)))
    return name


def _dropped(sound: Spoilt, draw: Callable[..., Any]) -> Sent:
    name = _member(sound, draw)
    return sound.with_body({known: value for known, value in sound.body.items() if known != name})


def _with(value: object) -> Callable[[Spoilt, Callable[..., Any]], Sent]:
    return lambda sound, draw: sound.with_body({**sound.body, _member(sound, draw): value})


def _retyped(sound: Spoilt, draw: Callable[..., Any]) -> Sent:
    name = _member(sound, draw)
    others = [17, True, [], {}, 1.5] if isinstance(sound.body[name], str) else ["17", True, [], {}, 1.5]
    return sound.with_body({**sound.body, name: draw(st.sampled_from(others))})


def _out_of_range(sound: Spoilt, draw: Callable[..., Any]) -> Sent:
    name = _member(sound, draw)
    beyond = "x" * 501 if isinstance(sound.body[name], str) else draw(st.sampled_from([2**63, -(2**63) - 1]))
    return sound.with_body({**sound.body, name: beyond})


def _repeated(sound: Spoilt, draw: Callable[..., Any]) -> Sent:
    name = _member(sound, draw)
    return sound.with_value(sound.value[:-1] + f",{json.dumps(name)}:{json.dumps(sound.body[name])}}}".encode())


def _not_text(sound: Spoilt, draw: Callable[..., Any]) -> Sent:
    at = draw(st.integers(1, len(sound.value) - 1))
    return sound.with_value(sound.value[:at] + b"\xff" + sound.value[at:])


def _header_not_text(sound: Spoilt, draw: Callable[..., Any]) -> Sent:
    names = sorted(name for name, _value in sound.record.headers)
    return sound.with_header(draw(st.sampled_from(names)), b"\xff\xfe")


MUTATIONS = {
    "a member is null": Mutation(_with(None)),
    "another member": Mutation(lambda sound, _draw: sound.with_body({**sound.body, "colour": [1]}), breaks=False),
    "another type": Mutation(_retyped),
    "Confluent's magic byte": Mutation(lambda sound, _draw: sound.with_value(b"\x00\x00\x00\x00\x07" + sound.value)),
    "content type": Mutation(lambda sound, _draw: sound.with_header("content-type", b"application/avro")),
    "dropped": Mutation(_dropped),
    "empty": Mutation(lambda sound, _draw: sound.with_value(b"")),
    "header that is no text": Mutation(_header_not_text),
    "huge number": Mutation(_with(10**300)),
    "huge text": Mutation(_with("x" * HUGE_CHARACTERS)),
    "NaN": Mutation(_with(float("nan"))),
    "nested": Mutation(_with([[[{"a": [{}]}]]])),
    "nested deeply": Mutation(lambda sound, _draw: sound.with_value(b"[" * DEEP)),
    "no text": Mutation(_not_text),
    "out of range": Mutation(_out_of_range),
    "repeated name": Mutation(_repeated),
    "tombstone": Mutation(lambda sound, _draw: sound.with_value(None)),
    "truncated": Mutation(lambda sound, draw: sound.truncated(draw(st.integers(1, len(sound.value) - 1)))),
}
