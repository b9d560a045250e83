"""Learned codecs of sequences: training on clips, evaluation in order, exact streams."""

import json

import numpy as np
import pytest
import torch

from codec_det.bitstream.ans import STREAM_BITS
from codec_det.bitstream.entropy import Latents
from codec_det.bitstream.expected import Picture
from codec_det.bitstream.fixed_point import EXACT, FixedPointTransform
from codec_det.bitstream.prediction import LIMIT, Prediction
from codec_det.codec.learned.frame_coding import TemporalBitstreamCodec
from codec_det.codec.learned.freeze import freeze_entropy_model, freeze_prediction
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.codec.learned.prediction import whole_steps
from codec_det.codec.learned.temporal_codec import TemporalCodec
from codec_det.codec.table import learned_codecs
from codec_det.config_checks import check_config
from codec_det.errors import BitstreamError, ConfigError, WeightsError
from codec_det.sequences import Frame, Reference

TEMPORAL = [name for name in learned_codecs() if name.endswith("-temporal")]
SIZE = (48, 80)


def make(name, key_interval=8, **options):
    """A narrow codec whose latents move with the picture, and whose prediction does something."""
    torch.manual_seed(1)
    usual = LearnedCodec(name.removesuffix("-temporal"), 1, n=8, m=12).eval()
    with torch.no_grad():
        y = usual.model.g_a(torch.stack(clip(1)))
        usual.model.g_a[-1].weight *= 3 / y.std()
        last = usual.model.h_s[-2 if "mbt" not in name else -1]
        last.weight *= 5
        last.bias[:12] += 3
    usual.refresh_tables()
    codec = TemporalCodec(name, 1, n=8, m=12, key_interval=key_interval, **options)
    codec.load_state_dict(usual.state_dict())
    with torch.no_grad():
        codec.prediction.network[-1].weight.normal_(0, 0.3)
    return usual, codec.eval()


def clip(frames, seed=0, size=SIZE):
    """A still scene with noise, through which something moves: (3, h, w) of 8-bit levels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, size[0] // 8, size[1] // 8, generator=generator)
    scene = torch.nn.functional.interpolate(coarse, size, mode="bilinear")[0]
    shown = []
    for t in range(frames):
        picture = scene + 0.02 * torch.randn(scene.shape, generator=generator)
        picture[:, 10:26, 3 * t % 60 : 3 * t % 60 + 16] = 0.9
        shown.append((255 * picture.clamp(0, 1)).round() / 255)
    return shown


def numbered(count, sequence=1, start=0):
    return [Frame(sequence, start + t) for t in range(count)]


def with_gains(codec):
    """Levels of which the lower have the coarser quantization."""
    with torch.no_grad():
        for gains, sign in ((codec.gains, 1), (codec.inverse_gains, -1)):
            steps = torch.linspace(-1, 0, codec.levels)[:, None]
            gains.log_gains.copy_(sign * steps * torch.linspace(1, 2, 12))
    return codec


def code(codec, frames, pictures):
    codec.follow(frames)
    with torch.no_grad():
        return codec(pictures)


# ---- Which frames are predicted ----


def test_key_frames_are_the_first_after_holes_and_by_the_interval():
    reference = Reference(key_interval=3)
    numbers = [5, 6, 7, 8, 10, 11, 11, 12]
    frames = [*(Frame(1, t) for t in numbers), Frame(2, 13), Frame(2, 14), None, Frame(2, 15)]
    found = []
    for frame in frames:
        found.append(reference.of(frame, (4, 6)))
        reference.keep(frame)
    before = [None, frames[0], frames[1], None, None, frames[4], None, frames[6]]
    assert found == [*before, None, frames[8], None, None]
    assert reference.of(Frame(2, 16), (4, 8)) is None  # another size
    assert reference.of(Frame(2, 17), (4, 8)) is None  # nothing was kept of the one before


def test_every_frame_is_a_key_frame_where_the_interval_is_one():
    reference = Reference(key_interval=1)
    for frame in numbered(4):
        assert reference.of(frame, (4, 6)) is None
        reference.keep(frame)


# ---- Evaluation ----


@pytest.mark.parametrize("name", TEMPORAL)
def test_key_frames_are_pictures_of_the_picture_codec(name):
    usual, codec = make(name)
    pictures = clip(3)
    with torch.no_grad():
        wanted = usual(pictures)
    # Of no sequence; and of sequences that begin.
    for frames in ([None] * 3, [Frame(v, 7) for v in range(3)]):
        found = code(codec, frames, pictures)
        torch.testing.assert_close(found.bits, wanted.bits, rtol=1e-4, atol=0.01)
        for a, b in zip(found.reconstructions, wanted.reconstructions, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", TEMPORAL[1:3])
def test_frames_are_coded_alike_in_one_call_and_in_many(name):
    _, codec = make(name)
    pictures, frames = clip(4), numbered(4)
    together = code(codec, frames, pictures)
    apart = [code(codec, [f], [p]) for f, p in zip(frames, pictures, strict=True)]
    assert torch.equal(together.bits, torch.cat([x.bits for x in apart]))
    for a, b in zip(together.reconstructions, apart, strict=True):
        assert torch.equal(a, b.reconstructions[0])


def test_a_picture_codecs_weights_predict_what_is_still_for_less():
    name = "bmshj2018-hyperprior-temporal"
    usual = LearnedCodec("bmshj2018-hyperprior", 1, n=32, m=48)
    from codec_det.codec.learned.state import codec_weights
    from codec_det.training.checkpoint import read_checkpoint

    weights = codec_weights(read_checkpoint("codec_det://shapes_codec_2.pth"))
    codec = TemporalCodec(name, 1, n=32, m=48, key_interval=30).eval()
    codec.load_state_dict(weights)
    usual.load_state_dict(weights)
    pictures = clip(6, size=(128, 128))
    bits = code(codec, numbered(6), pictures).bits
    with torch.no_grad():
        alone = usual.eval()(pictures).bits
    assert bits[0] == pytest.approx(alone[0].item(), rel=1e-4)
    assert (bits[1:] < 0.8 * alone[1:]).all()


# ---- Training ----


@pytest.mark.parametrize("quantization", ["noise", "straight_through", "mixed", "threshold"])
@pytest.mark.parametrize("name", TEMPORAL[:3:2])
def test_clips_train_every_part(name, quantization):
    _, codec = make(name, clip_length=3, quantization=quantization)
    codec.train()
    coded = codec(clip(3) + clip(3, seed=1))
    assert [x.shape for x in coded.reconstructions] == [(3, *SIZE)] * 6
    loss = coded.bits.sum() + sum(x.square().mean() for x in coded.reconstructions)
    (loss + codec.auxiliary_loss()).backward()
    assert [n for n, p in codec.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_bits_of_a_clip_are_those_of_a_sequence_with_its_key_frames():
    _, codec = make(TEMPORAL[0], key_interval=10, clip_length=4)
    codec.set_trainable([])
    codec.train()
    pictures = clip(4) + clip(4, seed=1)
    with torch.no_grad():
        weighted = codec(pictures).rounded_bits.reshape(2, 4)
    codec.eval()
    frames = numbered(4, 1) + numbered(4, 2)
    bits = code(codec, frames, pictures).bits.reshape(2, 4)
    expected = (bits[:, 0] + 9 * bits[:, 1:].mean(1)) / 10
    torch.testing.assert_close(weighted.mean(1), expected)


@pytest.mark.parametrize("pictures", [True, False])
def test_frames_before_a_clip_are_coded_and_not_learnt_from(pictures):
    codec = with_gains(make(TEMPORAL[0], key_interval=10, clip_length=2, levels=3)[1])
    frames = clip(5) + clip(5, seed=1)
    levels = [0.0] * 5 + [1.5] * 5
    codec.set_trainable([])
    codec.train()
    with torch.no_grad(), codec.burning_in(3):
        coded = codec(frames, pictures, levels)
    codec.eval()
    for own, sequence, level in ((0, 1, 0.0), (1, 2, 1.5)):
        codec.level = level
        alone = code(codec, numbered(5, sequence), frames[5 * own : 5 * own + 5])
        # Those of a sequence with its key frames.
        expected = 0.9 * alone.bits[3:] + 0.1 * alone.bits[0]
        torch.testing.assert_close(coded.bits[2 * own : 2 * own + 2], expected)
        for name in ("latents", "reconstructions")[: 1 + pictures]:
            found = getattr(coded, name)
            assert len(found) == 4
            for a, b in zip(found[2 * own :], getattr(alone, name)[3:], strict=False):
                torch.testing.assert_close(a, b)


def test_no_gradient_reaches_frames_before_a_clip():
    _, codec = make(TEMPORAL[0], key_interval=10, clip_length=2, quantization="threshold")
    codec.train()
    frames = [frame.requires_grad_() for frame in clip(4)]
    with codec.burning_in(2):
        coded = codec(frames)
    (coded.bits.sum() + sum(x.square().mean() for x in coded.reconstructions)).backward()
    assert [frame.grad is not None and bool(frame.grad.any()) for frame in frames] == [
        False,
        False,
        True,
        True,
    ]
    # The next call begins with key frames again.
    assert len(codec(frames).reconstructions) == 4


def test_each_clip_is_coded_at_its_level():
    codec = with_gains(make(TEMPORAL[0], clip_length=4, levels=3)[1])
    codec.set_trainable([])
    codec.train()
    pictures = clip(4) + clip(4, seed=1)
    with torch.no_grad():
        coded = codec(pictures, levels=[0.0] * 4 + [1.5] * 4)
    codec.eval()
    for own, sequence, level in ((0, 1, 0.0), (4, 2, 1.5)):
        codec.level = level
        alone = code(codec, numbered(4, sequence), pictures[own : own + 4])
        # A key frame counts an eighth of a sequence, and a quarter of a clip.
        weights = 4 * torch.tensor([1 / 8, *[7 / 24] * 3])
        torch.testing.assert_close(coded.bits[own : own + 4], weights * alone.bits)
        for a, b in zip(coded.reconstructions[own:], alone.reconstructions, strict=False):
            torch.testing.assert_close(a, b)
        for a, b in zip(coded.latents[own:], alone.latents, strict=False):
            torch.testing.assert_close(a, b)
    # Still at 1.5, which is finer.
    finer = code(codec, numbered(4, 3), pictures[:4])
    assert coded.bits[0] < 0.99 * weights[0] * finer.bits[0]


@pytest.mark.parametrize("name", TEMPORAL[::2])
def test_latents_of_predicted_frames_have_the_values_of_their_key_frames(name):
    """Else they stray from those, frame by frame."""
    codec = make(name, key_interval=30)[1]
    latents = torch.stack(code(codec, numbered(30), clip(30)).latents)
    steps = latents - latents[0]
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
    assert (steps[-1].round() != 0).any()
    # Those of a scale hyperprior's key frames are whole numbers.
    assert ("mbt" in name) != torch.equal(latents, latents.round())


def test_means_are_trained_by_fractions_of_a_step():
    _, codec = make(TEMPORAL[0], quantization="threshold")
    prediction = codec.prediction.train()
    last = prediction.network[-1]
    before = torch.zeros(1, 24, 3, 5)
    latents = torch.full((1, 12, 3, 5), 0.9)  # decoded as 1, which no mean below a half is
    slopes = []
    for mean in (0.2, 0.4):
        with torch.no_grad():
            last.weight.zero_()
            last.bias[12:24] = mean
        with codec._count_predicted as count:
            decoded, _ = prediction(latents, before)
            count.total()[0].sum().backward()
        assert torch.equal(decoded, torch.ones_like(decoded))
        slopes.append(last.bias.grad[12:24].clone())
        prediction.zero_grad()
    assert (slopes[0] < slopes[1]).all()
    assert (slopes[1] < 0).all()


def test_the_network_sees_rounded_latents_whatever_stands_in_for_rounding():
    # Those of a scale hyperprior's key frames are whole numbers.
    _, codec = make(TEMPORAL[0], clip_length=2, quantization="noise")
    codec.train()
    seen = []
    codec.prediction.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    decoded = codec(clip(2)).latents[0]
    assert torch.equal(seen[0], seen[0].round())
    assert not torch.equal(decoded, decoded.round())
    assert 0 < (seen[0][0, :12] - decoded).abs().max() <= 1
    assert torch.equal(seen[0][:, :12], seen[0][:, 12:])


def test_parts_of_the_prediction_train_with_the_codecs_own():
    _, codec = make(TEMPORAL[0], clip_length=2)
    for part, trained in (
        ("encoder", {"h_a"}),
        ("decoder", {"h_s", "network", "entropy_bottleneck"}),
    ):
        codec.set_trainable([part])
        names = {n.split(".")[0] for n, p in codec.prediction.named_parameters() if p.requires_grad}
        assert names == trained


def test_the_prediction_trains_alone_and_pictures_stay_as_they_are():
    _, codec = make(TEMPORAL[0], clip_length=3, quantization="threshold")
    codec.set_trainable(["prediction"])
    pictures = clip(3)
    before = code(codec, [None] * 3, pictures)
    kept = {k: v.clone() for k, v in codec.model.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in codec.parameters() if p.requires_grad], lr=1e-3)
    codec.train()
    spent = []
    for _ in range(30):
        coded = codec(pictures)
        (coded.bits.sum() / 100 + codec.auxiliary_loss()).backward()
        optimizer.step()
        optimizer.zero_grad()
        spent.append(coded.rounded_bits.sum().item())
    assert spent[-1] < 0.9 * spent[0]
    assert all(p.grad is None for p in codec.model.parameters())
    codec.refresh_tables()
    assert all(torch.equal(kept[key], value) for key, value in codec.model.state_dict().items())
    codec.eval()
    assert torch.equal(code(codec, [None] * 3, pictures).bits, before.bits)


def test_a_fixed_decoder_keeps_the_tables_of_predicted_frames():
    _, codec = make(TEMPORAL[0], clip_length=2)
    before = freeze_prediction(codec.name, codec.prediction, entropy_of(codec)).state()[0]
    codec.set_trainable(["encoder"])
    codec.prediction.h_a[0].weight.data *= 2
    codec.refresh_tables()
    after = freeze_prediction(codec.name, codec.prediction, entropy_of(codec)).state()[0]
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)


# ---- Streams ----


def entropy_of(codec):
    return freeze_entropy_model(codec.name, codec.model)


@pytest.mark.parametrize(
    ("name", "level"), [(TEMPORAL[0], None), (TEMPORAL[3], None), (TEMPORAL[2], 1.5)]
)
def test_a_sequence_of_30_frames_is_sent_and_decoded(name, level):
    levels = 1 if level is None else 3
    _, codec = make(name, key_interval=12, levels=levels)
    if level is not None:
        codec = with_gains(codec)
        codec.level = level
    pictures, frames = clip(30), numbered(30)
    estimated = code(codec, frames, pictures)
    real = TemporalBitstreamCodec(codec)
    coded = code(real, frames, pictures)
    for ours, theirs in zip(coded.latents, estimated.latents, strict=True):
        assert (abs(ours - theirs) > 0.5).float().mean() < 0.15
    # Where a latent lies at a threshold, the float path may round it otherwise.
    for ours, theirs in zip(coded.reconstructions, estimated.reconstructions, strict=True):
        assert abs(ours - theirs).mean() < 0.002
    figures = [x["estimated_bits"] for x in coded.measured]
    assert sum(figures) == pytest.approx(estimated.bits.sum().item(), rel=0.02)
    rest = [
        bits - each["overhead_bits"] - each["estimated_bits"]
        for bits, each in zip(coded.bits.tolist(), coded.measured, strict=True)
    ]
    assert abs(sum(rest)) < 0.02 * sum(figures)
    # All have their length; key frames kind, number, checksum and what they are besides.
    overheads = {t: x["overhead_bits"] - STREAM_BITS for t, x in enumerate(coded.measured)}
    assert {overheads[t] for t in range(0, 30, 12)} <= {8 * (6 + 7), 8 * (7 + 7)}
    assert {x for t, x in overheads.items() if t % 12} <= {8 * 1, 8 * 2}


@pytest.fixture(scope="module", params=[TEMPORAL[0], TEMPORAL[2]])
def frozen(request):
    _, codec = make(request.param)
    return codec, freeze_prediction(codec.name, codec.prediction, entropy_of(codec))


def random_state(prediction, rng, shape=(24, 3, 5)):
    tables = prediction.hyperprior.tables
    low, high = (x[:, None, None] for x in (tables.lowest, tables.highest))
    z = rng.integers(low, high, (len(low), 1, 2), endpoint=True)
    before = (rng.normal(0, 5, shape) * 2**12).round().astype(np.float32) / 2**12
    return z, before


def random_latents(prediction, rng, z, before):
    indexes, means = prediction.tables_and_means(z, before)
    y = rng.integers(-3, 4, means.shape, np.int32)
    return Latents(y, z.astype(np.int32), means, Picture(SIZE, SIZE)), indexes


def test_integers_give_what_the_float_network_gives(frozen):
    codec, prediction = frozen
    rng = np.random.default_rng(0)
    z, before = random_state(prediction, rng)
    indexes, means = prediction.tables_and_means(z, before)
    model = codec.prediction.double()
    with torch.no_grad():
        medians = model.entropy_bottleneck.quantiles[:, 0, 1][:, None, None]
        z_hat, seen = (torch.from_numpy(x).double()[None] for x in (z, before))
        scales, expected = model.scales_and_means(z_hat + medians, seen)
        whole = whole_steps(expected, seen[:, :12])
    codec.prediction.float()
    steps = means - before[:12]
    assert np.array_equal(steps, steps.round())
    assert abs(means - expected[0].numpy()).max() < 0.53
    assert (means == whole[0].numpy()).mean() > 0.98
    assert len(np.unique(steps)) > 3
    table = codec.model.gaussian_conditional.scale_table.numpy()
    nearest = abs(np.log(table) - np.log(scales.clamp(min=1e-3).numpy().ravel())[:, None]).argmin(1)
    assert (abs(nearest - indexes.astype(int)) <= 1).all()
    assert (nearest == indexes).mean() > 0.95
    assert len(np.unique(indexes)) > 3


def test_the_arithmetic_is_that_of_whole_numbers(frozen, monkeypatch):
    _, prediction = frozen
    rng = np.random.default_rng(1)
    z, before = random_state(prediction, rng)
    indexes, means = prediction.tables_and_means(z, before)

    def exact(self, x):
        """With Python's integers, tap by tap."""
        for i, layer in enumerate(self.layers):
            x = self._rescale(x) if i else x
            weight = layer.weight.astype(object)
            s, k = layer.upsampling, weight.shape[2]
            h, w = x.shape[1:]
            out = np.zeros((len(weight), s * h + 2 * k, s * w + 2 * k), object)
            padded = np.pad(x.astype(object), ((0, 0), (k // 2,) * 2, (k // 2,) * 2))
            for row, column in np.ndindex(k, k):
                tap = weight[:, :, row, column]
                if s == 1:
                    view = padded[:, row : row + h, column : column + w].reshape(len(x), -1)
                    out[:, :h, :w] += (tap @ view).reshape(-1, h, w)
                else:
                    part = (tap @ x.astype(object).reshape(len(x), -1)).reshape(-1, h, w)
                    out[:, row : row + s * h : s, column : column + s * w : s] += part
            start = 0 if s == 1 else k // 2
            x = out[:, start : start + s * h, start : start + s * w] + layer.bias[:, None, None]
            x = np.where(x < 0, x * layer.slope >> 14, x)
            assert abs(x).max() < EXACT
            x = x.astype(np.int64)
        return x

    monkeypatch.setattr(FixedPointTransform, "__call__", exact)
    again = prediction.tables_and_means(z, before)
    assert np.array_equal(again[0], indexes)
    assert np.array_equal(again[1], means)


def test_streams_are_read_back_and_only_after_their_own_frame(frozen):
    _, prediction = frozen
    rng = np.random.default_rng(2)
    z, before = random_state(prediction, rng)
    sent, indexes = random_latents(prediction, rng, z, before)
    picture = sent.picture
    data = prediction.write(sent, indexes, before)
    latents = prediction.read(data, before, picture)
    assert all(map(np.array_equal, sent[:3], latents[:3]))
    last, earlier = before.copy(), before.copy()
    last[0, 0, 0] += 2**-12
    earlier[-1, 0, 0] += 2**-12
    for wrong in (
        lambda: prediction.read(data, last, picture),
        lambda: prediction.read(data, earlier, picture),
        lambda: prediction.read(data, before, picture, 1),
        lambda: prediction.read(data, before, Picture((48, 79), (48, 79))),
        lambda: prediction.read(data, before, picture._replace(level=1)),
        lambda: prediction.read(data[:-1], before, picture),
        lambda: prediction.read(data + b"\1", before, picture),
    ):
        with pytest.raises(BitstreamError):
            wrong()


def test_the_frozen_prediction_is_made_again_of_its_state(frozen):
    _, prediction = frozen
    arrays, settings = prediction.state()
    again = Prediction.from_state(prediction.pictures, arrays, json.loads(json.dumps(settings)))
    rng = np.random.default_rng(3)
    z, before = random_state(prediction, rng)
    sent, indexes = random_latents(prediction, rng, z, before)
    wanted = prediction.write(sent, indexes, before)
    assert again.write(sent, again.tables_and_means(z, before)[0], before) == wanted


def test_models_that_look_at_one_frame_are_read_and_give_the_other_no_weight(frozen):
    codec, prediction = frozen
    arrays, settings = prediction.state()
    first = arrays["network.0.weight"]
    one = {**arrays, "network.0.weight": np.ascontiguousarray(first[:, :-12])}
    both = {**arrays, "network.0.weight": np.concatenate([first[:, :-12], 0 * first[:, -12:]], 1)}
    earlier, padded = (Prediction.from_state(prediction.pictures, x, settings) for x in (one, both))
    assert (earlier.frames, padded.frames) == (1, 2)
    rng = np.random.default_rng(5)
    z, before = random_state(prediction, rng)
    found, wanted = earlier.tables_and_means(z, before[:12]), padded.tables_and_means(z, before)
    assert all(map(np.array_equal, found, wanted))
    sent, _ = random_latents(earlier, rng, z, before[:12])
    assert np.array_equal(earlier.after(sent, before[:12]), sent.values)
    assert np.array_equal(padded.after(sent, before), [*sent.values, *before[:12]])
    assert np.array_equal(padded.after(sent, None), [*sent.values, *sent.values])
    # Weights, too.
    weights = codec.state_dict()
    key = "prediction.network.0.weight"
    again = make(codec.name)[1]
    again.load_state_dict({**weights, key: weights[key][:, :-12]})
    loaded = again.state_dict()[key]
    assert torch.equal(loaded[:, :-12], weights[key][:, :-12])
    assert not loaded[:, -12:].any()


def test_latents_beyond_the_limit_are_within_the_proof(frozen):
    _, prediction = frozen
    assert max(prediction.partial_sums) < EXACT
    rng = np.random.default_rng(4)
    z, _ = random_state(prediction, rng)
    huge = np.where(rng.random((24, 3, 5)) < 0.5, -3e30, 3e30).astype(np.float32)
    near = np.clip(huge, -LIMIT, LIMIT)
    limited, same = (prediction.tables_and_means(z, x) for x in (huge, near))
    assert np.array_equal(limited[0], same[0])
    assert np.array_equal(limited[1], huge[:12] + (same[1] - near[:12]))


def test_weights_that_no_precision_makes_exact_are_refused():
    _, codec = make(TEMPORAL[0])
    codec.prediction.network[0].weight.data *= 1e5
    codec.prediction.network[2].weight.data *= 1e5
    with pytest.raises(WeightsError, match="in the prediction of frames, no precision"):
        freeze_prediction(codec.name, codec.prediction, entropy_of(codec))


@pytest.mark.slow
def test_streams_decode_in_processes_that_compute_differently(tmp_path):
    """Every setting reads what every other wrote, frame after frame, from its own decoded state."""
    from checks.exactness import Setting
    from checks.exactness_of_sequences import measure_sequences

    codec = with_gains(make(TEMPORAL[2], key_interval=6, levels=3, gated=True)[1])
    settings = [
        Setting(),
        Setting(threads=2, channels_last=False, onednn=False, instructions="sse"),
    ]
    frames = np.stack([(255 * p).byte().permute(1, 2, 0).numpy() for p in clip(8)])
    result = measure_sequences(tmp_path, codec, frames, settings)
    assert result == {"cases": 2 * 2 * 8, "mismatches": 0}


# ---- Configs ----


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        ((), "INPUT.CLIP_LENGTH is 1, but bmshj2018-hyperprior-temporal learns from clips"),
        (("INPUT.CLIP_LENGTH", 4), "no more than MODEL.CODEC.KEY_INTERVAL, which is 1"),
        (
            (
                *("MODEL.CODEC.NAME", "ssf2020", "MODEL.CODEC.N", 0, "MODEL.CODEC.M", 0),
                *("MODEL.CODEC.LEVELS", 2, "INPUT.CLIP_LENGTH", 2, "MODEL.CODEC.KEY_INTERVAL", 4),
            ),
            "is 2, but ssf2020 has no latents that gains could scale: set it to 1",
        ),
        (
            ("MODEL.CODEC.NAME", "mbt2018-mean", "MODEL.CODEC.TRAINABLE", "['prediction']"),
            "names 'prediction', but mbt2018-mean predicts no frames",
        ),
        (
            ("MODEL.CODEC.NAME", "mbt2018-mean", "INPUT.BURN_IN", 3),
            "BURN_IN is 3 frames, but mbt2018-mean learns from no predicted frames: set it to 0",
        ),
        (
            (
                *("INPUT.BURN_IN", 3, "INPUT.CLIP_LENGTH", 2),
                *("MODEL.CODEC.KEY_INTERVAL", 4),
            ),
            "is 3 and INPUT.CLIP_LENGTH 2: .* no more than MODEL.CODEC.KEY_INTERVAL, which is 4",
        ),
    ],
)
def test_config_refuses_what_cannot_predict_frames(tiny_cfg, opts, said):
    codec = ("MODEL.CODEC.NAME", TEMPORAL[0], "MODEL.CODEC.TRAINABLE", "['encoder', 'decoder']")
    with pytest.raises(ConfigError, match=said):
        check_config(tiny_cfg(*codec, "MODEL.CODEC.WEIGHTS", "", *opts))
    good = ("INPUT.CLIP_LENGTH", 2, "MODEL.CODEC.KEY_INTERVAL", 4)
    check_config(tiny_cfg(*codec, "MODEL.CODEC.WEIGHTS", "", *good))
