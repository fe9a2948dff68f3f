"""Makes the files of this example, and works out what must come of them.

    python examples/a-day-at-work/generate.py            writes the parts and totals.json
    python examples/a-day-at-work/generate.py --check    exit code 1 if the committed files are not what it makes

Invariant: `totals.json` does not come from the software that it is compared with. `Model` below follows the business
rules with plain dictionaries, one message at a time. It borrows nothing but the three functions that draw prices,
assignees and ids, because a draw cannot be foreseen otherwise.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from streams.accounting.domain import price_of
from streams.outbox.envelope import derived_id, format_time, parse_time
from streams.tasks.domain import assignee_for

HERE = Path(__file__).parent
SEED = 20261120
SECRET = b"a-day-at-work"
SOURCE = "payday/cli"
"""The `ce_source` of everything that `payday send` sends; ids of assignments derive from it."""
DAY = datetime(2026, 11, 20, tzinfo=UTC)
CURRENCY = "USD"
FAR_FUTURE = "2999-01-01T00:00:00.000Z"
FUTURE_FROM = parse_time("2900-01-01T00:00:00Z")
"""Whoever runs this lives before it, and after the day."""

ORDER: dict[str, tuple[str, str | None]] = {
    "workers.worker-registered.v1": ("workers.events", "worker_id"),
    "workers.worker-deactivated.v1": ("workers.events", "worker_id"),
    "tasks.create-task.v1": ("tasks.commands", "task_id"),
    "tasks.complete-task.v1": ("tasks.commands", "task_id"),
    "tasks.reassign-open-tasks.v1": ("tasks.admin-commands", None),
    "accounting.adjust-balance.v1": ("accounting.commands", "worker_id"),
    "accounting.close-period.v1": ("accounting.admin-commands", None),
}
"""Type -> topic and the field that is the record key: order holds within a topic and key, and nowhere else."""

FIRST_NAMES = (
    "Ada Bela Carla Dmitri Elif Farid Greta Hugo Ines Jonas Kenji Lena Mateo Nadia Olu Priya Quinn Rosa Sami Tova"
)
LAST_NAMES = "Abe Brandt Costa Dahl Evans Fischer Garcia Haddad Ito Jansen Kaya Lopez"
VERBS = "Water Sort Call Mend Pack Count Paint Move Check Order Return Print Sweep Label Weigh"
THINGS = "the palm trees; parcels for Bremen; the supplier of ink; a wobbly chair; the spare keys; returned books; \
the north fence; last week's receipts; the projector; two crates of oranges; the fire doors; visitor badges"

UNTICKETED, CLAIMED_BY_ANOTHER, CREATED_TWICE, COMPLETED_TWICE = 0.1, 0.02, 0.01, 0.02
INCIDENTS = {
    "nothing": 0.944,
    "sent twice": 0.03,
    "unknown task": 0.006,
    "from the future": 0.003,
    "adjustment": 0.017,
}
ADJUSTMENTS = {
    "right": 0.6,
    "not allowed": 0.15,
    "unknown worker": 0.1,
    "wrong currency": 0.1,
    "from the future": 0.05,
}
"""How often what happens."""

Line = dict[str, Any]
WAIT: Line = {"wait": "settled"}


class Model:
    """What the day comes to, by the rules alone."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.people: dict[str, tuple[str, bool]] = {}  # id -> role, active
        self.assignee: dict[str, str] = {}
        self.completed: set[str] = set()
        self.assignments = 0
        self.rejected: Counter[str] = Counter()
        self.transactions = 0
        self.balances: Counter[str] = Counter()
        self.closed_through = ""

    @property
    def open_tasks(self) -> list[str]:
        """Tasks that are not completed, in order of creation."""
        return [task_id for task_id in self.assignee if task_id not in self.completed]

    def apply(self, line: Line) -> None:
        """Take one message; the same id again changes nothing."""
        if line["id"] in self.seen:
            return
        self.seen.add(line["id"])
        data, time_ms = line["data"], parse_time(line["time"])
        if line["type"].startswith("workers."):
            self._person(line["type"], data)
        elif time_ms >= FUTURE_FROM:
            self.rejected["future-date"] += 1
        elif reason := self._command(line["type"], data, line["id"], time_ms):
            self.rejected[reason] += 1

    def totals(self) -> dict[str, Any]:
        """In the form that `payday audit --expect` reads."""
        return {
            "tasks_created": len(self.assignee),
            "assignments": self.assignments,
            "tasks_completed": len(self.completed),
            "rejected": dict(sorted(self.rejected.items())),
            "transactions": self.transactions,
            "balance_total_minor": sum(self.balances.values()),
            "balances": dict(sorted(self.balances.items())),
        }

    def _person(self, type_name: str, data: Line) -> None:
        worker_id = data["worker_id"]
        if type_name == "workers.worker-registered.v1":
            self.people[worker_id] = (data["role"], True)
        else:
            self.people[worker_id] = (self.people[worker_id][0], False)

    def _command(self, type_name: str, data: Line, message_id: str, time_ms: int) -> str | None:
        """Carry a command out, or say why not."""
        match type_name:
            case "tasks.create-task.v1":
                return self._create(data["task_id"], message_id, time_ms)
            case "tasks.complete-task.v1":
                return self._complete(data["task_id"], data["worker_id"])
            case "tasks.reassign-open-tasks.v1":
                return self._reassign(data["requested_by"], message_id, time_ms)
            case "accounting.adjust-balance.v1":
                return self._adjust(data)
            case _:
                return self._close(data["period"])

    def _create(self, task_id: str, message_id: str, time_ms: int) -> str | None:
        if task_id in self.assignee:
            return "task-exists"
        if not self._assignable():
            return "no-active-worker"
        self._assign(task_id, message_id, time_ms)
        return None

    def _complete(self, task_id: str, worker_id: str) -> str | None:
        if task_id not in self.assignee:
            return "unknown-task"
        if task_id in self.completed:
            return "already-completed"
        if self.assignee[task_id] != worker_id:
            return "not-the-assignee"
        self.completed.add(task_id)
        self._post(worker_id, price_of(SECRET, task_id, 0).reward_minor)
        return None

    def _reassign(self, asking: str, message_id: str, time_ms: int) -> str | None:
        if not self._may(asking, "manager", "admin"):
            return "not-allowed"
        for task_id in self.open_tasks:
            self._assign(task_id, message_id, time_ms)
        return None

    def _adjust(self, data: Line) -> str | None:
        if not self._may(data["requested_by"], "accountant", "admin"):
            return "not-allowed"
        if data["worker_id"] not in self.people:
            return "unknown-worker"
        if data["currency"] != CURRENCY:
            return "wrong-currency"
        self._post(data["worker_id"], data["amount_minor"])
        return None

    def _close(self, period: str) -> str | None:
        if period >= "2900":
            return "period-not-over"
        if period <= self.closed_through:
            return "period-already-closed"
        self.closed_through = period
        return None

    def _assign(self, task_id: str, message_id: str, time_ms: int) -> None:
        assignment_id = derived_id(time_ms, SOURCE, message_id, f"assignment/{task_id}")
        worker_id = assignee_for(SECRET, assignment_id, self._assignable())
        self.assignee[task_id] = worker_id
        self.assignments += 1
        self._post(worker_id, -price_of(SECRET, task_id, 0).fee_minor)

    def _post(self, worker_id: str, amount_minor: int) -> None:
        self.transactions += 1
        self.balances[worker_id] += amount_minor

    def _assignable(self) -> list[str]:
        return sorted(worker_id for worker_id, person in self.people.items() if person == ("worker", True))

    def _may(self, worker_id: str, *roles: str) -> bool:
        role, active = self.people.get(worker_id, ("", False))
        return active and role in roles


@dataclass
class Story:
    """Writes the day, line by line; the model tells it who has which task."""

    random: random.Random
    model: Model = field(default_factory=Model)
    parts: dict[str, list[Line]] = field(default_factory=dict)
    staff: dict[str, list[str]] = field(default_factory=dict)
    titles: int = 0
    made_ids: int = 0

    def begin(self, name: str) -> None:
        """The following lines go to a new part."""
        self.parts[f"{len(self.parts) + 1:02}-{name}.jsonl"] = []

    def wait(self) -> None:
        """What follows needs all that came before, whatever the topic."""
        self._lines.append(WAIT)

    def say(self, type_name: str, time_ms: int, time: str | None = None, **data: Any) -> None:
        """Write a message, dated `time_ms` unless it claims another `time`."""
        line = {"type": type_name, "data": data, "id": self.new_id(time_ms), "time": time or format_time(time_ms)}
        self._lines.append(line)
        self.model.apply(line)

    def repeat_earlier(self, count: int) -> None:
        """Write messages a second time, as a sender does who heard no answer."""
        messages = [line for part in self.parts.values() for line in part if "type" in line]
        self._lines.extend(self.random.sample(messages, count))

    def new_id(self, time_ms: int) -> str:
        """An id that the seed decides: a UUIDv7 whose random part is not random."""
        self.made_ids += 1
        digits = sha256(f"{SEED}/{self.made_ids}".encode()).hexdigest()
        return str(UUID(f"{time_ms:012x}7{digits[:3]}8{digits[3:18]}"))

    def title(self) -> str:
        """Most tasks carry a ticket number."""
        self.titles += 1
        text = f"{self.random.choice(VERBS.split())} {self.random.choice(THINGS.split(';')).strip()}"
        return text if self.random.random() < UNTICKETED else f"[POP-{100 + self.titles}] - {text}"

    @property
    def _lines(self) -> list[Line]:
        return self.parts[next(reversed(self.parts))]


def at(hour: int, minute: int = 0, second: int = 0) -> int:
    """A moment of the day, in milliseconds since the epoch."""
    return round((DAY + timedelta(hours=hour, minutes=minute, seconds=second)).timestamp() * 1000)


def before_work(story: Story) -> None:
    """Somebody wants things done before there is anybody to do them; then the staff is registered."""
    story.begin("workers")
    for minute in range(3):
        story.say("tasks.create-task.v1", at(5, minute), task_id=story.new_id(at(5, minute)), title=story.title())
    story.wait()
    names = [(first, last) for last in LAST_NAMES.split() for first in FIRST_NAMES.split()]
    people = story.random.sample(names, 46)
    roles = ["worker"] * 40 + ["manager"] * 3 + ["accountant"] * 2 + ["admin"]
    for number, ((first, last), role) in enumerate(zip(people, roles, strict=True)):
        time_ms = at(6, number // 2, number % 2 * 30)
        worker_id = story.new_id(time_ms)
        story.staff.setdefault(role, []).append(worker_id)
        email = f"{first}.{last}@example.com".lower()
        story.say(
            "workers.worker-registered.v1",
            time_ms,
            worker_id=worker_id,
            name=f"{first} {last}",
            email=email,
            role=role,
        )
    story.repeat_earlier(6)
    story.wait()


class Shift:
    """Tasks are created and completed between two times; commands that must be refused are among them.

    Args:
        story: to write to.
        begin_ms, end_ms: milliseconds since the epoch.
        left_open: the share of the tasks at hand that nobody completes before the end.
    """

    def __init__(self, story: Story, begin_ms: int, end_ms: int, left_open: float) -> None:
        self._story = story
        self._draw = story.random
        self._begin_ms, self._end_ms = begin_ms, end_ms
        self._left_open = left_open
        self._agenda: list[tuple[int, int, str, str]] = []

    def write(self, name: str, new_tasks: int) -> None:
        """Write it to a part of its own."""
        self._story.begin(name)
        for task_id in self._story.model.open_tasks:
            self._plan_completion(task_id, self._begin_ms)
        for _ in range(new_tasks):
            time_ms = self._draw.randrange(self._begin_ms, self._end_ms)
            self._plan(time_ms, "create", self._story.new_id(time_ms))
        while self._agenda:
            time_ms, _, what, task_id = heapq.heappop(self._agenda)
            self._write(what, task_id, time_ms)
            now_and_then(self._story, time_ms)
        self._story.wait()

    def _plan(self, time_ms: int, what: str, task_id: str) -> None:
        if time_ms < self._end_ms:
            heapq.heappush(self._agenda, (time_ms, len(self._agenda), what, task_id))

    def _plan_completion(self, task_id: str, from_ms: int) -> None:
        if self._draw.random() >= self._left_open:
            self._plan(from_ms + self._draw.randrange(1_000, 2 * 3_600_000), "complete", task_id)
        if self._draw.random() < CLAIMED_BY_ANOTHER:
            self._plan(from_ms + self._draw.randrange(1_000, 3_600_000), "claim", task_id)

    def _write(self, what: str, task_id: str, time_ms: int) -> None:
        story, draw = self._story, self._draw
        assignee = story.model.assignee.get(task_id, "")
        if what == "create":
            story.say("tasks.create-task.v1", time_ms, task_id=task_id, title=story.title())
            self._plan_completion(task_id, time_ms)
            if draw.random() < CREATED_TWICE:
                self._plan(time_ms + 60_000, "create-again", task_id)
        elif what == "create-again":
            story.say("tasks.create-task.v1", time_ms, task_id=task_id, title=story.title())
        elif what == "complete":
            story.say("tasks.complete-task.v1", time_ms, task_id=task_id, worker_id=assignee)
            if draw.random() < COMPLETED_TWICE:
                self._plan(time_ms + 120_000, "complete", task_id)
        else:
            others = [worker_id for worker_id in story.staff["worker"] if worker_id != assignee]
            story.say("tasks.complete-task.v1", time_ms, task_id=task_id, worker_id=draw.choice(others))


def now_and_then(story: Story, time_ms: int) -> None:
    """Whatever else happens while tasks come and go."""
    draw = story.random
    new_id = story.new_id(time_ms)
    match drawn(draw, INCIDENTS):
        case "sent twice":
            story.repeat_earlier(1)
        case "unknown task":
            worker_id = draw.choice(story.staff["worker"])
            story.say("tasks.complete-task.v1", time_ms, task_id=new_id, worker_id=worker_id)
        case "from the future":
            story.say("tasks.create-task.v1", time_ms, FAR_FUTURE, task_id=new_id, title="Buy a flying carpet")
        case "adjustment":
            adjust(story, time_ms)
        case _:
            """Mostly nothing does."""


def adjust(story: Story, time_ms: int) -> None:
    """Correct somebody's balance; now and then in a way that must be refused."""
    draw, staff = story.random, story.staff
    worker_id = draw.choice(staff["worker"])
    asking = draw.choice(staff["accountant"] + staff["admin"])
    currency, claimed, note = CURRENCY, None, draw.choice(["Overtime", "A broken cup", "Travel", "Lunch for the team"])
    match drawn(draw, ADJUSTMENTS):
        case "not allowed":
            asking, note = draw.choice(staff["worker"] + staff["manager"]), "I deserve it"
        case "unknown worker":
            worker_id, note = story.new_id(time_ms), "For somebody who was never here"
        case "wrong currency":
            currency, note = "EUR", "From the other branch"
        case "from the future":
            claimed, note = FAR_FUTURE, "Next century's bonus"
        case _:
            """Most of them are right."""
    amount_minor = draw.choice([-1, 1]) * draw.randrange(1_00, 50_00)
    story.say(
        "accounting.adjust-balance.v1",
        time_ms,
        claimed,
        worker_id=worker_id,
        amount_minor=amount_minor,
        currency=currency,
        note=note,
        requested_by=asking,
    )


def drawn(draw: random.Random, shares: dict[str, float]) -> str:
    """One of the names, as often as its share says."""
    return draw.choices(list(shares), list(shares.values()))[0]


def reassignment(story: Story, name: str, time_ms: int, asking: list[str]) -> None:
    """Everybody in the list asks for all open tasks to be drawn anew, a minute apart."""
    story.begin(name)
    for minute, worker_id in enumerate(asking):
        story.say("tasks.reassign-open-tasks.v1", time_ms + 60_000 * minute, requested_by=worker_id)
    story.repeat_earlier(3)
    story.wait()


def some_leave(story: Story) -> None:
    """Two workers and an accountant leave, a worker becomes a manager. Their open tasks stay theirs."""
    story.begin("changes")
    staff = story.staff
    leaving = [staff["worker"][3], staff["worker"][17], staff["accountant"][1]]
    for minute, worker_id in enumerate(leaving):
        story.say("workers.worker-deactivated.v1", at(17, minute), worker_id=worker_id)
    story.say(
        "workers.worker-registered.v1",
        at(17, 5),
        worker_id=staff["worker"][8],
        name="Newly Promoted",
        email="newly.promoted@example.com",
        role="manager",
    )
    story.repeat_earlier(3)
    story.wait()


def close_of_business(story: Story) -> None:
    """The day is closed; what comes late falls into the next one."""
    story.begin("close")
    for minute, period in enumerate(
        ["2999-12-30", "2026-11-20", "2026-11-20", "2026-11-19", "2999-12-31", "2026-11-01"]
    ):
        story.say("accounting.close-period.v1", at(23, minute), period=period)
    story.wait()
    staff = story.staff
    for minute, worker_id in enumerate(staff["worker"][:4]):
        story.say(
            "accounting.adjust-balance.v1",
            at(23, 30 + minute),
            worker_id=worker_id,
            amount_minor=12_34,
            currency=CURRENCY,
            note="Forgotten during the day; it counts for the next one",
            requested_by=staff["accountant"][0],
        )
    story.repeat_earlier(20)


def write_story() -> dict[str, list[Line]]:
    """The whole day."""
    story = Story(random.Random(SEED))  # noqa: S311  a story, not a secret
    before_work(story)
    staff = story.staff
    Shift(story, at(8), at(12), left_open=0.15).write("morning", new_tasks=1000)
    reassignment(
        story,
        "midday",
        at(12, 30),
        [staff["manager"][0], staff["worker"][0], staff["manager"][1], staff["accountant"][0]],
    )
    Shift(story, at(13), at(17), left_open=0.12).write("afternoon", new_tasks=700)
    some_leave(story)
    reassignment(
        story,
        "evening-draw",
        at(17, 30),
        [staff["worker"][3], staff["admin"][0], story.new_id(at(17, 31)), staff["worker"][8]],
    )
    Shift(story, at(18), at(22), left_open=0.05).write("evening", new_tasks=320)
    for minute in range(3):  # somebody who has left still tries
        story.say(
            "accounting.adjust-balance.v1",
            at(22, minute),
            worker_id=staff["worker"][minute],
            amount_minor=5_00,
            currency=CURRENCY,
            note="A farewell present",
            requested_by=staff["accountant"][1],
        )
    story.wait()
    close_of_business(story)
    return story.parts


def totals_of(parts: dict[str, list[Line]], shuffled: random.Random | None = None) -> dict[str, Any]:
    """What the files come to.

    Args:
        parts: the lines by file.
        shuffled: mixes, between two waits, all that Kafka may mix: everything but the order within a topic and key.
    """
    model = Model()
    between_waits: list[Line] = []
    for line in [*(line for part in parts.values() for line in part), WAIT]:
        if "type" in line:
            between_waits.append(line)
            continue
        for message in between_waits if shuffled is None else _mixed(between_waits, shuffled):
            model.apply(message)
        between_waits = []
    return model.totals()


def _mixed(lines: list[Line], draw: random.Random) -> list[Line]:
    queues: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        topic, key_field = ORDER[line["type"]]
        queues.setdefault((topic, line["data"][key_field] if key_field else ""), []).append(line)
    turns = [key for key, queue in queues.items() for _ in queue]
    draw.shuffle(turns)
    return [queues[key].pop(0) for key in turns]


def files() -> dict[str, str]:
    """Every file of the example that is generated, by name.

    Raises:
        AssertionError: the outcome would depend on an order that Kafka does not promise.
    """
    parts = write_story()
    totals = totals_of(parts)
    for seed in range(5):
        mixed = totals_of(parts, random.Random(seed))  # noqa: S311  any mixture will do
        if mixed != totals:
            raise AssertionError("a wait is missing: the totals depend on the order of different keys")
    made = {
        name: "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines) for name, lines in parts.items()
    }
    made["totals.json"] = json.dumps(totals, indent=2) + "\n"
    return made


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description="Makes the files of this example.")
    parser.add_argument("--check", action="store_true", help="only say whether the files are what would be made")
    check = parser.parse_args().check
    made = files()
    there = {path.name: path.read_text() for path in (*HERE.glob("*.jsonl"), *HERE.glob("totals.json"))}
    if check:
        different = sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))
        if different:
            print(f"not what generate.py makes: {', '.join(different)}", file=sys.stderr)
        return 1 if different else 0
    for name in there.keys() - made.keys():
        (HERE / name).unlink()
    for name, text in made.items():
        (HERE / name).write_text(text)
        print(f"{name}: {text.count(chr(10))} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
