"""Crops that are smaller than what a latent sees are warned of, before training."""

import logging

import pytest
import torch

from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.data.register import register_datasets
from codec_det.training.small_crops import small_crops_warning
from codec_det.training.trainer import Trainer

TRAINS = ("MODEL.CODEC.TRAINABLE", "['encoder', 'decoder']")


def crops(tiny_cfg, size, *opts, kind="absolute"):
    crop = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", kind, "INPUT.CROP.SIZE", size)
    return small_crops_warning(tiny_cfg(*TRAINS, *crop, *opts))


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean"])
def test_a_latent_sees_61_pixels(name):
    codec = LearnedCodec(name, 1, n=8, m=12)
    x = torch.rand(1, 3, 160, 160, requires_grad=True)
    codec.model.g_a(x)[0, :, 5, 5].sum().backward()
    for axis in (0, 1):
        (seen,) = x.grad.abs().sum((0, 1)).sum(axis).nonzero(as_tuple=True)
        assert (seen[0], seen[-1]) == (80 - 30, 80 + 30)


def test_crops_smaller_than_that_are_warned_of(tiny_cfg):
    assert crops(tiny_cfg, [64, 64]) is None
    found = crops(tiny_cfg, [64, 63])
    assert "INPUT.CROP.SIZE [64, 63]: crops of 63x64 pixels show" in found
    assert "it sees 64" in found
    assert crops(tiny_cfg, [48, 200], kind="absolute_range")
    assert crops(tiny_cfg, [64, 200], kind="absolute_range") is None
    assert crops(tiny_cfg, [0.1, 0.1], kind="relative") is None


def test_crops_count_as_they_are_coded(tiny_cfg):
    half = ("MODEL.CODEC.SCALE", 0.5)
    assert crops(tiny_cfg, [128, 127], *half) is None
    assert "crops of 63x64 pixels at MODEL.CODEC.SCALE 0.5" in crops(tiny_cfg, [128, 126], *half)


def test_codecs_that_do_not_train_learn_nothing_anyway(tiny_cfg):
    assert crops(tiny_cfg, [32, 32])
    assert crops(tiny_cfg, [32, 32], "MODEL.CODEC.TRAINABLE", "[]") is None
    assert small_crops_warning(tiny_cfg(*TRAINS, "INPUT.CROP.TYPE", "absolute")) is None


def test_training_says_so_first(tiny_cfg, tiny_set, caplog):
    crop = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [32, 32])
    cfg = tiny_cfg(*tiny_set, *TRAINS, *crop, "SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 1)
    register_datasets(cfg)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    messages = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert sum("INPUT.CROP.SIZE [32, 32]" in message for message in messages) == 1
