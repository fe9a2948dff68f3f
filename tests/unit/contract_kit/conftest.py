"""A scripted service and the vocabulary on it."""

from __future__ import annotations

import pytest

from streams.contract_kit.records import Sent
from streams.contract_kit.scenario import Scenario
from streams.contract_kit.sending import record_of
from tests.unit.contract_kit.scripted import (
    COMMAND,
    ScriptedTransport,
)


@pytest.fixture
def service() -> ScriptedTransport:
    return ScriptedTransport()


@pytest.fixture
def contract(service: ScriptedTransport) -> Scenario:
    return Scenario(service)


@pytest.fixture
def command() -> Sent:
    return record_of(COMMAND)
