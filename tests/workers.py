"""How pytest-xdist's workers share the tests: a file stays with one of them, and so do folders that belong together.

Marks for groups would say the same (`--dist loadgroup`), but pytest-xdist 3.8 does not heed them under pytest 9.2: it
renames the tests through an attribute that pytest no longer reads.
"""

from __future__ import annotations

from typing import Any

import pytest

TOGETHER = ("tests/contract/",)
"""Folders whose tests look at each other: the coverage table counts what all of them have sent."""
KEPT_TOGETHER = "payday_folders_kept_together"


def keeps_folders_together(config: pytest.Config) -> bool:
    """Whether the tests of a folder in `TOGETHER` all run in this process."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    return worker is None or bool(worker.get(KEPT_TOGETHER))


class _Hooks:
    """Registered only where pytest-xdist is installed."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        if config.getoption("dist") != "loadfile":
            return None
        from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # noqa: PLC0415

        class ByFileOrFolder(LoadFileScheduling):  # type: ignore[misc]
            def _split_scope(self, nodeid: str) -> str:
                """The way in which pytest-xdist's own schedulers differ from each other; it has no public name."""
                return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.partition("::")[0])

        return ByFileOrFolder(config, log)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[KEPT_TOGETHER] = node.config.getoption("dist") == "loadfile"


def pytest_configure(config: pytest.Config) -> None:
    """Take part in the sharing."""
    config.pluginmanager.register(_Hooks())
