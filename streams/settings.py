"""Everything that an operator can set, read once from `PAYDAY_*` environment variables, typed and frozen."""

from __future__ import annotations

import contextlib
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

__all__ = ["BrokerUnknown", "Settings", "SettingsError", "load_settings"]

PREFIX = "PAYDAY_"
NAME_PREFIX = r"^[a-zA-Z0-9._-]*$"
EMBEDDED_ADDRESS_FILE = "broker.address"
SECRET_FILE = "secret"  # noqa: S105  a file's name
SECRET_BYTES = 32
SECRET_FIELDS = frozenset({"secret", "http_token", "database_url", "alarm_webhook_url", "bank_url"})
"""Never repeated in an error: a log keeps it."""
SECRET_MAX_BYTES = 64
"""A BLAKE2b key is at most so long."""
PORT_MAX = 65_535
DATABASE_BACKENDS = ("sqlite+aiosqlite", "postgresql+asyncpg")


class SettingsError(Exception):
    """A setting is senseless; the text names the variable, what is wrong with it, and what it could be."""


class BrokerUnknown(Exception):
    """Nobody said where Kafka is."""


class Settings(BaseSettings):
    """The settings of one process.

    Each field is the environment variable `PAYDAY_` + its name in upper case.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Path(".payday")
    """Where the SQLite file, the generated secret and the embedded broker's address are."""
    kafka_bootstrap_servers: str | None = None
    """`host:port[,host:port]`; unset: the embedded broker that was last started in this home."""
    database_url: str | None = None
    """SQLAlchemy URL; unset: an SQLite file in this home."""
    topic_prefix: Annotated[str, Field(max_length=100, pattern=NAME_PREFIX)] = ""
    """Stands before every topic's name."""
    group_prefix: Annotated[str, Field(max_length=100, pattern=NAME_PREFIX)] = "payday."
    """Stands before every consumer group's name."""
    time_zone: str = "UTC"
    """The business time zone: a period is a date in it."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """The deployment's one currency, ISO 4217."""
    secret: SecretStr | None = None
    """Seeds prices and assignees; unset: generated once into this home."""
    clock_skew_seconds: Annotated[int, Field(ge=0, le=86_400)] = 300
    """A message may be dated this far ahead of this machine's clock."""
    max_records: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Records in one batch, and so in one transaction."""
    retention_days: Annotated[float, Field(ge=1, le=36_500)] = 30.0
    """How long handled messages are known and sent events are kept; longer than the topics keep their records."""
    drain_seconds: Annotated[float, Field(ge=0, le=15)] = 10.0
    """How long a stop waits for the outbox to be published."""
    relay_lease_seconds: Annotated[float, Field(ge=2, le=300)] = 10.0
    """How long the events of a process that died wait until another one's relay publishes them."""
    outbox_expire_seconds: Annotated[float, Field(ge=60, le=2_592_000)] = 86_400.0
    """An event that is not sent within this time is flagged and raises an alarm; it is tried on."""
    outbox_max_rows: Annotated[int, Field(ge=1_000, le=1_000_000_000)] = 2_000_000
    """Unsent events; at this many intake pauses and direct publishers are refused."""
    outbox_max_bytes: Annotated[int, Field(ge=1_000_000, le=10_000_000_000_000)] = 4_000_000_000
    """The same in bytes of their values and headers."""
    outbox_warning_share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """From which share of either limit on an alarm says that the outbox is filling."""
    http_host: str = "127.0.0.1"
    """The address on which health and metrics are served."""
    http_port: Annotated[int, Field(ge=0, le=PORT_MAX)] | None = None
    """The port on which health and metrics are served; unset: no HTTP, 0: a free one, which is printed."""
    http_token: SecretStr | None = None
    """What requests that change something must carry; unset: they are refused."""
    alarm_webhook_url: SecretStr | None = None
    """Where alarms are posted as JSON; unset: they only stand in the log, in the database and in `payday status`."""
    alarm_repeat_seconds: Annotated[float, Field(ge=60, le=604_800)] = 14_400.0
    """After how long an alarm that is still on is told again."""
    bank_url: SecretStr | None = None
    """The bank that pays; unset: payouts are reserved and wait for an instance that has one."""
    bank_key_life_seconds: Annotated[float, Field(ge=60, le=31_536_000)] = 86_400.0
    """For how long the bank recognises an idempotency key; past half of it, it is asked before it is called."""
    payout_schedule: str | None = None
    """When the day that is over is paid out: a cron expression in the business time zone; unset: not by itself."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """From which level on the log is written to standard error."""

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is no time zone; name one like UTC or Europe/Berlin") from None
        return value

    @field_validator("secret")
    @classmethod
    def _fits_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not 0 < len(value.get_secret_value().encode()) <= SECRET_MAX_BYTES:
            raise ValueError(f"should be 1 to {SECRET_MAX_BYTES} bytes")
        return value

    @field_validator("alarm_webhook_url", "bank_url")
    @classmethod
    def _is_a_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                url = urlsplit(value.get_secret_value())
                sound = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
            except ValueError:
                sound = False
            if not sound:
                raise ValueError("should be http://host/path or https://host/path")
        return value

    @field_validator("payout_schedule")
    @classmethod
    def _is_a_schedule(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                next(CronSim(value, datetime.now(UTC)))
            except (CronSimError, StopIteration):
                raise ValueError("should be a cron expression of five fields that fires, like 30 0 * * *") from None
        return value

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, value: str | None) -> str | None:
        if value is None:
            return None
        expected = "should be sqlite+aiosqlite:///file.db or postgresql+asyncpg://user@host/name"
        try:
            url = make_url(value)
        except ArgumentError:
            raise ValueError(expected) from None
        if url.drivername not in DATABASE_BACKENDS or not url.database or url.database == ":memory:":
            raise ValueError(expected)
        return value

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _are_servers(cls, value: str | None) -> str | None:
        for server in (value or "localhost:9092").split(","):
            _host, _, port = server.strip().rpartition(":")
            if not _host or not port.isdigit() or not 0 < int(port) <= PORT_MAX:
                raise ValueError("should be host:port, several of them separated by commas")
        return value

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite+aiosqlite:///{self.home / 'payday.db'}"

    @property
    def zone(self) -> ZoneInfo:
        """The business time zone."""
        return ZoneInfo(self.time_zone)

    @property
    def embedded_address_file(self) -> Path:
        """Where an embedded broker of this home writes its address."""
        return self.home / EMBEDDED_ADDRESS_FILE

    @property
    def uses_embedded_broker(self) -> bool:
        """Whether Kafka is the embedded broker of this home."""
        return self.kafka_bootstrap_servers is None

    def bootstrap_servers(self) -> str:
        """Where Kafka is, looked up now.

        Raises:
            BrokerUnknown: no address is set and no embedded broker was ever started in this home.
        """
        if self.kafka_bootstrap_servers is not None:
            return self.kafka_bootstrap_servers
        try:
            return self.embedded_address_file.read_text().strip()
        except FileNotFoundError:
            raise BrokerUnknown(
                f"no Kafka is known: start one with `payday broker` in this home ({self.home}), "
                "or set PAYDAY_KAFKA_BOOTSTRAP_SERVERS"
            ) from None

    def secret_bytes(self) -> bytes:
        """The secret, generated and kept in this home when it was not set."""
        if self.secret is not None:
            return self.secret.get_secret_value().encode()
        path = self.home / SECRET_FILE
        try:
            return path.read_bytes()
        except FileNotFoundError:
            self.home.mkdir(parents=True, exist_ok=True)
            candidate = path.with_name(f"{SECRET_FILE}.{os.getpid()}")
            candidate.touch(mode=0o600)
            candidate.write_text(secrets.token_hex(SECRET_BYTES))
            with contextlib.suppress(FileExistsError):  # of several processes the first one wins
                path.hardlink_to(candidate)
            candidate.unlink()
            return path.read_bytes()


def load_settings(**overrides: object) -> Settings:
    """Read the environment.

    Raises:
        SettingsError: one line per senseless variable.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # options of the command line, validated here
    except ValidationError as error:
        raise SettingsError("\n".join(_problem(problem) for problem in error.errors())) from None


def _problem(problem: object) -> str:
    assert isinstance(problem, dict)
    name = PREFIX + "_".join(str(part) for part in problem["loc"]).upper()
    secret = problem["loc"] and problem["loc"][0] in SECRET_FIELDS
    shown = "" if secret else f"={str(problem['input'])[:80]!r}"
    return f"{name}{shown}: {problem['msg'].removeprefix('Value error, ')}"
