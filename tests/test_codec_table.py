"""The table of codecs, and a codec that somebody else's package registers in it."""

import subprocess
import sys

import pytest
import torch
from compressai.models import ScaleHyperprior
from torch import nn

from codec_det.codec import table
from codec_det.codec.base import BatchedCodec, CodedBatch
from codec_det.codec.table import (
    CodecEntry,
    build_codec,
    build_learned,
    codec_names,
    find_codec,
    is_conventional,
    register_codec,
)
from codec_det.config import load_config
from codec_det.config_checks import check_config
from codec_det.errors import ConfigError

LIGHT = "light-hyperprior"


class LightHyperprior(ScaleHyperprior):
    """A hyperprior whose analysis has ReLUs in place of GDN: an architecture of one's own."""

    def __init__(self, n, m):
        super().__init__(n, m)
        convolutions = [x for x in self.g_a if isinstance(x, nn.Conv2d)]
        *layers, _ = (part for x in convolutions for part in (x, nn.ReLU()))
        self.g_a = nn.Sequential(*layers)


@pytest.fixture
def own_codec(monkeypatch):
    """As a package does it that is imported before a tool's main runs."""
    monkeypatch.setattr(table, "_TABLE", dict(table._TABLE))
    register_codec(
        CodecEntry(
            name=LIGHT,
            build=build_learned,
            architecture=lambda: LightHyperprior,
            widths={1: (8, 12), 2: (12, 16)},
        )
    )


def test_names_are_unique_and_unknown_ones_are_refused_with_the_choice():
    with pytest.raises(ConfigError, match="'vvc' is registered already"):
        register_codec(find_codec("vvc"))
    with pytest.raises(ConfigError, match="there is no codec 'h269': choose from identity, bmshj"):
        find_codec("h269")
    cfg = load_config("", ["MODEL.CODEC.NAME", "h269"])
    with pytest.raises(ConfigError, match=r"MODEL\.CODEC\.NAME is 'h269'"):
        check_config(cfg)


def test_listing_and_checking_codecs_loads_no_torch():
    code = "import sys; from codec_det.codec.table import find_codec; find_codec('mbt2018-mean');"
    code += "sys.exit('compressai' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


def test_codec_of_an_installed_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_TABLE", dict(table._TABLE))
    (tmp_path / "own_codec.py").write_text(
        "from codec_det.codec.table import CodecEntry, register_codec\n"
        "register_codec(CodecEntry(name='plugged', build=lambda cfg: None))\n"
    )
    info = tmp_path / "own_codec-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-codec\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[codec_det.codecs]\nplugged = own_codec\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "plugged" not in codec_names()
    assert find_codec("plugged").name == "plugged"
    assert not is_conventional("plugged")


def test_own_codec_is_built_checked_and_codes(own_codec):
    cfg = load_config("", ["MODEL.CODEC.NAME", LIGHT, "MODEL.CODEC.WEIGHTS", ""])
    check_config(cfg)
    codec = build_codec(cfg).eval()
    assert type(codec.model) is LightHyperprior
    assert codec.widths == (8, 12)
    coded = codec([torch.rand(3, 40, 72)])
    assert coded.reconstructions[0].shape == (3, 40, 72)
    assert coded.bits.item() > 0
    with pytest.raises(ConfigError, match=f"{LIGHT} has qualities 1 to 2"):
        check_config(load_config("", ["MODEL.CODEC.NAME", LIGHT, "MODEL.CODEC.QUALITY", "3",
                                      "MODEL.CODEC.WEIGHTS", ""]))  # fmt: skip


class _Halver(BatchedCodec):
    """Not learned, not a program: keeps every other bit."""

    def code(self, batch, pictures=True):
        bits = batch.new_full((len(batch),), 12.0 * batch[0, 0].numel())
        return CodedBatch((batch * 15).round() / 15, bits, bits)


def test_codec_that_is_none_of_compressais_needs_a_builder_alone(own_codec):
    register_codec(CodecEntry(name="halver", build=lambda cfg: _Halver(), no_files="it is a joke"))
    cfg = load_config("", ["MODEL.CODEC.NAME", "halver"])
    check_config(cfg)
    coded = build_codec(cfg)([torch.rand(3, 5, 7)])
    assert coded.bits.item() == 12 * 35
    with pytest.raises(ConfigError, match="halver cannot be written to files"):
        check_config(
            load_config("", ["MODEL.CODEC.NAME", "halver", "MODEL.CODEC.BITSTREAM", "True"])
        )
