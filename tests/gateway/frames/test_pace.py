"""When events may leave, where every write costs."""

from gateway.frames.pace import Pace, PaceRules

RULES = PaceRules(every_s=0.1, unread_s=1.0, at_bytes=4096)


def test_the_first_text_waits_for_nothing() -> None:
    pace = Pace(RULES)
    assert pace.wait(now=50.0, waiting_bytes=1, is_read=True) <= 0
    assert pace.wait(now=50.0, waiting_bytes=1, is_read=False) <= 0


def test_then_a_flush_leaves_a_gap_after_the_last_one() -> None:
    pace = Pace(RULES)
    pace.flushed(now=50.0)
    assert round(pace.wait(now=50.03, waiting_bytes=1, is_read=True), 6) == 0.07
    assert pace.wait(now=50.1, waiting_bytes=1, is_read=True) <= 0
    pace.flushed(now=50.1)
    assert round(pace.wait(now=50.1, waiting_bytes=1, is_read=True), 6) == 0.1


def test_the_gap_is_longer_while_nobody_reads() -> None:
    pace = Pace(RULES)
    pace.flushed(now=50.0)
    assert round(pace.wait(now=50.2, waiting_bytes=1, is_read=False), 6) == 0.8
    assert pace.wait(now=50.2, waiting_bytes=1, is_read=True) <= 0


def test_much_text_waits_for_nothing() -> None:
    pace = Pace(RULES)
    pace.flushed(now=50.0)
    assert pace.wait(now=50.0, waiting_bytes=4095, is_read=True) > 0
    assert pace.wait(now=50.0, waiting_bytes=4096, is_read=True) <= 0
