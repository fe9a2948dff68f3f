"""A sink that posts each notice as a JSON document to a URL.

Invariant: the URL, which often is a secret, never stands in an error or a log line.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.alarms.kinds import AlarmKind
    from streams.alarms.notices import Notice

__all__ = ["NotTaken", "WebhookSink"]

WEBHOOK_TIMEOUT_SECONDS = 5.0


class NotTaken(Exception):
    """The receiver did not answer with 2xx, or not at all."""


class WebhookSink:
    """Posts to a URL. 2xx means taken; a redirect is not followed.

    The document: `id` (the same again whenever the same notice is sent twice), `event` (raised, repeated, cleared),
    `name`, `subject`, `severity`, `detail`, `meaning`, `runbook`, `raised_at`, `last_seen_at`, `cleared_at` (RFC 3339
    or null), `number` (from 1, of this condition), `app`.

    Args:
        url: http or https.
        kinds: what is known of each name.
        app: who is speaking, where one receiver serves several.
        timeout_seconds: for the whole exchange; each of its steps is bounded by it too.
        transport: instead of the network.
    """

    name = "webhook"

    def __init__(
        self,
        url: str,
        kinds: Iterable[AlarmKind],
        *,
        app: str = "",
        timeout_seconds: float = WEBHOOK_TIMEOUT_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._kinds = {kind.name: kind for kind in kinds}
        self._app = app
        self._timeout_seconds = timeout_seconds
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        logging.getLogger("httpx").setLevel(logging.WARNING)  # at info it writes every URL

    async def notify(self, notice: Notice, /) -> None:
        """Post it.

        Raises:
            NotTaken: anything but 2xx.
        """
        if self._client is None:  # not before there is an event loop, and not where no alarm ever comes
            self._client = httpx.AsyncClient(timeout=self._timeout_seconds, transport=self._transport)
        try:
            response = await self._client.post(self._url, json=self._document(notice))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = str(error).replace(self._url, "(the URL)")
            raise NotTaken(f"the webhook does not answer: {type(error).__name__} {said}".rstrip()) from None
        if not response.is_success:
            raise NotTaken(f"the webhook answered {response.status_code}")

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _document(self, notice: Notice) -> dict[str, Any]:
        kind = self._kinds.get(notice.name)
        return {
            "id": f"{notice.condition_id}-{notice.number}",
            "event": notice.event.value,
            "name": notice.name,
            "subject": notice.subject,
            "severity": notice.severity,
            "detail": notice.detail,
            "meaning": kind.meaning if kind else None,
            "runbook": kind.runbook if kind else None,
            "raised_at": _rfc3339(notice.raised_at_ms),
            "last_seen_at": _rfc3339(notice.last_seen_at_ms),
            "cleared_at": None if notice.cleared_at_ms is None else _rfc3339(notice.cleared_at_ms),
            "number": notice.number,
            "app": self._app,
        }


def _rfc3339(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
