"""Numbers as people read them."""

import pytest

from monju.utils.format import clock, interval, percent, share, signed, size


@pytest.mark.parametrize("fraction, digits, sign, text", [
    (0.9014, 2, "", "90.14"), (0.87749, 1, "", "87.7"), (1, 0, "", "100"), (0.0123, 2, "+", "+1.23"), (-0.0123, 2, "+", "−1.23"),
    (-0.00001, 2, "+", "+0.00"), (-0.00001, 2, "", "0.00"), (None, 2, "", "–")])
def test_percent(fraction, digits, sign, text):
    assert percent(fraction, digits, sign) == text  # rounded once, no zero is negative


def test_a_share_has_its_sign_behind_a_space_that_does_not_break():
    assert share(0.6667) == "66.7\u202f%" and share(0.6667, 0) == "67\u202f%" and share(None) == "–"


def test_an_interval_without_width_is_not_written():
    assert interval([0.881, 0.921]) == "[88.1, 92.1]" and interval([-0.01, 0.02], 2, "+") == "[−1.00, +2.00]"
    assert interval([1.0, 1.0]) == ""


def test_signed_numbers():
    assert [signed(value) for value in (1.5, -1.5, -0.004, 0)] == ["+1.50", "−1.50", "0.00", "0.00"]


def test_sizes_and_clocks():
    assert [size(n) for n in (0, 999, 1500, 17_000_000, 2_500_000_000)] == ["0 B", "999 B", "2 kB", "17 MB", "2.5 GB"]
    assert [clock(n) for n in (0, 75, 3723)] == ["0:00", "1:15", "1:02:03"]
