"""What `payday dead-letters` changes: replay, edit, discard, acknowledge-gaps; and export.

Invariant: a command writes an intent, in transactions of a bounded size; a running `payday run` carries it out.
"""

from __future__ import annotations

import asyncio
import base64
import getpass
import json
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streams.cli.errors import Failed, Refused
from streams.cli.opening import open_database
from streams.cli.output import work_in_progress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from streams.intake.operate import Actor, Plan, Selection
    from streams.settings import Settings
    from streams.storage.database import Database

__all__ = ["acknowledge", "discard", "edit", "export", "read_key", "replay", "somebody"]

BETWEEN_LOOKS_SECONDS = 0.1


def somebody() -> str:
    """Who runs this command, as far as the machine knows."""
    with suppress(OSError, KeyError):
        return f"{getpass.getuser()}@{socket.gethostname()}"
    return f"somebody@{socket.gethostname()}"


def read_key(key: str | None) -> bytes | None:
    """A key as bytes."""
    return None if key is None else key.encode("utf-8", "surrogateescape")


async def replay(
    settings: Settings, selection: Selection, actor: Actor, *, dry_run: bool, wait_seconds: float | None, quiet: bool
) -> dict[str, Any]:
    """Let records be tried now; with `wait_seconds`, see what came of it."""
    from streams.intake import operate

    async with open_database(settings) as database:
        async with database.read() as connection:
            plan = await operate.plan_replay(connection, selection)
        done: list[int] = []
        if not dry_run:
            with work_in_progress("replaying", len(plan.heads), quiet=quiet) as progress:
                for chunk in _chunks(sorted(plan.heads)):
                    async with database.write() as connection:
                        done += await operate.replay(connection, chunk, actor)
                    progress(len(done), None)
        report = _report(plan, done, dry_run=dry_run)
        if wait_seconds is not None and not dry_run:
            before = {one: plan.heads[one] for one in done}
            report |= await _outcome(database, before, wait_seconds, quiet=quiet)
        return report


def _report(plan: Plan, done: Collection[int], *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "replayed": sorted(plan.heads) if dry_run else list(done),
        "followers": plan.followers,
        "refused": [{"id": one, "why": why} for one, why in sorted(plan.refused.items())],
    }


async def _outcome(
    database: Database, before: Mapping[int, int], wait_seconds: float, *, quiet: bool
) -> dict[str, Any]:
    """What became of the records: tried again means that their attempts are more than before."""
    from sqlalchemy import select

    from streams.intake.tables import parked
    from streams.storage.bulk import among

    deadline = time.monotonic() + wait_seconds
    columns = (parked.c.id, parked.c.attempts, parked.c.resolved_at_ms)
    with work_in_progress("waiting for the app", len(before), quiet=quiet) as progress:
        while True:
            async with database.read() as connection:
                rows = (
                    await connection.execute(select(*columns).where(among(connection, parked.c.id, sorted(before))))
                ).all()
            resolved = [row.id for row in rows if row.resolved_at_ms is not None]
            failed = [row.id for row in rows if row.resolved_at_ms is None and row.attempts > before[row.id]]
            progress(len(resolved) + len(failed), None)
            if len(resolved) + len(failed) == len(before) or time.monotonic() >= deadline:
                waiting = sorted(before.keys() - {*resolved, *failed})
                return {"resolved": sorted(resolved), "failed": sorted(failed), "not_tried": waiting}
            await asyncio.sleep(BETWEEN_LOOKS_SECONDS)


async def edit(
    settings: Settings, record_id: int, actor: Actor, value: bytes | None, headers: Mapping[str, str], *, force: bool
) -> dict[str, Any]:
    """Give a record another value; what its contract refuses is refused, unless forced."""
    from sqlalchemy import select

    from streams.intake import operate
    from streams.intake.tables import parked
    from streams.outbox.headers import unpack

    async with open_database(settings) as database, database.write() as connection:
        row = (await connection.execute(select(parked).where(parked.c.id == record_id))).one_or_none()
        if row is None:
            raise Failed(f"there is no parked record {record_id}")
        kept = unpack(row.edited_headers or row.headers)
        after = [(name, content) for name, content in kept if name not in headers]
        after += [(name, content.encode()) for name, content in headers.items()]
        new_value = value if value is not None else (row.edited_value if row.edits else row.value)
        problem = _problem(dict(after).get("ce_type"), new_value)
        if problem is not None and not force:
            raise Refused(f"record {record_id} as edited would be refused: {problem} (--force edits it all the same)")
        await operate.edit(connection, record_id, actor, value=new_value, headers=after)
    return {"id": record_id, "before": _shown(row.value), "after": _shown(new_value), "problem": problem}


def _problem(type_name: bytes | None, value: bytes | None) -> str | None:
    """What the contract says against a value."""
    from streams.catalog import ContractCatalog

    decoder = ContractCatalog().decoder((type_name or b"").decode(errors="replace"))
    if decoder is None:
        return f"{(type_name or b'no ce_type').decode(errors='replace')} is no type of this version"
    try:
        decoder(value or b"")
    except Exception as error:
        return " ".join(str(error).split())[:500]
    return None


async def discard(
    settings: Settings, selection: Selection, actor: Actor, *, dry_run: bool, quiet: bool
) -> dict[str, Any]:
    """Give records up."""
    from streams.intake import operate

    async with open_database(settings) as database:
        async with database.read() as connection:
            ids = await operate.selected_ids(connection, selection)
        missing = sorted(set(selection.ids) - set(ids))
        done: list[int] = []
        if not dry_run:
            with work_in_progress("discarding", len(ids), quiet=quiet) as progress:
                for chunk in _chunks(ids):
                    async with database.write() as connection:
                        done += await operate.discard(connection, chunk, actor)
                    progress(len(done), None)
        refused = [{"id": one, "why": "there is no unresolved record with this id"} for one in missing]
        return {"dry_run": dry_run, "discarded": ids if dry_run else done, "refused": refused}


async def acknowledge(settings: Settings, actor: Actor, group: str | None, topic: str | None) -> list[dict[str, Any]]:
    """Let the alarms of known gaps end."""
    from streams.intake import operate

    async with open_database(settings) as database, database.write() as connection:
        return await operate.acknowledge_gaps(connection, actor, group=group, topic=topic)


async def export(settings: Settings, selection: Selection, file: Path | None, *, quiet: bool) -> int:
    """Write records as JSONL, with their bytes in base64; how many."""
    from sqlalchemy import select

    from streams.intake import operate
    from streams.intake.tables import parked
    from streams.storage.bulk import among

    written = 0
    async with open_database(settings) as database, database.read() as connection:
        ids = await operate.selected_ids(connection, selection)
        with _sink(file) as sink, work_in_progress("exporting", len(ids), quiet=quiet) as progress:
            for chunk in _chunks(ids):
                rows = await connection.execute(
                    select(parked).where(among(connection, parked.c.id, chunk)).order_by(parked.c.id)
                )
                for row in rows.mappings():
                    sink.write(json.dumps(_exported(dict(row)), ensure_ascii=False) + "\n")
                    written += 1
                progress(written, None)
    return written


def _sink(file: Path | None) -> Any:
    import sys
    from contextlib import nullcontext

    return nullcontext(sys.stdout) if file is None else file.open("w", encoding="utf-8")


def _exported(row: dict[str, Any]) -> dict[str, Any]:
    from streams.outbox.headers import unpack

    headers = [[name, _base64(value)] for name, value in unpack(row["headers"])]
    plain = {
        name: row[name]
        for name in ("id", "topic", "partition", "offset", "timestamp_ms", "type", "source", "message_id", "reason")
    }
    return {
        **plain,
        "group": row["group_name"],
        "state": row["state"],
        "attempts": row["attempts"],
        "error_type": row["error_type"],
        "error": row["error"],
        "parked_at_ms": row["parked_at_ms"],
        "key": _base64(row["key"]),
        "value": _base64(row["value"]),
        "headers": headers,
    }


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _shown(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    from streams.intake.operate import CHUNK_RECORDS

    for start in range(0, len(ids), CHUNK_RECORDS):
        yield ids[start : start + CHUNK_RECORDS]
