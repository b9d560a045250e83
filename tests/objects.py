"""Objects in a picture, written briefly."""

import numpy as np

from codec_det.evaluation.objects import Objects


def objects(boxes, classes, scores=None, crowd=None):
    count = len(classes)
    return Objects(
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(classes, dtype=np.int64),
        np.array(scores if scores is not None else [1.0] * count),
        np.array(crowd if crowd is not None else [False] * count, dtype=bool),
    )
