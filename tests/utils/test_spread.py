"""Labels moved apart, by numbers worked out by hand."""

import pytest

from monju.utils.spread import spread


def test_labels_move_as_far_as_they_must_and_keep_their_order():
    assert spread([50], 14, 0, 100) == [50] and spread([], 14, 0, 100) == []
    assert spread([10, 50, 11], 14, 0, 100) == [3.5, 50, 17.5]  # around their middle, in the places given
    assert spread([98, 99, 100], 14, 0, 100) == [72, 86, 100]  # within the bounds
    assert spread([1, 1, 20], 14, 0, 100) == [0, 14, 28]  # a group pushes the next


def test_without_room_the_gap_becomes_smaller():
    assert spread([5] * 5, 50, 0, 100) == pytest.approx([0, 25, 50, 75, 100])
