"""The entropy coder in Python: the streams of constriction's, symbol for symbol."""

import numpy as np
import pytest

from codec_det.bitstream import ans, python_coder
from codec_det.bitstream.ans import StreamReader, StreamWriter
from codec_det.errors import BitstreamError
from tests.test_ans import random_tables, random_values


@pytest.fixture
def in_python(monkeypatch):
    """From here on, what constriction does is done in Python."""

    def replace():
        for name in ("AnsCoder", "Categorical", "Uniform"):
            monkeypatch.setattr(ans, name, getattr(python_coder, name))
        monkeypatch.setattr(ans, "_CLASSES", ans._categorical(1 << 16 - ans._CLASS_BITS))
        remainders = {k: python_coder.Uniform(1 << k) for k in ans._REMAINDERS}
        monkeypatch.setattr(ans, "_REMAINDERS", remainders)

    return replace


def read_or_refuse(tables, stream, indexes):
    """What is read of a stream that was cut, or why not."""
    try:
        reader = StreamReader(stream.rstrip(b"\0"))
        return tables.read(reader, indexes).tolist(), reader._coder.pos()
    except BitstreamError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(4))
def test_streams_are_those_of_constriction(in_python, seed):
    assert ans.AnsCoder is not python_coder.AnsCoder
    rng = np.random.default_rng(seed)
    tables = random_tables(rng)
    values, indexes = random_values(rng, tables, 3000)
    streams, of_half = [], []
    for _ in range(2):
        writer = StreamWriter()
        tables.write(writer, values, indexes)
        streams.append(writer.finish(checksum=seed))
        reader = StreamReader(streams[0])
        assert (tables.read(reader, indexes) == values).all()
        reader.finish(checksum=seed)
        of_half.append(read_or_refuse(tables, streams[0][: len(streams[0]) // 2], indexes))
        in_python()
        del tables._models
    assert streams[0] == streams[1]
    assert of_half[0] == of_half[1]


def test_other_frequencies_are_refused():
    with pytest.raises(ValueError, match="of a sum of 2"):
        python_coder.Categorical(np.array([5.0, 6.0]))
