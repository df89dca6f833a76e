"""Options of the whole suite."""

import os

import pytest

# The Triton kernels run in numpy; to be said before anything imports triton.
os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, default=0, help="where tests with random shapes draw them from"
    )


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--seed"))
