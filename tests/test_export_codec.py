from pathlib import Path

import pytest
import torch

from codec_det.training.checkpoint import ChainCheckpointer, load_codec_weights
from codec_det.training.trainer import load_chain
from tools.export_codec import main


@pytest.fixture
def saved(tiny_cfg):
    cfg = tiny_cfg()
    model = load_chain(cfg)
    model.codec.refresh_tables()
    Path(cfg.OUTPUT_DIR).mkdir()
    ChainCheckpointer(model, cfg.OUTPUT_DIR).save("model_final")
    return model, f"{cfg.OUTPUT_DIR}/model_final.pth"


def test_codec_alone_loads_as_codec_weights(saved, tiny_cfg, tmp_path, capsys):
    model, file = saved
    assert main([file, str(tmp_path / "codec.pth")]) == 0
    assert str(tmp_path / "codec.pth") in capsys.readouterr().out
    cfg = tiny_cfg("MODEL.CODEC.WEIGHTS", str(tmp_path / "codec.pth"))
    torch.manual_seed(1)
    other = load_chain(tiny_cfg())
    load_codec_weights(other.codec, cfg)
    loaded = other.codec.state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in model.codec.state_dict().items())


def test_half_keeps_tables_and_entropy_parameters_exact(saved, tmp_path):
    model, file = saved
    assert main([file, str(tmp_path / "codec.pth"), "--half"]) == 0
    stored = torch.load(tmp_path / "codec.pth")["model"]
    for key, value in model.codec.state_dict().items():
        found = stored[f"codec.{key}"]
        if "entropy_bottleneck" in key or "gaussian_conditional" in key:
            assert torch.equal(found, value), key
        else:
            assert found.dtype == torch.float16
            assert torch.allclose(found.float(), value, atol=1e-3)


def test_detector_alone(saved, tmp_path):
    model, file = saved
    assert main([file, str(tmp_path / "detector.pth"), "--part", "detector"]) == 0
    stored = torch.load(tmp_path / "detector.pth")["model"]
    assert stored.keys() == {f"detector.{k}" for k in model.detector.state_dict()}


def test_what_holds_no_such_part_is_refused(tmp_path, capsys):
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    assert main([str(tmp_path / "other.pth"), str(tmp_path / "out.pth")]) == 2
    assert "holds no codec" in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()
    assert main([str(tmp_path / "missing.pth"), str(tmp_path / "out.pth")]) == 2
    assert "missing.pth' not found" in capsys.readouterr().err
