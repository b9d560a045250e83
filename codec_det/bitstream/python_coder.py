"""The entropy coder where constriction is not installed, which has no wheels for Linux on ARM.

The same streams and the same states, by the part of constriction's interface that is used here, at
a microsecond or so per symbol: integers of any size are Python's.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

_BITS = 24
_WORD = 32


class Categorical:
    """Symbols 0, 1, ... of given frequencies.

    Args:
        probabilities: frequencies less one, which together with the ones make 2^24: what
            constriction turns into just these frequencies.
        perfect: as there; False.
    """

    def __init__(self, probabilities: np.ndarray, perfect: bool = False) -> None:
        frequencies = probabilities.astype(np.int64) + 1
        if perfect or frequencies.sum() != 1 << _BITS:
            raise ValueError("frequencies less one are needed, of a sum of 2^24")
        # As lists: looking up single values in arrays takes many times as long.
        self.frequencies = frequencies.tolist()
        self.starts = (np.cumsum(frequencies) - frequencies).tolist()

    def interval(self, symbol: int) -> tuple[int, int]:
        """Start and frequency of a symbol."""
        return self.starts[symbol], self.frequencies[symbol]

    def symbol(self, quantile: int) -> int:
        """That in whose interval a number below 2^24 is."""
        return bisect_right(self.starts, quantile) - 1


class Uniform:
    """Symbols below a power of two, all of the same frequency."""

    def __init__(self, size: int) -> None:
        self._frequency = (1 << _BITS) // size

    def interval(self, symbol: int) -> tuple[int, int]:
        """Start and frequency of a symbol."""
        return symbol * self._frequency, self._frequency

    def symbol(self, quantile: int) -> int:
        """That in whose interval a number below 2^24 is."""
        return quantile // self._frequency


Model = Categorical | Uniform


class AnsCoder:
    """A stack of symbols, in words of 32 bits and a state of 64.

    Args:
        words: (n,) uint32, the last of which is not zero, or none.
    """

    def __init__(self, words: np.ndarray) -> None:
        self._words: list[int] = words.tolist()
        self._state = 0
        while self._words and self._state < 1 << _WORD:
            self._state = self._state << _WORD | self._words.pop()

    def encode_reverse(self, symbols: np.ndarray, model: Model) -> None:
        """Put symbols (n,) so that they are got in their order."""
        state, words, interval = self._state, self._words, model.interval
        for symbol in reversed(symbols.tolist()):
            start, frequency = interval(symbol)
            if state >= frequency << 2 * _WORD - _BITS:
                words.append(state & (1 << _WORD) - 1)
                state >>= _WORD
            high, low = divmod(state, frequency)
            state = (high << _BITS) + start + low
        self._state = state

    def decode(self, model: Model, count: int) -> np.ndarray:
        """Get the next ``count`` symbols, int32."""
        state, words = self._state, self._words
        symbols = []
        for _ in range(count):
            quantile = state & (1 << _BITS) - 1
            symbol = model.symbol(quantile)
            start, frequency = model.interval(symbol)
            state = (state >> _BITS) * frequency + quantile - start
            if state < 1 << _WORD and words:
                state = state << _WORD | words.pop()
            symbols.append(symbol)
        self._state = state
        return np.array(symbols, np.int32)

    def pos(self) -> tuple[int, int]:
        """Words beyond the state, and the state."""
        return len(self._words), self._state

    def get_compressed(self) -> np.ndarray:
        """All words, uint32."""
        state = [self._state & (1 << _WORD) - 1, self._state >> _WORD]
        return np.array([*self._words, *(state if state[1] else state[:1])], np.uint32)
