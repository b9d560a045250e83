"""The table of codecs: what there is, and what each needs. Codecs of others are registered in it.

A package may register its own, by :func:`register_codec` or :func:`register_conventional`, when it
is imported; or by an entry point of the group ``codec_det.codecs``, which is imported as soon as an
unknown name is asked for, so that every tool knows it. docs/extending.md has recipes.

Nothing here imports PyTorch: checking a config and listing codecs need not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from ..conventional import PictureCodec, add_picture_codec, picture_codecs
from ..errors import ConfigError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from .base import Codec

ENTRY_POINTS = "codec_det.codecs"

METRICS = ("mse", "ms-ssim")
"""What zoo weights were trained for."""

QUANTIZATIONS = ("noise", "straight_through", "mixed", "threshold")
"""Names of :data:`codec_det.codec.learned.quantization.PROXIES`."""


@dataclass(frozen=True, kw_only=True)
class CodecEntry:
    """A codec that a config can name.

    Attributes:
        name: in ``MODEL.CODEC.NAME``.
        build: makes it from a config, on the CPU, of random weights.
        is_conventional: whether it is a program that runs in the data loader.
        architecture: of a learned codec: imports and returns the class of its CompressAI model,
            which has ``g_a`` and ``g_s``.
        widths: of a learned codec: what its class is called with, channels N and then M, by
            quality; () of one whose channels cannot be chosen.
        encoder: of a learned codec: names of the modules that only an encoder has.
        stride: of a learned codec: pixels per latent in each direction, to multiples of which
            pictures are padded.
        is_centred: of a learned codec: whether its latents are amid their pixels,
            :mod:`codec_det.codec.learned.centred`.
        has_latents: of a learned codec: whether a picture is decoded from latents alone, which a
            detector may look at.
        has_zoo_weights: whether CompressAI publishes weights for it.
        full: of a codec with a light encoder: the codec that it is but for g_a, whose receivers
            read its files, and whose weights it is distilled from.
        levels: of a codec whose architecture is of variable rate; else 1.
        predicts_frames: of a learned codec: whether it codes frames of sequences with what it knows
            of those before, :mod:`codec_det.codec.learned.sequence_codec`.
        no_files: why its pictures cannot be written to .cdet files; "" where they can.
    """

    name: str
    build: Callable[[CfgNode], Codec]
    is_conventional: bool = False
    architecture: Callable[[], Callable[..., Any]] | None = None
    widths: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    encoder: tuple[str, ...] = ("g_a", "h_a")
    stride: int = 16
    is_centred: bool = False
    has_latents: bool = True
    has_zoo_weights: bool = False
    full: str = ""
    levels: int = 1
    predicts_frames: bool = False
    no_files: str = ""

    @property
    def is_learned(self) -> bool:
        """Whether it has weights."""
        return self.architecture is not None

    @property
    def receiver(self) -> str:
        """The codec that its files name, and are decoded by."""
        return self.full or self.name

    def widths_at(self, quality: int, n: int = 0, m: int = 0) -> tuple[int, ...]:
        """What the class of a learned codec is called with, latents' channels last.

        Args:
            n, m: instead of those of ``quality``; 0: keep.
        """
        # Some have a single width.
        return tuple(own or usual for own, usual in zip((n, m), self.widths[quality], strict=False))

    @property
    def has_widths(self) -> bool:
        """Whether channels can be chosen."""
        return any(self.widths.values()) or not self.widths

    @property
    def has_latent_width(self) -> bool:
        """Whether the latents have a width M of their own."""
        return any(len(widths) > 1 for widths in self.widths.values())


_TABLE: dict[str, CodecEntry] = {}


def register_codec(entry: CodecEntry) -> None:
    """Make a codec known by its name.

    Raises:
        ConfigError: if the name is taken.
    """
    if entry.name in _TABLE:
        raise ConfigError(f"a codec '{entry.name}' is registered already: choose another name")
    _TABLE[entry.name] = entry


def find_codec(name: str) -> CodecEntry:
    """The entry of a name.

    Raises:
        ConfigError: if there is none, also among installed packages.
    """
    if name not in _TABLE:
        for plugin in entry_points(group=ENTRY_POINTS, name=name):
            plugin.load()
    if name not in _TABLE:
        raise ConfigError(
            f"there is no codec '{name}': choose from {', '.join(_TABLE)}; or import or install "
            "the package that registers it"
        )
    return _TABLE[name]


def codec_names() -> tuple[str, ...]:
    """All codecs that are registered: first those of this package."""
    return tuple(_TABLE)


def learned_codecs(*, files: bool = False) -> tuple[str, ...]:
    """Those that have weights; with ``files``, those of them that can be written to files."""
    return tuple(n for n, e in _TABLE.items() if e.is_learned and not (files and e.no_files))


def conventional_codecs() -> tuple[str, ...]:
    """Those that are programs."""
    return tuple(name for name, entry in _TABLE.items() if entry.is_conventional)


def is_conventional(name: str) -> bool:
    """Whether a name, also one in a record of a codec that is not known here, is a program's."""
    return name in _TABLE and _TABLE[name].is_conventional


def build_codec(cfg: CfgNode) -> Codec:
    """The codec that ``cfg.MODEL.CODEC`` names, on the CPU, of random weights.

    Raises:
        ConfigError: if there is none of that name, or it cannot be built.
    """
    return find_codec(cfg.MODEL.CODEC.NAME).build(cfg)


# Imported where they are used: PyTorch and CompressAI take seconds.


def build_learned(cfg: CfgNode) -> Codec:
    """The learned codec of a config: :class:`.learned.learned_codec.LearnedCodec`."""
    from .learned.learned_codec import LearnedCodec

    node = cfg.MODEL.CODEC
    return LearnedCodec(
        **_learned_options(cfg),
        levels=node.LEVELS,
        gated=node.GATED,
        distillation_weight=node.DISTILLATION_WEIGHT,
    )


def _learned_options(cfg: CfgNode) -> dict[str, Any]:
    node = cfg.MODEL.CODEC
    return {
        "name": node.NAME,
        "quality": node.QUALITY,
        "n": node.N,
        "m": node.M,
        "quantization": node.QUANTIZATION,
        "checkpoint_activations": node.CHECKPOINT_ACTIVATIONS,
    }


def _build_vbr(cfg: CfgNode) -> Codec:
    from .learned.vbr_codec import VbrCodec

    node = cfg.MODEL.CODEC
    widths = {"n": node.N, "m": node.M}
    return VbrCodec(node.NAME, node.QUALITY, quantization=node.QUANTIZATION, **widths)


def _build_temporal(cfg: CfgNode) -> Codec:
    from .learned.temporal_codec import TemporalCodec

    return TemporalCodec(
        **_learned_options(cfg),
        levels=cfg.MODEL.CODEC.LEVELS,
        gated=cfg.MODEL.CODEC.GATED,
        clip_length=cfg.INPUT.CLIP_LENGTH,
        key_interval=cfg.MODEL.CODEC.KEY_INTERVAL,
    )


def _build_flow(cfg: CfgNode) -> Codec:
    from .learned.scale_space_flow import ScaleSpaceFlowCodec

    node = cfg.MODEL.CODEC
    return ScaleSpaceFlowCodec(
        node.NAME,
        node.QUALITY,
        quantization=node.QUANTIZATION,
        clip_length=cfg.INPUT.CLIP_LENGTH,
        key_interval=node.KEY_INTERVAL,
    )


def _build_conventional(cfg: CfgNode) -> Codec:
    from .conventional import ConventionalCodec, picture_codec, sequence_codec

    return ConventionalCodec(picture_codec(cfg), sequence_codec(cfg))


def _conventional_entry(name: str) -> CodecEntry:
    return CodecEntry(
        name=name,
        build=_build_conventional,
        is_conventional=True,
        no_files="it is no learned codec, and has files of its own",
    )


def register_conventional(codec: type[PictureCodec]) -> None:
    """Make a program, or a library's codec, known by the ``name`` of its class.

    Raises:
        ConfigError: if the name is taken.
    """
    register_codec(_conventional_entry(codec.name))
    add_picture_codec(codec)


def _build_identity(_: CfgNode) -> Codec:
    from .identity import IdentityCodec

    return IdentityCodec()


def _of_compressai(name: str) -> Callable[[], Callable[..., Any]]:
    def architecture() -> Callable[..., Any]:
        from compressai.registry import MODELS

        return MODELS[name]

    return architecture


def _vbr_of_compressai(name: str) -> Callable[[], Callable[..., Any]]:
    # The zoo's weights are those of models that quantize hyper-latents by the level, too.
    return lambda: partial(_of_compressai(name)(), vr_entbttlnck=True)


def _light(full: CodecEntry) -> CodecEntry:
    """The codec with a light encoder for the receivers of another."""

    def architecture() -> Callable[..., Any]:
        from .learned.light import light_analysis

        assert full.architecture is not None
        usual = full.architecture()

        def make(n: int, m: int) -> Any:
            model = usual(n, m)
            model.g_a = light_analysis(n, m)
            return model

        return make

    name = f"{full.name}-light"
    return replace(
        full, name=name, architecture=architecture, full=full.name, has_zoo_weights=False
    )


def _steps(low: tuple[int, ...], upto: int, high: tuple[int, ...], last: int = 8) -> dict:
    """Widths ``low`` for qualities 1 to ``upto``, then ``high``."""
    return {quality: low if quality <= upto else high for quality in range(1, last + 1)}


_SERIAL = "its autoregressive context model would have to run in exact arithmetic once per latent"

register_codec(
    CodecEntry(name="identity", build=_build_identity, no_files="it codes nothing"),
)
# The fixed-rate image architectures of compressai.zoo.image_models, with the zoo's widths.
for _name, _widths, _no_files in (
    ("bmshj2018-factorized", _steps((128, 192), 5, (192, 320)), ""),
    ("bmshj2018-factorized-relu", _steps((128, 192), 5, (192, 320)), ""),
    ("bmshj2018-hyperprior", _steps((128, 192), 5, (192, 320)), ""),
    ("mbt2018-mean", _steps((128, 192), 4, (192, 320)), ""),
    ("mbt2018", _steps((192, 192), 4, (192, 320)), _SERIAL),
    ("cheng2020-anchor", _steps((128,), 3, (192,), 6), _SERIAL),
    ("cheng2020-attn", _steps((128,), 3, (192,), 6), _SERIAL),
):
    register_codec(
        CodecEntry(
            name=_name,
            build=build_learned,
            architecture=_of_compressai(_name),
            widths=_widths,
            has_zoo_weights=_name != "bmshj2018-factorized-relu",
            no_files=_no_files,
        )
    )
# Weights of the usual ones fit them, as a start.
for _name in ("bmshj2018-hyperprior", "mbt2018-mean"):
    _usual = find_codec(_name)
    register_codec(replace(_usual, name=f"{_name}-centred", is_centred=True, has_zoo_weights=False))
# Weights of the picture codecs that they are named for fit them, as a start.
for _name in (
    *("bmshj2018-hyperprior", "bmshj2018-hyperprior-centred"),
    *("mbt2018-mean", "mbt2018-mean-centred"),
):
    register_codec(
        replace(
            find_codec(_name),
            name=f"{_name}-temporal",
            build=_build_temporal,
            predicts_frames=True,
            has_zoo_weights=False,
        )
    )
# That of compressai.zoo.video.
register_codec(
    CodecEntry(
        name="ssf2020",
        build=_build_flow,
        architecture=_of_compressai("ssf2020"),
        widths=dict.fromkeys(range(1, 10), ()),
        stride=128,
        has_latents=False,
        has_zoo_weights=True,
        predicts_frames=True,
        no_files="its receiver would have to repeat floating-point sums over many frames exactly",
    )
)
for _name in ("bmshj2018-hyperprior", "mbt2018-mean"):
    for _kind in ("", "-centred"):
        register_codec(_light(find_codec(_name + _kind)))
# Those of compressai.zoo.image_vbr that files could be made of but for a number.
for _name in ("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr"):
    register_codec(
        CodecEntry(
            name=_name,
            build=_build_vbr,
            architecture=_vbr_of_compressai(_name),
            widths={1: (192, 320)},
            has_zoo_weights=True,
            levels=8,
            no_files="its quantization step goes into its entropy model as a floating-point number",
        )
    )
for _name in picture_codecs():
    register_codec(_conventional_entry(_name))
