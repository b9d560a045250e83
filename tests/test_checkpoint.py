"""Weights from anywhere reach the right parts, misfits are refused, and crashes cost nothing."""

import logging
import os
import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from compressai.models import FactorizedPrior
from compressai.zoo.image import model_urls
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager

import codec_det
from codec_det.codec.table import build_codec
from codec_det.errors import CodecDetError, WeightsError
from codec_det.training.checkpoint import ChainCheckpointer, load_codec_weights, read_checkpoint

FACTORIZED = "bmshj2018-factorized"


def assert_same(module, expected):
    found = module.state_dict()
    assert found.keys() == expected.keys()
    assert [k for k in found if not torch.equal(found[k], expected[k])] == []


def fill(module, seed):
    """Give every parameter and statistic a value of its own, batch norm's included."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point() and tensor.numel():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return module


@pytest.fixture
def chain(tiny_cfg):
    """``make(seed, KEY, value, ...)``: a tiny chain of random weights."""

    def make(seed, *opts):
        model = build_model(tiny_cfg(*opts))
        fill(model.detector, seed)
        fill(model.codec, seed)
        return model

    return make


@pytest.fixture
def logged(caplog, monkeypatch):
    # detectron2's set-up of loggers, which another test may have run, hides them from caplog.
    for name in ("fvcore", "detectron2", "codec_det"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    caplog.set_level(logging.INFO)
    return caplog


def load(model, path, *, strict=False):
    checkpointer = ChainCheckpointer(model, strict=strict)
    checkpointer.load(str(path))
    return checkpointer


def refusal(function, *args, **kwargs):
    with pytest.raises(WeightsError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# ---- Zoo weights ----


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """The folder CompressAI's downloads are kept in; any download fails."""

    def no_network(*_args, **_kwargs):
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    folder = Path(torch.hub.get_dir(), "checkpoints")
    folder.mkdir(parents=True)
    assert tmp_path in folder.parents
    return folder


def zoo_cfg(tiny_cfg, name=FACTORIZED, quality=1):
    opts = ["MODEL.CODEC.NAME", name, "MODEL.CODEC.QUALITY", quality, "MODEL.CODEC.N", 0]
    return tiny_cfg(*opts, "MODEL.CODEC.M", 0, "MODEL.CODEC.WEIGHTS", "zoo")


def zoo_file(zoo, quality=1, metric="mse"):
    return zoo / model_urls[FACTORIZED][metric][quality].rsplit("/", 1)[1]


def test_zoo_weights_load_from_the_cache_without_network(zoo, tiny_cfg, logged):
    published = FactorizedPrior(128, 192)
    published.update()
    torch.save(published.state_dict(), zoo_file(zoo))
    cfg = zoo_cfg(tiny_cfg)
    codec = build_codec(cfg)
    load_codec_weights(codec, cfg)
    assert_same(codec.model, published.state_dict())
    assert "Codec weights: zoo" in logged.text


def test_unreachable_zoo_names_file_and_folder(zoo, tiny_cfg):
    cfg = zoo_cfg(tiny_cfg, quality=2)
    message = refusal(load_codec_weights, build_codec(cfg), cfg)
    assert "quality 2, cannot be downloaded (no route to host)" in message
    assert zoo_file(zoo, quality=2).name in message
    assert str(zoo) in message
    assert "MODEL.CODEC.WEIGHTS" in message


def test_damaged_zoo_file_is_named(zoo, tiny_cfg):
    zoo_file(zoo).write_bytes(b"half a download")
    cfg = zoo_cfg(tiny_cfg)
    message = refusal(load_codec_weights, build_codec(cfg), cfg)
    assert zoo_file(zoo).name in message
    assert "delete" in message


def test_architecture_without_published_weights_is_refused(zoo, tiny_cfg):
    cfg = zoo_cfg(tiny_cfg, name="bmshj2018-factorized-relu")
    message = refusal(load_codec_weights, build_codec(cfg), cfg)
    assert "bmshj2018-factorized-relu" in message
    assert "MODEL.CODEC.WEIGHTS" in message


# ---- Codec files ----


def codec_cfg(tiny_cfg, path):
    return tiny_cfg("MODEL.CODEC.WEIGHTS", str(path))


def test_missing_codec_file_is_named(tiny_cfg, tmp_path):
    cfg = codec_cfg(tiny_cfg, tmp_path / "none.pth")
    assert "none.pth' not found" in refusal(load_codec_weights, build_codec(cfg), cfg)


@pytest.mark.parametrize(
    "content", [b"", b"<html>", bytes(range(256)) * 9], ids=["", "html", "bytes"]
)
def test_damaged_codec_file_is_named(tiny_cfg, tmp_path, content):
    path = tmp_path / "codec.pth"
    path.write_bytes(content)
    cfg = codec_cfg(tiny_cfg, path)
    message = refusal(load_codec_weights, build_codec(cfg), cfg)
    assert str(path) in message
    assert "damaged" in message
    # As PyTorch advises, which would run what code is in the file.
    assert "weights_only" not in message


def test_truncated_codec_file_is_named(tiny_cfg, tmp_path):
    path = tmp_path / "codec.pth"
    cfg = codec_cfg(tiny_cfg, path)
    codec = build_codec(cfg)
    torch.save(codec.model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "damaged" in refusal(load_codec_weights, codec, cfg)


def test_random_weights_are_a_choice_that_is_logged(tiny_cfg, logged):
    cfg = tiny_cfg()
    codec = build_codec(cfg)
    before = {k: v.clone() for k, v in codec.state_dict().items()}
    load_codec_weights(codec, cfg)
    assert_same(codec, before)
    assert "random weights" in logged.text


def test_identity_codec_needs_no_weights(tiny_cfg):
    cfg = tiny_cfg("MODEL.CODEC.NAME", "identity", "MODEL.CODEC.WEIGHTS", "zoo")
    load_codec_weights(build_codec(cfg), cfg)


def test_read_checkpoint_loads_no_code(tmp_path):
    torch.save({"model": Path("x")}, tmp_path / "code.pth")
    assert "code.pth" in refusal(read_checkpoint, str(tmp_path / "code.pth"))


# ---- Detector and chain files ----


def numpy_weights(module):
    return {k: v.numpy() for k, v in module.state_dict().items()}


def write_pth(model, path):
    torch.save(model.detector.state_dict(), path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def write_wrapped_pth(model, path):
    torch.save({"model": model.detector.state_dict(), "iteration": 9}, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def write_pkl(model, path):
    content = {"model": numpy_weights(model.detector), "__author__": "Detectron2 Model Zoo"}
    path.with_suffix(".pkl").write_bytes(pickle.dumps(content))
    return path.with_suffix(".pkl")


def write_exported(model, path):
    weights = {k: v for k, v in model.state_dict().items() if k.startswith("detector.")}
    torch.save({"model": weights}, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def write_chain(model, path):
    torch.save({"model": model.state_dict()}, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def write_data_parallel_chain(model, path):
    weights = {f"module.{k}": v for k, v in model.state_dict().items()}
    torch.save({"model": weights}, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


@pytest.mark.parametrize("write", [write_pth, write_wrapped_pth, write_pkl, write_exported])
def test_detector_files_load_into_the_detector_alone(chain, tmp_path, write):
    source, target = chain(1), chain(2)
    codec = {k: v.clone() for k, v in target.codec.state_dict().items()}
    checkpointer = load(target, write(source, tmp_path / "detector"), strict=True)
    assert_same(target.detector, source.detector.state_dict())
    assert_same(target.codec, codec)
    assert not checkpointer.found_codec


@pytest.mark.parametrize("write", [write_chain, write_data_parallel_chain])
def test_chain_files_load_into_both(chain, tmp_path, write):
    source, target = chain(1), chain(2)
    checkpointer = load(target, write(source, tmp_path / "chain"), strict=True)
    assert_same(target, source.state_dict())
    assert checkpointer.found_codec


def test_codec_file_loads_into_the_codec_alone(chain, tmp_path):
    source, target = chain(1), chain(2)
    detector = {k: v.clone() for k, v in target.detector.state_dict().items()}
    torch.save({"model": {f"codec.{k}": v for k, v in source.codec.state_dict().items()}},
               tmp_path / "codec.pth")  # fmt: skip
    checkpointer = load(target, tmp_path / "codec.pth")
    assert checkpointer.found_codec
    assert_same(target.codec, source.codec.state_dict())
    assert_same(target.detector, detector)


def test_chain_with_a_codec_serves_one_without(chain, tmp_path):
    source, target = chain(1), chain(2, "MODEL.CODEC.NAME", "identity", "MODEL.CODEC.N", 0)
    load(target, write_chain(source, tmp_path / "chain"), strict=True)
    assert_same(target.detector, source.detector.state_dict())


@pytest.mark.parametrize(
    "opts",
    [
        ["MODEL.CODEC.M", 16],
        ["MODEL.CODEC.NAME", "mbt2018-mean"],
        ["MODEL.CODEC.NAME", FACTORIZED],
    ],
    ids=str,
)
@pytest.mark.parametrize("strict", [True, False])
def test_chain_with_another_codec_is_refused(chain, tmp_path, opts, strict):
    path = write_chain(chain(1), tmp_path / "chain")
    message = refusal(load, chain(2, *opts), path, strict=strict)
    assert "another codec (codec.model." in message
    assert "MODEL.CODEC.NAME" in message
    assert "--part detector" in message


def test_codec_that_differs_in_activations_alone_is_refused(chain, tmp_path):
    path = write_chain(chain(1, "MODEL.CODEC.NAME", FACTORIZED), tmp_path / "chain")
    relu = chain(2, "MODEL.CODEC.NAME", "bmshj2018-factorized-relu")
    assert "another codec (codec.model.g_a.1.beta" in refusal(load, relu, path)


def caffe2_names(bottom_up):
    """ImageNet weights under the names Detectron 1 gave them: conv1_w, res2_0_branch2a_bn_s, ..."""
    branches = {
        "shortcut": "branch1",
        "conv1": "branch2a",
        "conv2": "branch2b",
        "conv3": "branch2c",
    }
    ends = {"weight": "w", "bias": "b"}
    norm_ends = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    names = {}
    for key in bottom_up.state_dict():
        *path, layer, last = key.replace(".norm.", "_norm.").split(".")
        if last == "num_batches_tracked":
            continue
        layer, is_norm = layer.removesuffix("_norm"), layer.endswith("_norm")
        ending = f"bn_{norm_ends[last]}" if is_norm else ends[last]
        if path == ["stem"]:
            names[f"res_{layer}_{ending}" if is_norm else f"{layer}_{ending}"] = key
        else:
            names[f"{path[0]}_{path[1]}_{branches[layer]}_{ending}"] = key
    return names


def test_caffe2_backbone_loads_by_its_names_and_the_rest_is_listed(chain, tmp_path, logged):
    source, target = chain(1), chain(2)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    weights = source.detector.backbone.bottom_up.state_dict()
    names = caffe2_names(source.detector.backbone.bottom_up)
    assert {"conv1_w", "res_conv1_bn_s", "res2_0_branch1_w", "res5_2_branch2c_bn_b"} <= names.keys()
    blobs = {name: weights[key].numpy() for name, key in names.items()}
    blobs |= {"conv1_w_momentum": blobs["conv1_w"], "fc1000_w": blobs["conv1_w"]}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"blobs": blobs}))
    load(target, tmp_path / "R-50.pkl")
    loaded = {f"detector.backbone.bottom_up.{key}" for key in names.values()}
    for key, value in target.state_dict().items():
        expected = source.state_dict() if key in loaded else before
        assert torch.equal(value, expected[key]), key
    assert len(loaded) > 200
    assert "proposal_generator.rpn_head" in logged.text
    assert "fc1000" in logged.text
    # Codec weights come from a file of their own.
    assert "codec.model" not in logged.text


def test_matched_weights_load_by_their_ends(chain, tmp_path):
    source, target = chain(1), chain(2)
    weights = numpy_weights(source.detector.backbone.bottom_up)
    content = {"model": weights, "__author__": "torchvision", "matching_heuristics": True}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content))
    load(target, tmp_path / "R-50.pkl")
    expected = source.detector.backbone.bottom_up.state_dict()
    assert_same(target.detector.backbone.bottom_up, expected)


def test_unmatched_tensors_are_listed(chain, tmp_path, logged):
    weights = chain(1).detector.state_dict()
    del weights["roi_heads.box_predictor.cls_score.weight"]
    weights["roi_heads.mask_head.predictor.weight"] = torch.zeros(3)
    weights["roi_heads.box_predictor.cls_score.bias"] = torch.zeros(7)
    torch.save(weights, tmp_path / "other.pth")
    load(chain(2), tmp_path / "other.pth")
    for name in ("cls_score", "mask_head.predictor", "cls_score.bias", "(7,)"):
        assert name in logged.text


def test_weights_of_another_architecture_are_refused(chain, tmp_path):
    weights = {f"trunk.{k}": v for k, v in chain(1).detector.state_dict().items()}
    torch.save(weights, tmp_path / "other.pth")
    message = refusal(load, chain(2), tmp_path / "other.pth")
    assert f"{len(weights)} of {len(weights)} tensors" in message
    assert "another architecture" in message
    assert "trunk." in message


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (
            lambda w: w.pop("backbone.fpn_lateral2.weight"),
            "lack 1 tensors of the model and 0 differ",
        ),
        (
            lambda w: w.update({"roi_heads.box_predictor.cls_score.bias": torch.zeros(81)}),
            "lack 0 tensors of the model and 1 differ",
        ),
    ],
    ids=["missing", "misshapen"],
)
def test_evaluation_needs_every_detector_weight_but_training_does_not(
    chain, tmp_path, change, culprit
):
    weights = chain(1).detector.state_dict()
    change(weights)
    torch.save(weights, tmp_path / "detector.pth")
    load(chain(2), tmp_path / "detector.pth")
    message = refusal(load, chain(2), tmp_path / "detector.pth", strict=True)
    assert culprit in message
    assert "MODEL.ROI_HEADS.NUM_CLASSES" in message


def test_pixel_statistics_of_older_files_give_way_to_the_config(chain, tmp_path):
    source, target = chain(1), chain(2)
    weights = source.detector.state_dict() | {"pixel_mean": torch.zeros(3, 1, 1)}
    torch.save(weights, tmp_path / "old.pth")
    mean = target.detector.pixel_mean.clone()
    load(target, tmp_path / "old.pth", strict=True)
    assert_same(target.detector, source.detector.state_dict())
    assert torch.equal(target.detector.pixel_mean, mean)


@pytest.mark.parametrize(
    ("name", "content", "culprit"),
    [
        ("a.pth", b"", "damaged"),
        ("a.pth", b"<html>404</html>", "damaged"),
        ("a.pkl", b"<html>404</html>", "damaged"),
        ("a.pkl", pickle.dumps([1, 2]), "damaged"),
        ("a.pkl", b"cnowhere\nnothing\n.", "damaged"),
        ("a.pkl", b"", "damaged"),
    ],
)
def test_damaged_file_is_named(chain, tmp_path, name, content, culprit):
    (tmp_path / name).write_bytes(content)
    message = refusal(load, chain(1), tmp_path / name)
    assert str(tmp_path / name) in message
    assert culprit in message


def test_training_checkpoint_of_another_program_is_named(chain, tmp_path):
    torch.save({"epoch": 3, "state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
    message = refusal(load, chain(1), tmp_path / "other.pth")
    assert "other.pth" in message
    assert "no checkpoint" in message


def test_missing_file_is_named(chain, tmp_path):
    message = refusal(load, chain(1), tmp_path / "none.pth")
    assert f"'{tmp_path / 'none.pth'}' not found" in message
    assert "MODEL.WEIGHTS" in message


def test_unreachable_download_is_named(chain, tmp_path, monkeypatch):
    def no_network(*_args, **_kwargs):
        raise URLError("no route to host")

    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    monkeypatch.setattr("iopath.common.file_io.download", no_network)
    message = refusal(load, chain(1), "detectron2://Some-Model/123/model.pkl")
    assert "'detectron2://Some-Model/123/model.pkl' cannot be downloaded" in message
    assert "no route to host" in message
    assert "MODEL.WEIGHTS" in message


def test_failed_load_does_not_spoil_the_next(chain, tmp_path):
    source, target = chain(1), chain(2)
    checkpointer = ChainCheckpointer(target)
    refusal(checkpointer.load, str(tmp_path / "none.pth"))
    checkpointer.load(str(write_chain(source, tmp_path / "chain")))
    assert_same(target, source.state_dict())


def test_packaged_weights_are_found_in_the_package(chain, tmp_path, monkeypatch):
    inside = Path(codec_det.__file__).parent / "weights" / "shapes_detector.pth"
    assert PathManager.get_local_path("codec_det://shapes_detector.pth") == str(inside)
    message = refusal(load, chain(1), "codec_det://none.pth")
    assert "'codec_det://none.pth' not found" in message
    source, target = chain(1), chain(2)
    (tmp_path / "weights").mkdir()
    write_chain(source, tmp_path / "weights" / "own")
    monkeypatch.setattr(
        "codec_det.training.checkpoint.__file__", str(tmp_path / "training" / "checkpoint.py")
    )
    load(target, "codec_det://own.pth")
    assert_same(target, source.state_dict())
    with PathManager.open("codec_det://own.pth", "rb") as file:
        assert file.read(2) == b"PK"


# ---- Saving and resuming ----


def save(model, folder, name, **extra):
    ChainCheckpointer(model, str(folder)).save(name, **extra)


def test_saved_chain_is_whole_tagged_and_resumable(chain, tmp_path):
    source, target = chain(1), chain(2)
    save(source, tmp_path, "model_0000004", iteration=4)
    assert {p.name for p in tmp_path.iterdir()} == {"model_0000004.pth", "last_checkpoint"}
    checkpointer = ChainCheckpointer(target, str(tmp_path))
    assert checkpointer.has_checkpoint()
    extra = checkpointer.resume_or_load("ignored.pth", resume=True)
    assert extra["iteration"] == 4
    assert_same(target, source.state_dict())


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(28, "No space left"), CodecDetError, r"model_000000\d\.pth' \(No space left\)"),
        (RuntimeError("unexpected pos 64 vs 0"), CodecDetError, "unexpected pos 64 vs 0"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_interrupted_save_leaves_the_previous_checkpoint(
    chain, tmp_path, monkeypatch, error, raised, message
):
    model = chain(1)
    save(model, tmp_path, "model_0000001", iteration=1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def cut_off(_data, file):
        file.write(b"PK half of a checkpoint")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("fvcore.common.checkpoint.torch.save", cut_off)
        with pytest.raises(raised, match=message):
            save(model, tmp_path, "model_0000002", iteration=2)
        with pytest.raises(raised, match=message):
            save(model, tmp_path, "model_0000001", iteration=1)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_only_the_main_process_saves(chain, tmp_path):
    ChainCheckpointer(chain(1), str(tmp_path), save_to_disk=False).save("model_final")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def run(chain, tmp_path):
    """A folder with checkpoints 1 and 2, of which 2 is the last."""
    for number in (1, 2):
        save(chain(number), tmp_path, f"model_000000{number}", iteration=number)
        os.utime(tmp_path / f"model_000000{number}.pth", (number, number))
    return tmp_path


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_damaged_last_checkpoint_falls_back_to_the_previous(chain, run, logged):
    truncate(run / "model_0000002.pth")
    # What a killed process and a user may have left there as well.
    (run / ".model_0000003.partial.pth").write_bytes(b"PK")
    codec = {f"codec.{k}": v for k, v in chain(3).codec.state_dict().items()}
    torch.save({"model": codec}, run / "codec.pth")
    target = chain(4)
    extra = ChainCheckpointer(target, str(run)).resume_or_load("", resume=True)
    assert extra["iteration"] == 1
    assert_same(target, chain(1).state_dict())
    (error,) = [r.getMessage() for r in logged.records if r.levelno == logging.ERROR]
    assert error.startswith("Cannot resume from")
    assert "model_0000002.pth" in error


def test_lost_last_checkpoint_falls_back_too(chain, run):
    (run / "model_0000002.pth").unlink()
    extra = ChainCheckpointer(chain(4), str(run)).resume_or_load("", resume=True)
    assert extra["iteration"] == 1


def test_no_readable_checkpoint_is_an_error(chain, run):
    truncate(run / "model_0000001.pth")
    truncate(run / "model_0000002.pth")
    resume = ChainCheckpointer(chain(4), str(run)).resume_or_load
    message = refusal(resume, "", resume=True)
    assert str(run) in message
    assert "OUTPUT_DIR" in message


def test_without_resume_or_checkpoints_the_weights_are_loaded(chain, run, tmp_path):
    path = str(write_chain(chain(3), tmp_path / "start"))
    target = chain(4)
    assert "iteration" not in ChainCheckpointer(target, str(run)).resume_or_load(path, resume=False)
    assert_same(target, chain(3).state_dict())
    target = chain(4)
    ChainCheckpointer(target, str(tmp_path / "empty")).resume_or_load(path, resume=True)
    assert_same(target, chain(3).state_dict())
