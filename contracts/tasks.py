"""Commands and events about tasks: who has to do what, and what is done.

Invariant: the key of each record is the task's id, except for commands about all tasks.
"""

from contracts.fields import AssignmentReason, Id, Instant, Title
from contracts.message import Message
from contracts.rejections import CommandRejected


class CreateTask(Message):
    """Asks for a new task, which is assigned to an active worker at once.

    Sent by whoever has work to be done. Rejected if the task exists or nobody is active.
    """

    task_id: Id
    """Chosen by the sender, so that sending again does not make a second task."""
    title: Title
    """A ticket number, if any, stands at the start: `[POP-123] - Title`."""


class CompleteTask(Message):
    """Says that a worker has finished a task.

    Sent on behalf of the worker. Rejected unless the task is open and is this worker's.
    """

    task_id: Id
    worker_id: Id


class ReassignOpenTasks(Message):
    """Asks to draw a worker anew for every open task.

    Sent by a manager or an admin; rejected for anybody else. Drawing the same worker again counts as an
    assignment like any other.
    """

    requested_by: Id
    """The worker who asks."""


class TaskCreated(Message):
    """A task exists. Emitted by the tasks slice when it accepts `CreateTask`, before the first assignment."""

    task_id: Id
    title: Title


class TaskAssigned(Message):
    """A task has a new assignee, who is charged the assignment fee.

    Emitted by the tasks slice when a task is created and each time open tasks are reassigned.
    """

    task_id: Id
    assignment_id: Id
    """This assignment alone: a reassignment has another, also to the same worker."""
    worker_id: Id
    reason: AssignmentReason


class TaskCompleted(Message):
    """A task is done and its assignee has earned the reward.

    Emitted by the tasks slice when it accepts `CompleteTask`, once per task.
    """

    task_id: Id
    worker_id: Id
    completed_at: Instant


class TaskCommandRejected(CommandRejected):
    """A command about tasks was refused and changed nothing.

    Emitted by the tasks slice once per refused command, with the command's key.
    """
