"""The publish side of any FastStream app on confluent-kafka: one bounded delivery, a breaker, the outbox behind it.

Invariants: what `broker.publish` returns is `Outcome.SENT` after the acknowledgement or `Outcome.STORED` after the
commit; anything else raises. Every message has a `ce_id` before it is first tried, so that one that comes twice can be
recognised. Of a key nothing is sent past what is stored.

The broker's own settings bound a delivery: give `KafkaBroker` `config=publisher_config()`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fast_depends.pydantic import PydanticSerializer
from faststream import BaseMiddleware
from faststream.message import encode_message

from streams.outbox.direct import NotPublished, Outcome, store_messages
from streams.outbox.envelope import OutgoingMessage, lane_of
from streams.outbox.headers import pack
from streams.outbox.store import keys_waiting
from streams.outbox.verdict import Verdict, judge
from streams.resilience.backoff import Backoff
from streams.resilience.circuit_breaker import BreakerLimits, CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from faststream import ContextRepo

    from streams.outbox.capacity import Capacity
    from streams.resilience.circuit_breaker import Permit
    from streams.storage.database import Database

__all__ = ["Fallback", "PublishBreaker", "publisher_config"]

MESSAGE_TIMEOUT_MS = 5_000
QUEUE_FULL_FIRST_WAIT_SECONDS, QUEUE_FULL_MAX_WAIT_SECONDS = 0.005, 0.1
QUEUE_FULL_SECONDS = 5.0
"""How long a full local queue is waited for before the message is stored."""
UNKNOWN_TYPE = "unknown"


def publisher_config(message_timeout_ms: int = MESSAGE_TIMEOUT_MS) -> dict[str, Any]:
    """What a `KafkaBroker` should be given as `config=`, so that one delivery is acknowledged by all and bounded."""
    return {
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",  # as the relay's producer: a key's partition does not depend on who writes
        "message.timeout.ms": message_timeout_ms,
    }


class Fallback:
    """What the middleware's instances share; a broker gives it one message at a time, so it is made once.

        fallback = Fallback(database)
        broker = KafkaBroker(..., config=publisher_config(), middlewares=[fallback.middleware])

    Args:
        database: whose outbox takes what Kafka does not; a relay on it publishes that.
        capacity: refuses to store when the outbox is full.
        breaker: by default one of its own.
        serializer: the broker's, where it was given one of the app's own.
    """

    def __init__(
        self,
        database: Database,
        capacity: Capacity | None = None,
        breaker: CircuitBreaker | None = None,
        serializer: Any = None,
    ) -> None:
        self.database = database
        self.serializer = serializer
        self.capacity = capacity
        self.breaker = breaker or CircuitBreaker(time.monotonic, BreakerLimits(max_open_seconds=30.0))

    def middleware(self, msg: Any, /, *, context: ContextRepo) -> PublishBreaker:
        """For `middlewares=[...]`."""
        return PublishBreaker(msg, context=context, fallback=self)


class PublishBreaker(BaseMiddleware[Any, Any]):
    """One message on its way out."""

    def __init__(self, msg: Any, /, *, context: ContextRepo, fallback: Fallback) -> None:
        super().__init__(msg, context=context)
        self._fallback = fallback

    async def publish_scope(self, call_next: Callable[[Any], Any], cmd: Any) -> Any:
        """Send it, or store it.

        Raises:
            NotPublished: the broker refused it, or it could be neither sent nor stored.
            TypeError: a batch, whose messages cannot have ids of their own.
        """
        if len(cmd.batch_bodies) > 1:
            raise TypeError("publish_batch gives all its messages the same headers, and so one ce_id: publish singly")
        if not (cmd.headers or {}).get("ce_id"):
            cmd.headers = {**(cmd.headers or {}), "ce_id": str(uuid4())}
        messages = [
            _encoded(cmd, self._fallback.serializer)
        ]  # encodes: an error here is the caller's, and says nothing about the broker
        fallback = self._fallback
        keys = {(one.topic, one.key) for one in messages if one.key is not None}
        async with fallback.database.read() as connection:
            behind = await keys_waiting(connection, keys) if keys else set()
        permit = None if behind else fallback.breaker.allow()
        if permit is None:
            return await self._store(messages, "earlier messages of its key are stored" if behind else "breaker open")
        try:
            return await self._send(call_next, cmd, messages, permit)
        finally:
            permit.abandoned()  # without effect after an answer

    async def _send(
        self, call_next: Callable[[Any], Any], cmd: Any, messages: list[OutgoingMessage], permit: Permit
    ) -> Outcome:
        deadline = time.monotonic() + QUEUE_FULL_SECONDS
        waits = Backoff(QUEUE_FULL_FIRST_WAIT_SECONDS, QUEUE_FULL_MAX_WAIT_SECONDS)
        while True:
            try:
                await call_next(cmd)
            except BufferError as error:  # librdkafka's own queue is full of others
                if time.monotonic() >= deadline:
                    return await self._store(messages, str(error))
                await asyncio.sleep(waits.next_seconds())
            except Exception as error:
                return await self._after(error, messages, permit)
            else:
                permit.succeeded()
                return Outcome.SENT

    async def _after(self, error: Exception, messages: list[OutgoingMessage], permit: Permit) -> Outcome:
        verdicts = {judge(one): one for one in _leaves(error)}
        if Verdict.UNANSWERED in verdicts or Verdict.BROKEN in verdicts:
            permit.failed()
            return await self._store(messages, str(error))
        if Verdict.PURGED in verdicts:
            return await self._store(messages, str(error))
        permit.refused()
        raise NotPublished({}, {number: str(error) for number in range(len(messages))}) from error

    async def _store(self, messages: list[OutgoingMessage], why: str) -> Outcome:
        fallback = self._fallback
        try:
            await store_messages(fallback.database, fallback.capacity, messages)
        except Exception as error:
            reason = f"{why}; and it cannot be stored: {error}"
            raise NotPublished({}, dict.fromkeys(range(len(messages)), reason)) from error
        return Outcome.STORED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """A batch's errors come as a group."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _encoded(cmd: Any, serializer: Any) -> OutgoingMessage:
    """Turn the body into bytes, and say what row it would be: the same bytes and headers either way.

    Raises:
        TypeError: there is no body. FastStream writes a tombstone for that, which the outbox cannot hold.
    """
    if cmd.body is None:
        raise TypeError("a message without a body cannot be stored")
    cmd.body, content_type = encode_message(cmd.body, serializer or PydanticSerializer())
    if content_type:
        cmd.headers = {"content-type": content_type, **cmd.headers}
    headers: dict[str, str] = {"content-type": "", **cmd.headers_to_publish()}
    key = cmd.key.encode() if isinstance(cmd.key, str) else cmd.key
    topic = cmd.destination
    type_name = headers.get("ce_type", UNKNOWN_TYPE)[:255]
    packed = pack(list(headers.items()))
    return OutgoingMessage(topic, key, lane_of(topic, key), cmd.body, packed, headers["ce_id"][:36], type_name)
