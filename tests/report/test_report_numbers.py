import pytest

from picolm.report import numbers


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.whole(4000), "4,000"),
        (numbers.count(0), "0"),
        (numbers.count(9_999), "9,999"),
        (numbers.count(10_000), "10.0 k"),
        (numbers.count(999_600), "1.00 M"),
        (numbers.count(11_282_784), "11.3 M"),
        (numbers.count(570e6), "570 M"),
        (numbers.size(12), "12 B"),
        (numbers.size(999.7), "1.00 kB"),
        (numbers.size(45_131_000), "45.1 MB"),
        (numbers.size(4.2e15), "4200 TB"),
        (numbers.duration(3.14), "3.1 s"),
        (numbers.duration(41), "41 s"),
        (numbers.duration(59.9), "60 s"),
        (numbers.duration(60), "1 min 0 s"),
        (numbers.duration(7980), "2 h 13 min"),
        (numbers.duration(90_000), "1 d 1 h"),
        (numbers.loss(3.14159), "3.142"),
        (numbers.change(-5.8504), "−5.850"),  # noqa: RUF001
        (numbers.change(0.02), "+0.020"),
        (numbers.perplexity(20.086), "20.09"),
        (numbers.perplexity(123.45), "123.5"),
        (numbers.perplexity(8103.1), "8,103"),
    ],
)
def test_numbers_are_written_for_people(written: str, expected: str) -> None:
    assert written.replace("\u202f", " ") == expected


def test_measured_numbers_have_the_digits_that_their_spread_deserves() -> None:
    assert [numbers.decimals(spread) for spread in (0.0235, 0.5, 1.0, 12.0, 340.0, 1e4)] == [4, 3, 2, 1, 0, 0]
    # Of a single seed, or of seeds that agree to the digit.
    assert (numbers.decimals(0.0), numbers.decimals(float("inf"))) == (4, 4)
    assert numbers.exact(-0.04096, 4, sign=True) == "\u22120.0410"
    assert numbers.exact(0.04096, 4, sign=True) == "+0.0410"
    assert numbers.exact(12345.6, 1) == "12,345.6"
    assert numbers.exact(-3.2e-9, 11) == "\u22123.2e\u221209"
    assert numbers.exact(3.2e15, 0) == "3.2e+15"


def test_p_values_are_never_zero_and_levels_are_percent() -> None:
    assert (numbers.p_value(0.0), numbers.p_value(0.00099), numbers.p_value(0.0414), numbers.p_value(1.0)) == (
        "< 0.001",
        "< 0.001",
        "0.041",
        "1.000",
    )
    assert (numbers.percent(0.95), numbers.percent(0.9833333)) == ("95\u202f%", "98.3\u202f%")
