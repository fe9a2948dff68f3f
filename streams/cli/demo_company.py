"""A believable company for the demo: people, a working day, and the mistakes that happen in one.

Everything is drawn from a seeded generator; the day is one that is over, and each message carries its time.
"""

from __future__ import annotations

import random
from collections import deque
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from contracts.accounting import AdjustBalance, ClosePeriod
from contracts.payouts import StartRun
from contracts.tasks import CompleteTask, CreateTask, ReassignOpenTasks
from contracts.workers import WorkerDeactivated, WorkerRegistered
from streams.catalog import ContractCatalog
from streams.outbox.envelope import OutgoingMessage, initial, lane_of
from streams.outbox.headers import pack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

    from contracts.fields import Role
    from contracts.message import Message

__all__ = ["Company", "junk"]

WORKERS, MANAGERS, ACCOUNTANTS = 48, 3, 2
FIRST_NAMES = [
    "Ada",
    "Blaise",
    "Carl",
    "Dorothy",
    "Edsger",
    "Frances",
    "Grace",
    "Hedy",
    "Ivan",
    "Jean",
    "Kathleen",
    "Linus",
    "Mary",
    "Niklaus",
    "Ola",
    "Peter",
]
LAST_NAMES = [
    "Abel",
    "Bohr",
    "Curie",
    "Dirac",
    "Euler",
    "Fermi",
    "Gauss",
    "Hilbert",
    "Ising",
    "Jacobi",
    "Kepler",
    "Laplace",
]
VERBS = ["Fix", "Review", "Ship", "Draw", "Measure", "Rewrite", "Translate", "Test", "Explain", "Automate"]
THINGS = ["the invoice page", "a slow query", "the login form", "the coffee order", "the release notes", "a flaky test"]
OPENS, CLOSES = time(8), time(18)
DUPLICATE_SHARE, WRONG_WORKER_SHARE, ADJUSTMENT_SHARE = 0.02, 0.01, 0.01
CLOSED_BANK_ACCOUNTS = 3
"""So many workers have told nobody that their bank account is closed: what they are paid comes back."""
COMPLETED_SHARE = 0.95
"""Of the assignments that the company hears of; the rest is still being worked on."""


class Company:
    """Sends what people of a company would.

    Args:
        seed: draws everything.
        day: the business day that is played.
        zone: the business time zone.
    """

    def __init__(self, seed: int, day: date, zone: ZoneInfo) -> None:
        self._random = random.Random(seed)  # noqa: S311  a story, not a secret
        self._catalog = ContractCatalog()
        self._opens = datetime.combine(day, OPENS, zone)
        self._day_seconds = (datetime.combine(day, CLOSES, zone) - self._opens).total_seconds()
        self._day = day
        self._progress = 0.0
        self._open: dict[str, str] = {}
        """Task -> who has it now, the oldest first."""
        self._recent: deque[OutgoingMessage] = deque(maxlen=200)
        self._tickets = 0
        sizes: dict[Role, int] = {"worker": WORKERS, "manager": MANAGERS, "accountant": ACCOUNTANTS, "admin": 1}
        self.people = {role: [self._id() for _ in range(size)] for role, size in sizes.items()}

    @property
    def closed_accounts(self) -> list[str]:
        """Whom the bank cannot pay."""
        return self.people["worker"][-CLOSED_BANK_ACCOUNTS:]

    def open_the_doors(self) -> Iterator[OutgoingMessage]:
        """Everybody is registered."""
        for role, ids in self.people.items():
            for worker_id in ids:
                name = f"{self._random.choice(FIRST_NAMES)} {self._random.choice(LAST_NAMES)}"
                email = f"{name.lower().replace(' ', '.')}.{worker_id[:4]}@example.org"
                yield self._message(WorkerRegistered(worker_id=worker_id, name=name, email=email, role=role))

    def work(self, tasks: int, progress: float) -> Iterator[OutgoingMessage]:
        """Some time passes: so many tasks are created, and about as many of the open ones completed.

        Args:
            tasks: how many new ones.
            progress: how much of the day is over, 0 to 1.
        """
        self._progress = min(max(progress, self._progress), 1.0)
        for _ in range(tasks):
            yield self._created()
            if self._open and self._random.random() < COMPLETED_SHARE:
                task_id = next(iter(self._open))
                yield self._completed(task_id, self._open.pop(task_id))
            if self._random.random() < DUPLICATE_SHARE and self._recent:
                yield self._random.choice(self._recent)
            if self._random.random() < ADJUSTMENT_SHARE:
                yield self._adjusted()

    def reassign(self) -> OutgoingMessage:
        """Somebody asks to shuffle all open tasks; sometimes it is somebody who may not."""
        asks = self._random.choice(self.people["manager"] * 3 + self.people["worker"][:1])
        return self._message(ReassignOpenTasks(requested_by=asks))

    def let_somebody_go(self) -> OutgoingMessage:
        """A worker leaves: no new tasks for them."""
        return self._message(WorkerDeactivated(worker_id=self.people["worker"][0]))

    def end_the_day(self) -> OutgoingMessage:
        """The books of the day are closed."""
        self._progress = 1.0
        return self._message(ClosePeriod(period=self._day))

    def pay_out(self) -> OutgoingMessage:
        """At midnight everybody is to be paid for the day."""
        moment = datetime.combine(self._day + timedelta(days=1), time(), self._opens.tzinfo)
        return self._message(StartRun(period=self._day), moment)

    def hear_of_assignment(self, task_id: str, worker_id: str) -> None:
        """A task was assigned: its worker will get to it, whoever had it before."""
        self._open[task_id] = worker_id

    def _created(self) -> OutgoingMessage:
        self._tickets += 1
        title = f"[POP-{self._tickets}] - {self._random.choice(VERBS)} {self._random.choice(THINGS)}"
        return self._message(CreateTask(task_id=self._id(), title=title))

    def _completed(self, task_id: str, worker_id: str) -> OutgoingMessage:
        if self._random.random() < WRONG_WORKER_SHARE:
            worker_id = self._random.choice(self.people["worker"])
        return self._message(CompleteTask(task_id=task_id, worker_id=worker_id))

    def _adjusted(self) -> OutgoingMessage:
        return self._message(
            AdjustBalance(
                worker_id=self._random.choice(self.people["worker"]),
                amount_minor=self._random.choice([-500, 250, 1000, 2500]),
                currency="USD" if self._random.random() < 1 - WRONG_WORKER_SHARE else "EUR",
                note="agreed in the corridor",
                requested_by=self._random.choice(self.people["accountant"]),
            )
        )

    def _message(self, message: Message, moment: datetime | None = None) -> OutgoingMessage:
        if moment is None:
            moment = self._opens + timedelta(seconds=self._progress * self._day_seconds)
        time_ms = int(moment.astimezone(UTC).timestamp() * 1000)
        record = initial(self._catalog, message, message_id=self._id(), source="payday/cli", time_ms=time_ms)
        self._recent.append(record)
        return record

    def _id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))


def junk(source: random.Random) -> OutgoingMessage:
    """A record that some broken sender left on a topic: unreadable, incomplete, or nonsense."""
    good: list[tuple[str, str | bytes | None]] = [
        ("ce_id", str(UUID(int=source.getrandbits(128), version=4))),
        ("ce_source", "elsewhere"),
    ]
    typed = [*good, ("ce_type", "tasks.create-task.v1")]
    choices: list[tuple[bytes, list[tuple[str, str | bytes | None]]]] = [
        (source.randbytes(20), typed),
        (b"", typed),
        (b'{"task_id": 7}', typed),
        (b'{"task_id": "not-a-uuid", "title": "x"}', typed),
        (b"{}", []),
        (b"{}", [*typed, ("ce_subject", b"\xff\xfe")]),
        (b'{"task_id": ', typed),
    ]
    value, headers = source.choice(choices)
    key = str(UUID(int=source.getrandbits(128), version=4)).encode()
    topic = "tasks.commands"
    return OutgoingMessage(topic, key, lane_of(topic, key), value, pack(headers), "", "")
