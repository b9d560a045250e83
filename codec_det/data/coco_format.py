"""Any data set in COCO's JSON format: check it, then register it with detectron2."""


class DatasetError(ValueError):
    """A data set on disk cannot be used as it is; the message names the culprit and the remedy."""
