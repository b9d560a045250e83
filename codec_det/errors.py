"""Errors a user can cause, and so must be able to mend. Each names the culprit and the remedy."""


class CodecDetError(ValueError):
    """Base class: command-line programs print these without a traceback and exit with status 2."""


class ConfigError(CodecDetError):
    """A configuration value that cannot work."""


class WeightsError(CodecDetError):
    """A weights file that is missing, unreadable or made for another model."""


class DatasetError(CodecDetError):
    """A data set, annotation or image that cannot be used."""


class BitstreamError(CodecDetError):
    """Coded bytes that cannot be decoded: damaged, cut short, or of another codec or version."""
