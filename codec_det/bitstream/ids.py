"""Numbers of the codecs in files. A number, once given, is never changed or used again."""

CODEC_IDS = {
    "bmshj2018-factorized": 1,
    "bmshj2018-factorized-relu": 2,
    "bmshj2018-hyperprior": 3,
    "mbt2018-mean": 4,
}


def codec_name(codec_id: int) -> str:
    """Name of a codec in a file, also of one that this version does not know."""
    names = {number: name for name, number in CODEC_IDS.items()}
    return names.get(codec_id, f"codec number {codec_id}")
