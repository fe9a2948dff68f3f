import pytest

pytest.register_assert_rewrite("tests.integration.day", "tests.integration.real")
