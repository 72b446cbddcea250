from picolm.runs.timings import total_seconds, typical_speed


def test_the_time_of_all_attempts_is_summed() -> None:
    clock = [1.0, 5.0, 9.0, 0.5, 3.0, 2.0]
    assert total_seconds([{"seconds": seconds} for seconds in clock]) == 9.0 + 3.0 + 2.0
    assert total_seconds([]) is None


def test_the_typical_speed_is_the_median() -> None:
    assert typical_speed([{"tokens_per_second": speed} for speed in (5.0, 1000.0, 7.0)]) == 7.0
    assert typical_speed([{}]) is None
