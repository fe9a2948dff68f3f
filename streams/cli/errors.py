"""Every mistake and every missing service as one line: what, where, what to do.

    Exception
    └── CommandError    ends a command with a line and an exit code
        ├── Refused     2: wrong use
        └── Failed      1: the check or the job failed

Invariant: an exception that the lower layers raise for a person is explained here and nowhere else; anything that is
not known here is a defect and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CommandError", "Explanation", "Failed", "Refused", "explain"]

FAILED, WRONG_USE = 1, 2
KNOWN = {
    "streams.settings.SettingsError": WRONG_USE,
    "streams.settings.BrokerUnknown": FAILED,
    "streams.storage.errors.StorageError": FAILED,
    "streams.inspection.log_ends.BrokerUnreachable": FAILED,
    "streams.inspection.topics.TopicsNotMade": FAILED,
    "streams.inspection.readings.UnknownGroup": WRONG_USE,
    "streams.intake.operate.NotAllowed": WRONG_USE,
    "streams.http.server.PortInUse": FAILED,
    "streams.inspection.settled.NotSettled": FAILED,
    "streams.embedded.pacing.ReadersStalled": FAILED,
    "streams.payouts.bank.BankError": FAILED,
    "streams.payouts.resolve.CannotResolve": FAILED,
    "contracts.catalog.UnknownType": WRONG_USE,
    "contracts.invalid.InvalidMessage": WRONG_USE,
}
"""By name, so that explaining an error imports nothing that the command did not need."""
ADVICE = {
    "streams.storage.errors.DatabaseReadOnly": "; its file and folder must be writable for this user",
    "streams.inspection.log_ends.BrokerUnreachable": (
        "; start it, or set PAYDAY_KAFKA_BOOTSTRAP_SERVERS to where it is"
    ),
}


class CommandError(Exception):
    """Ends a command. The text is what the user reads."""

    exit_code = FAILED


class Refused(CommandError):
    """The command was used in a way that makes no sense."""

    exit_code = WRONG_USE


class Failed(CommandError):
    """The command made sense; the check or the job failed."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What to print, and the exit code."""

    text: str
    exit_code: int


def explain(error: BaseException) -> Explanation:
    """The line for an exception."""
    if isinstance(error, CommandError):
        return Explanation(str(error), error.exit_code)
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    for name in names:
        if name in KNOWN:
            advice = "".join(ADVICE.get(name, "") for name in names)
            return Explanation(f"{error}{advice}", KNOWN[name])
    if isinstance(error, OSError) and error.filename is not None:
        return Explanation(f"{error.filename}: {error.strerror}", FAILED)
    first_line = (str(error).splitlines() or [""])[0][:500]
    return Explanation(
        f"this should not happen: {type(error).__name__}: {first_line} (the same with --debug shows where)", FAILED
    )
