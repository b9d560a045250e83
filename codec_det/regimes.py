"""Regimes: which parts of the chain train. Everything else stays bit-identical.

The names are those of arXiv 2011.06409 and more: D-FT; C-FT by the detector's features alone,
without labels; and those of chains that detect in latents, whose bridge always trains. A regime of
one's own is any set of parts of codec and detector; ``MODEL.REGIME`` gives it a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .errors import ConfigError

if TYPE_CHECKING:
    # Curves of results need none of it.
    from detectron2.config import CfgNode

# encoder: g_a, h_a. decoder: g_s, h_s and the entropy model. synthesis: g_s alone. gate: the gates
# of an encoder that has some. prediction: of codecs of sequences, all that predicted frames have of
# their own, which is of encoder and decoder. entropy: the decoder but g_s, which tells latents
# shorter; an encoder has a copy.
CODEC_PARTS = ("encoder", "decoder", "synthesis", "gate", "prediction", "entropy")


class NamedRegime(NamedTuple):
    """A regime that the literature names, and how it is drawn.

    Attributes:
        codec_parts: out of :data:`CODEC_PARTS`.
        detector: whether the whole detector trains.
        bridge: whether it detects in latents, through a bridge that trains.
        colour: of Okabe and Ito, whom the colour-blind can tell apart; darker in latents.
        marker: of matplotlib; differs too, for print in grey.
        named: whether ``MODEL.REGIME`` alone tells it from another of the same parts.
    """

    name: str
    codec_parts: tuple[str, ...]
    detector: bool
    colour: str
    marker: str
    named: bool = False
    bridge: bool = False


REGIMES = (
    NamedRegime("baseline", (), False, "#000000", "o"),  # off-the-shelf codec and detector
    NamedRegime("T-FT", (), True, "#E69F00", "s"),  # the codec cannot change
    NamedRegime("C-FT", ("encoder", "decoder"), False, "#56B4E9", "^"),  # the detector cannot
    NamedRegime("C-FT unlabelled", ("encoder", "decoder"), False, "#F0E442", "<", named=True),
    NamedRegime("J-FT", ("encoder", "decoder"), True, "#D55E00", "D"),  # both are yours
    NamedRegime("E-FT", ("encoder",), False, "#009E73", "v"),  # fixed decoder: only the camera
    NamedRegime("ET-FT", ("encoder",), True, "#CC79A7", "P"),  # fixed decoder: camera and detector
    NamedRegime("G-FT", ("gate",), False, "#8A8A00", "8"),  # what the camera sends
    NamedRegime("GT-FT", ("gate",), True, "#5B3A8C", ">"),  # that and the detector
    NamedRegime("D-FT", ("synthesis",), False, "#0072B2", "X"),  # receiver only; same bitstream
    NamedRegime("R-FT", ("entropy",), False, "#7A5230", "H"),  # fewer bits for the same
    # As T-FT, E-FT and J-FT, in latents.
    NamedRegime("LT-FT", (), True, "#B07700", "p", bridge=True),
    NamedRegime("LE-FT", ("encoder",), False, "#006B4F", "h", bridge=True),
    NamedRegime("LJ-FT", ("encoder", "decoder"), True, "#8C3D00", "d", bridge=True),
)
"""In the order in which they are listed and drawn."""

OTHER_STYLE = ("#7F7F7F", "*")
"""Colour and marker of all other regimes."""

_BY_NAME = {regime.name: regime for regime in REGIMES}


def style_of(name: str) -> tuple[str, str]:
    """Colour and marker of a regime by its name."""
    known = _BY_NAME.get(name)
    return (known.colour, known.marker) if known else OTHER_STYLE


def order_of(name: str) -> tuple[int, str]:
    """Sorting by it puts regimes of :data:`REGIMES` first, in that order, and others by name."""
    return (list(_BY_NAME).index(name) if name in _BY_NAME else len(REGIMES)), name


@dataclass(frozen=True)
class Regime:
    """The set of parts that train.

    Attributes:
        codec_parts: names out of :data:`CODEC_PARTS`.
        detector: whether the detector trains.
        detector_parts: modules of the detector that train, such as "roi_heads.box_head"; empty: all
            of it.
        label: a name of one's own; "": that of :data:`REGIMES`.
        bridge: whether the detector is given latents, through a bridge, which then trains.
    """

    codec_parts: tuple[str, ...] = ()
    detector: bool = False
    detector_parts: tuple[str, ...] = ()
    label: str = ""
    bridge: bool = False

    def __post_init__(self) -> None:
        for part in self.codec_parts:
            if part not in CODEC_PARTS:
                raise ConfigError(
                    f"MODEL.CODEC.TRAINABLE names '{part}': choose from {', '.join(CODEC_PARTS)}"
                )
        if self.detector_parts and not self.detector:
            raise ConfigError(
                f"MODEL.DETECTOR.TRAINABLE_PARTS is {list(self.detector_parts)}, but "
                "MODEL.DETECTOR.TRAINABLE is False: set it to True, or the parts to '[]'"
            )
        known = _BY_NAME.get(self.label)
        if known and known not in self._known():
            raise ConfigError(
                f"MODEL.REGIME is '{self.label}', which trains "
                f"{', '.join(known.codec_parts) or 'nothing'} of the codec and the detector "
                f"{'whole' if known.detector else 'not at all'}, "
                f"{'with' if known.bridge else 'without'} a bridge: give other parts another name"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Regime:
        """Read ``TRAINABLE`` of codec and detector, ``DECODED`` and ``MODEL.REGIME``."""
        model = cfg.MODEL
        return cls(
            tuple(model.CODEC.TRAINABLE),
            bool(model.DETECTOR.TRAINABLE),
            tuple(model.DETECTOR.TRAINABLE_PARTS),
            model.REGIME,
            model.CODEC.DECODED == "latents",
        )

    @property
    def name(self) -> str:
        """Its own name, or the literature's, or its parts joined by "+"."""
        parts = sorted(self._codec_parts())
        parts += self.detector_parts or (("detector",) if self.detector else ())
        parts += ("bridge",) if self.bridge else ()
        known = [regime.name for regime in self._known() if not regime.named]
        return self.label or "".join(known) or "+".join(parts)

    def trains_detector(self, parameter: str) -> bool:
        """Whether a parameter of the detector trains, by its name."""
        return self.detector and (
            not self.detector_parts
            or any(f"{parameter}.".startswith(f"{part}.") for part in self.detector_parts)
        )

    @property
    def trains(self) -> bool:
        """Whether anything does."""
        return bool(self.codec_parts) or self.detector or self.bridge

    @property
    def trains_encoder(self) -> bool:
        """Whether quantization needs a differentiable stand-in."""
        return bool({"encoder", "gate"} & {*self.codec_parts})

    @property
    def trains_entropy_model(self) -> bool:
        """Whether CDF tables change, so that deployed decoders must change with them."""
        return bool({"decoder", "prediction", "entropy"} & {*self.codec_parts})

    @property
    def trains_rate(self) -> bool:
        """Whether training can change the number of bits."""
        return self.trains_encoder or self.trains_entropy_model

    @property
    def trains_transforms(self) -> bool:
        """Whether training can change latents, or what becomes of them."""
        return bool({*self.codec_parts} - {"entropy"})

    @property
    def trades_rate(self) -> bool:
        """Whether training can give bits for something, and so end at a rate."""
        return self.trains_rate and self.trains_transforms

    def _codec_parts(self) -> frozenset[str]:
        parts = frozenset(self.codec_parts)
        # The synthesis transform and the entropy model are parts of the decoder, gates are of the
        # encoder, the prediction of both.
        parts -= {"synthesis", "entropy"} if "decoder" in parts else set()
        parts -= {"gate"} if "encoder" in parts else set()
        return parts - {"prediction"} if parts >= {"encoder", "decoder"} else parts

    def _known(self) -> list[NamedRegime]:
        """Those of :data:`REGIMES` that train the same parts."""
        if self.detector_parts:
            return []
        mine = self._codec_parts(), self.detector, self.bridge
        return [r for r in REGIMES if (frozenset(r.codec_parts), r.detector, r.bridge) == mine]
