"""What every context says when it will not do as it was told.

Invariant: a rejection is an event of the business, not an error: the command was understood and was refused,
once, and nothing changed.
"""

from contracts.fields import Explanation, Id, ReasonCode, TypeName
from contracts.message import Message


class CommandRejected(Message):
    """A command was understood and refused. Each context has a contract of its own that says just this."""

    command_id: Id
    """The `ce_id` of the refused command."""
    command_type: TypeName
    reason_code: ReasonCode
    message: Explanation
    """The reason for a person to read; programs go by `reason_code`."""
