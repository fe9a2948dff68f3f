"""What every step of intake is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faststream import BaseMiddleware

from streams.middleware.message import IntakeMessage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faststream import ContextRepo
    from faststream.message import StreamMessage

    from streams.intake.subscription import Subscription

__all__ = ["Step", "Subscriptions"]


class Subscriptions:
    """Which subscription a FastStream subscriber belongs to: by group and topics, both public on it."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[str, tuple[str, ...]], Subscription] = {}

    def add(self, subscription: Subscription) -> None:
        """Make a subscription known.

        Raises:
            ValueError: the group reads one of its topics already.
        """
        for known in self:
            if known.group == subscription.group and set(known.topics) & set(subscription.topics):
                raise ValueError(
                    f"group {known.group} reads {sorted(set(known.topics) & set(subscription.topics))} twice"
                )
        self._by_name[subscription.group, tuple(subscription.topics)] = subscription

    def of(self, subscriber: Any) -> Subscription | None:
        """The subscription behind a subscriber, if it is one of ours."""
        names = tuple(getattr(subscriber, "topic_names", ()))
        return self._by_name.get((getattr(subscriber, "group_id", None) or "", names))

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._by_name.values())


class Step(BaseMiddleware[Any, Any]):
    """One step of intake around the next one.

    A new instance per delivery. `step` may call the next step several times, each time with a part of the delivery;
    the part is also what the handler finds as `message` in FastStream's context.
    """

    def __init__(self, msg: Any, /, *, context: ContextRepo, subscriptions: Subscriptions) -> None:
        super().__init__(msg, context=context)
        self._subscriptions = subscriptions

    @property
    def subscription(self) -> Subscription | None:
        """Whose delivery this is; None for a subscriber that is not ours."""
        return self._subscriptions.of(self.context.get_local("handler_"))

    async def consume_scope(self, call_next: Any, msg: StreamMessage[Any]) -> Any:
        """Hand a delivery of ours to `step`, leave others alone."""
        subscription = self.subscription
        if subscription is None or not isinstance(msg, IntakeMessage):
            return await call_next(msg)
        return await self.step(call_next, msg, subscription)

    async def step(self, call_next: Any, message: IntakeMessage, subscription: Subscription) -> Any:
        """What this step does."""
        raise NotImplementedError

    async def call_part(self, call_next: Any, part: IntakeMessage) -> Any:
        """Go on with a part of the delivery."""
        with self.context.scope("message", part):
            return await call_next(part)
