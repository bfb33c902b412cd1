"""What all tests share."""

import pytest

GROUP = "some that share what takes long"


@pytest.mark.xdist_group(GROUP)
def test_the_tests_of_a_group_run_in_one_process(request: pytest.FixtureRequest) -> None:
    is_spread = request.config.getoption("loadgroup", False)
    assert request.node.nodeid.endswith(f"@{GROUP}") == is_spread
