"""Chaos is ordered, or comes by a chance that repeats itself."""

from gateway.emulator.chaos import Chaos, Fault


def fates(chaos: Chaos, fault: Fault, count: int = 200) -> list[bool]:
    return [chaos.strikes(fault, "x") for _ in range(count)]


def test_nothing_strikes_unasked() -> None:
    chaos = Chaos()
    assert not any(chaos.strikes(fault, "x") for fault in Fault for _ in range(10))
    assert not chaos.struck


def test_an_order_strikes_as_often_as_it_says_at_its_target() -> None:
    chaos = Chaos()
    chaos.order("throttle", times=2, target="reply")
    assert not chaos.strikes(Fault.THROTTLE, "other")
    assert not chaos.strikes(Fault.KILL_WORKER, "reply")
    assert [chaos.strikes(Fault.THROTTLE, "reply") for _ in range(3)] == [True, True, False]
    assert chaos.struck == {Fault.THROTTLE: 2}


def test_a_seed_repeats_itself() -> None:
    rates = {Fault.POST_GONE: 0.3, Fault.THROTTLE: 0.3}
    first = fates(Chaos(rates, seed=7), Fault.POST_GONE)
    assert first == fates(Chaos(rates, seed=7), Fault.POST_GONE)
    assert first != fates(Chaos(rates, seed=8), Fault.POST_GONE)
    assert first != fates(Chaos(rates, seed=7), Fault.THROTTLE)
    assert 30 < sum(first) < 90


def test_the_chance_of_one_fault_is_not_moved_by_another() -> None:
    rates = {Fault.POST_GONE: 0.3, Fault.THROTTLE: 0.3}
    alone = fates(Chaos(rates, seed=1), Fault.POST_GONE, 50)
    chaos = Chaos(rates, seed=1)
    between = []
    for number in range(50):
        fates(chaos, Fault.THROTTLE, number % 3)
        chaos.delay(Fault.POST_GONE)
        between += fates(chaos, Fault.POST_GONE, 1)
    assert between == alone


def test_delays_are_within_bounds_and_repeat_themselves() -> None:
    delays = [Chaos(seed=3, delay_s=0.5).delay(Fault.POST_DELAY) for _ in range(2)]
    assert delays[0] == delays[1]
    assert 0 <= delays[0] <= 0.5
