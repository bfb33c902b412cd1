"""What all tests share."""

import logging


def pytest_configure() -> None:
    # asyncio's debug mode warns of slow callbacks: on a busy machine that is no fault of the code, and
    # tests that read the logs must not find it there.
    logging.getLogger("asyncio").addFilter(lambda record: "Executing" not in record.msg)
