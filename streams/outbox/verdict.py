"""What a missing acknowledgement means: the broker is away, one record is bad, or a whole topic is closed to us."""

from __future__ import annotations

from enum import StrEnum

from confluent_kafka import KafkaError, KafkaException

__all__ = ["Verdict", "described", "judge"]


class Verdict(StrEnum):
    """Why a record was not acknowledged."""

    UNANSWERED = "unanswered"
    """Nobody knows what became of it: time-out, connection, too few replicas. Says that the broker is in trouble."""
    ROW = "row"
    """The broker, or the client before it, refused this record; the next one may be fine."""
    TOPIC = "topic"
    """The broker refused the topic: it does not exist, or may not be written to."""
    PURGED = "purged"
    """Taken back by ourselves; says nothing about anybody."""
    BROKEN = "broken"
    """This producer can no longer be used; a new one can."""


_TOPIC = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001  librdkafka's own codes begin with an underscore and are public
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
    }
)
_PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})  # noqa: SLF001
_TROUBLE = frozenset(
    {
        KafkaError.UNKNOWN,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
    }
)
_REFUSED_LOCALLY = frozenset(
    {KafkaError._BAD_MSG, KafkaError._INVALID_ARG, KafkaError._KEY_SERIALIZATION, KafkaError._VALUE_SERIALIZATION}  # noqa: SLF001
)


def judge(error: object) -> Verdict:
    """Sort what a delivery report or `produce` said.

    `KafkaError.retriable()` is False for all of these, so the code decides. A code of Kafka's that is not listed is an
    answer, so it is about the record; one of librdkafka's own is none.

    Args:
        error: a `KafkaError`, a `KafkaException`, or any other exception of the client, such as a value that cannot be
            serialised.
    """
    if isinstance(error, KafkaException):
        error = error.args[0] if error.args else error
    if not isinstance(error, KafkaError):
        return Verdict.ROW
    code = error.code()
    if error.fatal() or code in {KafkaError._FATAL, KafkaError._STATE}:  # noqa: SLF001
        return Verdict.BROKEN
    if code in _TOPIC:
        return Verdict.TOPIC
    if code in _PURGED:
        return Verdict.PURGED
    if code in _TROUBLE or (code < 0 and code not in _REFUSED_LOCALLY):
        return Verdict.UNANSWERED
    return Verdict.ROW


def described(error: object) -> str:
    """What was said, for a person, with the name of the code."""
    if isinstance(error, KafkaException) and error.args:
        error = error.args[0]
    return f"{error.str()} ({error.name()})" if isinstance(error, KafkaError) else str(error)
