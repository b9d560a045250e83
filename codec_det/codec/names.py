"""The names a config may use; kept apart from the codecs so that checking imports no CompressAI."""

from ..conventional import NAMES

# The fixed-rate image architectures of compressai.zoo.image_models.
LEARNED = (
    "bmshj2018-factorized",
    "bmshj2018-factorized-relu",
    "bmshj2018-hyperprior",
    "mbt2018-mean",
    "mbt2018",
    "cheng2020-anchor",
    "cheng2020-attn",
)
CONVENTIONAL = NAMES
CODEC_NAMES = ("identity", *LEARNED, *CONVENTIONAL)

METRICS = ("mse", "ms-ssim")
QUANTIZATIONS = ("noise", "straight_through", "mixed", "threshold")


def max_quality(name: str) -> int:
    """Highest quality of a learned codec; the lowest is 1."""
    return 6 if name.startswith("cheng2020") else 8
