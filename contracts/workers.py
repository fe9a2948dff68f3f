"""Events about the people who work. They come from outside: no slice of this app emits them.

Invariant: the key of each record is the worker's id, so that one worker's events stay in order.
"""

from contracts.fields import Email, Id, Name, Role
from contracts.message import Message


class WorkerRegistered(Message):
    """A worker exists and is active.

    Emitted by the system that manages accounts, when somebody joins, when a name, an address or a role
    changes, and when somebody who had left comes back.
    """

    worker_id: Id
    name: Name
    email: Email
    role: Role
    """Only workers are assigned tasks; what the other roles may ask for, the commands say."""


class WorkerDeactivated(Message):
    """A worker has left and gets no more tasks.

    Emitted by the system that manages accounts. Money that was earned before stays due.
    """

    worker_id: Id
