"""COCO's box AP of single pictures."""

import math

import pytest

from codec_det.evaluation.objects import NOTHING
from codec_det.evaluation.picture_ap import box_ap
from tests.objects import objects

LEFT, RIGHT = [0, 0, 40, 50], [60, 10, 100, 60]


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        (objects([LEFT, RIGHT], [0, 1]), objects([LEFT, RIGHT], [0, 1], [0.9, 0.3]), 100),
        (objects([LEFT, RIGHT], [0, 1]), NOTHING, 0),
        (objects([LEFT, RIGHT], [0, 1]), objects([LEFT, RIGHT], [1, 0], [0.9, 0.9]), 0),
        # The mean over classes.
        (objects([LEFT, RIGHT], [0, 1]), objects([LEFT], [0], [0.9]), 50),
        # Precision is 1 at the recalls 0, 0.01, ..., 0.5.
        (objects([LEFT, RIGHT], [3, 3]), objects([LEFT], [3], [0.9]), 100 * 51 / 101),
        # An IoU of 0.82 is enough at 7 of the 10 thresholds 0.5, 0.55, ..., 0.95.
        (objects([LEFT], [0]), objects([[0, 0, 40, 41]], [0], [0.9]), 70),
        # A better-scored false positive halves the precision; one of a class not there is not seen.
        (objects([LEFT], [0]), objects([RIGHT, LEFT], [0, 0], [0.9, 0.8]), 50),
        (objects([LEFT], [0]), objects([RIGHT, LEFT], [1, 0], [0.9, 0.8]), 100),
        # What lies in a crowd is no false positive.
        (
            objects([LEFT, RIGHT], [0, 0], crowd=[False, True]),
            objects([RIGHT, LEFT], [0, 0], [0.9, 0.8]),
            100,
        ),
    ],
)
def test_box_ap_of_one_picture(truth, found, expected, capsys):
    assert box_ap(truth, found) == pytest.approx(expected)
    assert capsys.readouterr().out == ""


def test_a_picture_without_objects_has_no_ap():
    assert math.isnan(box_ap(NOTHING, objects([LEFT], [0], [0.9])))
    assert math.isnan(box_ap(NOTHING, NOTHING))
