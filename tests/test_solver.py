import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from codec_det.errors import ConfigError
from codec_det.training.solver import build_optimizer, parameter_groups

JFT = ["MODEL.CODEC.TRAINABLE", "['encoder', 'decoder']", "MODEL.DETECTOR.TRAINABLE", True]


def groups_by_part(cfg, model):
    names = {id(p): n for n, p in model.named_parameters()}
    found = {}
    for group in parameter_groups(cfg, model):
        for p in group["params"]:
            found[names[id(p)]] = (group["lr"], group["weight_decay"])
    return found


def test_learning_rates_and_weight_decay_per_part(tiny_cfg):
    cfg = tiny_cfg(*JFT, "SOLVER.BASE_LR", 0.01, "SOLVER.CODEC_LR", 0.02,
                   "SOLVER.QUANTILES_LR", 0.03, "SOLVER.WEIGHT_DECAY", 0.1)  # fmt: skip
    model = build_model(cfg)
    found = groups_by_part(cfg, model)
    assert found.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert found.pop("codec.model.entropy_bottleneck.quantiles") == (0.03, 0.0)
    codec = {v for k, v in found.items() if k.startswith("codec.")}
    assert codec == {(0.02, 0.0)}
    detector = {v for k, v in found.items() if k.startswith("detector.")}
    # Normalization layers have detectron2's own weight decay, 0.
    assert detector == {(0.01, 0.1), (0.01, 0.0)}


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_optimizers(tiny_cfg, name):
    cfg = tiny_cfg(*JFT, "SOLVER.OPTIMIZER", name)
    assert type(build_optimizer(cfg, build_model(cfg))).__name__ == name


def test_codec_gradient_is_bounded_as_a_whole_and_logged(tiny_cfg):
    cfg = tiny_cfg(*JFT, "SOLVER.OPTIMIZER", "SGD", "SOLVER.CODEC_CLIP_NORM", 0.5)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    with EventStorage() as storage:
        optimizer.step()
        codec = [p for n, p in model.codec.named_parameters() if not n.endswith("quantiles")]
        assert storage.latest()["codec_grad_norm"][0] == pytest.approx(
            sum(p.numel() for p in codec) ** 0.5, rel=1e-4
        )
    norm = torch.nn.utils.get_total_norm([p.grad for p in codec])
    assert norm.item() == pytest.approx(0.5, rel=1e-3)
    assert (model.codec.model.entropy_bottleneck.quantiles.grad == 1).all()
    assert all((p.grad == 1).all() for p in model.detector.parameters())


@pytest.mark.parametrize("part", ["codec", "detector"])
def test_a_gradient_that_is_not_finite_stops_before_any_weight_changes(tiny_cfg, part):
    cfg = tiny_cfg(*JFT)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    first = {"codec": model.codec.model.g_a[0], "detector": model.detector.backbone.bottom_up}
    next(first[part].parameters()).grad.fill_(float("nan"))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with EventStorage(), pytest.raises(FloatingPointError, match=f"gradient of the {part}"):
        optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_nothing_to_train_is_refused(tiny_cfg):
    cfg = tiny_cfg()
    with pytest.raises(ConfigError, match=r"nothing trains.*--eval-only"):
        build_optimizer(cfg, build_model(cfg))
