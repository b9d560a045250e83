import csv
import io
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from codec_det.evaluation.places import aps_by_place
from codec_det.levels import inference_folder
from codec_det.rate_accuracy.bootstrap import interval, resample
from codec_det.rate_accuracy.curves import curves_of
from codec_det.rate_accuracy.records import over_rate, read_results, without_overhead
from codec_det.rate_accuracy.weighted_ap import load_truth, match
from tests.records import record, write_data, write_run

NAME, COUNT, METRICS = "tiny", 40, ("AP", "AP50", "PSNR")
RATES, KEPT = (0.1, 0.2, 0.4, 0.8), (0.3, 0.5, 0.7, 0.9)


@pytest.fixture
def make_run(tmp_path, tiny_cfg, tiny_set):
    """A run whose detector finds a share of the objects, with the bits it took; its folder."""
    cfg = tiny_cfg(*tiny_set)
    ((_, annotations, _),) = cfg.DATASETS.COCO_FORMAT
    with redirect_stdout(io.StringIO()):
        truth = COCO(annotations)

    def make(name, *, bpp, kept, factor=1.0, regime="J-FT", quality=1):
        rng = np.random.default_rng(3)
        found = [
            {**{key: one[key] for key in ("image_id", "category_id", "bbox")}, "score": score}
            for one, score in zip(
                truth.dataset["annotations"], rng.random(len(truth.anns)), strict=True
            )
            if score < kept
        ]
        rows = [
            {
                "image_id": image,
                "height": 64,
                "width": 64,
                "bits": round(64 * 64 * bpp * rng.uniform(0.5, 1.5)) * factor,
                "overhead_bits": 100.0,
                "psnr": rng.uniform(20, 30),
            }
            for image in sorted(truth.imgs)
        ]
        with redirect_stdout(io.StringIO()):
            evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        bits = sum(row["bits"] for row in rows) / (64 * 64 * len(rows))
        written = record(regime, bits, 100 * evaluation.stats[0], quality=quality, dataset=NAME)
        written["results"]["rate"]["bpp_overhead"] = 100 / (64 * 64)
        folder = write_run(tmp_path / "runs" / name, written)
        (folder / "config.yaml").write_text(cfg.dump())
        place = folder / "inference" / NAME
        place.mkdir(parents=True)
        (place / "coco_instances_results.json").write_text(json.dumps(found))
        with (place / "per_image.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return folder

    return make


def test_figures_are_of_the_drawn_pictures(make_run):
    folder = make_run("a", bpp=0.2, kept=0.6)
    (result,) = read_results([folder])
    resamples = resample([result], COUNT, METRICS)
    assert resamples.missing == ()
    figures = resamples.figures[folder, None]
    with (folder / "inference" / NAME / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    weights = np.random.default_rng(0).multinomial(12, [1 / 12] * 12, size=COUNT)
    for i in (0, COUNT - 1):
        drawn = [row for row, times in zip(rows, weights[i], strict=True) for _ in range(times)]
        bits = sum(float(row["bits"]) for row in drawn)
        assert figures["bpp"][i] == pytest.approx(bits / (12 * 64 * 64))
        assert figures["PSNR"][i] == pytest.approx(np.mean([float(row["psnr"]) for row in drawn]))
    assert figures["AP"].std() > 1
    assert (figures["AP"] <= figures["AP50"] + 1e-9).all()
    ends = interval(figures["AP"])
    assert ends.low < result.figure("AP") < ends.high


def test_frames_are_drawn_with_their_sequence(make_run):
    folder = make_run("a", bpp=0.2, kept=0.6)
    path = folder / "inference" / NAME / "per_image.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    # Sequences 10, 9 and 8, of 6, 4 and 2 frames.
    videos = [10] * 6 + [9] * 4 + [8] * 2
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "video_id"])
        writer.writeheader()
        writer.writerows({**r, "video_id": v} for r, v in zip(rows, videos, strict=True))
    figures = resample(read_results([folder]), COUNT, METRICS).figures[folder, None]
    bits = np.array([float(row["bits"]) for row in rows])
    of_sequence = [bits[np.array(videos) == v].sum() for v in (8, 9, 10)]
    possible = [
        (draws @ of_sequence) / (draws @ [2, 4, 6]) / 64**2
        for draws in np.array([(i, j, 3 - i - j) for i in range(4) for j in range(4 - i)])
    ]
    assert np.abs(figures["bpp"][:, None] - possible).min(axis=1).max() < 1e-12
    assert len(np.unique(figures["bpp"].round(12))) > 4


def test_kbps_are_resampled_over_the_time_of_the_drawn_frames(make_run):
    folder = make_run("a", bpp=0.2, kept=0.6)
    path = folder / "inference" / NAME / "per_image.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    fps = [10] * 6 + [30] * 6
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "fps"])
        writer.writeheader()
        writer.writerows({**r, "fps": v} for r, v in zip(rows, fps, strict=True))
    bits = np.array([float(row["bits"]) for row in rows])
    (result,) = read_results([folder])
    rate = {**result.record["results"]["rate"], "kbps": bits.sum() / 0.8 / 1000}
    record = {**result.record, "results": {**result.record["results"], "rate": rate}}
    resamples = resample(over_rate([replace(result, record=record)]), COUNT, METRICS)
    assert resamples.missing == ()
    drawn = np.random.default_rng(0).multinomial(12, [1 / 12] * 12, size=COUNT)
    expected = drawn @ bits / (drawn @ (1 / np.array(fps))) / 1000
    assert resamples.figures[folder, None]["kbps"] == pytest.approx(expected)


def test_net_rates_are_resampled_without_the_overhead(make_run):
    folder = make_run("a", bpp=0.2, kept=0.6)
    results = read_results([folder])
    whole, net = (resample(r, COUNT, METRICS) for r in (results, without_overhead(results)))
    assert net.missing == ()
    difference = whole.figures[folder, None]["bpp"] - net.figures[folder, None]["bpp"]
    assert difference == pytest.approx(100 / (64 * 64))


def test_each_level_of_a_run_has_figures_of_its_own(make_run):
    runs = [
        make_run(name, bpp=bpp, kept=kept)
        for name, bpp, kept in zip("ab", RATES[:2], KEPT[:2], strict=True)
    ]
    both, alone = make_run("both", bpp=0.1, kept=0.5), [r.figures for r in map(resampled, runs)]
    lines = []
    for level, run in enumerate(runs):
        written = json.loads((run / "results.jsonl").read_text())
        lines.append({**written, "config": {}, "level": float(level)})
        shutil.copytree(run / "inference" / NAME, inference_folder(both, NAME, float(level)))
    (both / "results.jsonl").write_text("\n".join(map(json.dumps, lines)))
    together = resampled(both)
    assert together.missing == ()
    for level, (run, figures) in enumerate(zip(runs, alone, strict=True)):
        for metric in ("AP", "bpp"):
            own = together.figures[both, level][metric]
            assert np.array_equal(own, figures[run, None][metric])


def resampled(folder):
    return resample(read_results([folder]), COUNT, METRICS)


def test_pictures_without_loss_leave_the_resampled_psnr_finite(make_run):
    folder = make_run("a", bpp=0.2, kept=0.6)
    path = folder / "inference" / NAME / "per_image.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    rows[0]["psnr"] = "inf"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (result,) = read_results([folder])
    result.record["results"]["rate"] |= {"psnr_of_mse": 25.0, "lossless": 1}
    resamples = resample([result], COUNT, ["PSNR", "PSNR_MSE", "AP-a cat", "mIoU"])
    assert resamples.missing == ("no file has mIoU by picture",)
    weights = np.random.default_rng(0).multinomial(12, [1 / 12] * 12, size=COUNT)[0]
    drawn = [float(row["psnr"]) for row, n in zip(rows, weights, strict=True) for _ in range(n)]
    known = [psnr for psnr in drawn if psnr < np.inf]
    figures = resamples.figures[folder, None]
    assert figures["PSNR"][0] == pytest.approx(np.mean(known))
    mse = np.mean([10 ** (-psnr / 10) for psnr in drawn])
    assert figures["PSNR_MSE"][0] == pytest.approx(-10 * np.log10(mse))


def test_resamples_are_the_same_for_all_runs(make_run, tmp_path):
    """What a run spends less on each picture, it saves in every resample."""
    for i, (bpp, kept) in enumerate(zip(RATES, KEPT, strict=True), start=1):
        make_run(f"baseline-{i}", bpp=bpp, kept=kept, quality=i, regime="baseline")
        make_run(f"jft-{i}", bpp=bpp, kept=kept, quality=i, factor=0.8)
    results = read_results([tmp_path / "runs"])
    anchor, curve = curves_of(results)
    resamples = resample(results, COUNT, METRICS)
    rate, quality = resamples.of_bd(anchor, curve, "AP")
    known = rate[np.isfinite(rate)]
    assert len(known) > COUNT / 2
    assert known == pytest.approx(-20.0, abs=1e-6)
    assert quality.std() > 0
    assert interval(quality).low > 0


def test_the_mean_over_seeds_is_resampled(make_run):
    folders = [make_run(name, bpp=0.2, kept=kept) for name, kept in (("a", 0.3), ("b", 0.9))]
    results = read_results(folders)
    ((point,),) = (curve.points for curve in curves_of(results))
    resamples = resample(results, COUNT, METRICS)
    each = [resamples.figures[folder, None]["AP"] for folder in folders]
    assert resamples.of_point(point, "AP") == pytest.approx((each[0] + each[1]) / 2)


def test_runs_without_fitting_files_are_left_out_with_the_reason(make_run, tmp_path):
    runs = (("whole", 0.6), ("gone", 0.7), ("stale", 0.8))
    whole, gone, stale = (make_run(name, bpp=0.2, kept=kept) for name, kept in runs)
    (gone / "inference" / NAME / "coco_instances_results.json").unlink()
    other = make_run("other", bpp=0.2, kept=0.9)
    shutil.copytree(other / "inference", stale / "inference", dirs_exist_ok=True)
    data = write_data(tmp_path / "data.jsonl", record(ap=1.0, dataset=NAME))
    results = read_results([data, gone, stale])
    resamples = resample([*results, *read_results([whole])], COUNT, METRICS)
    assert list(resamples.figures) == [(whole, None)]
    missing = "\n".join(resamples.missing)
    assert "records of data files have no detections (1 run(s): runs/J-FT-0.1-0)" in missing
    file = f"inference/{NAME}/coco_instances_results.json"
    assert f"{file} is missing (1 run(s): {gone})" in missing
    assert f"not of the newest record (1 run(s): {stale})" in missing
    ((point,), *_) = (curve.points for curve in curves_of(results[:1]))
    assert np.isnan(resamples.of_point(point, "AP")).all()


def test_an_interval_holds_95_percent():
    ends = interval(np.arange(1001.0))
    assert (ends.low, ends.high, ends.used, ends.count) == (25, 975, 1001, 1001)


def test_there_is_no_interval_where_many_resamples_have_no_figure():
    samples = np.arange(100.0)
    samples[:10] = np.nan
    assert interval(samples).low > 9
    samples[:11] = np.nan
    assert np.isnan(interval(samples).low)
    assert interval(samples).used == 89
    assert np.isnan(interval(np.full(5, np.nan)).high)


def test_ap_near_sides_is_that_of_the_evaluation(make_run):
    folder = make_run("a", bpp=0.2, kept=0.6)
    place = folder / "inference" / NAME / "coco_instances_results.json"
    truth = load_truth(MetadataCatalog.get(NAME).json_file)
    expected = aps_by_place(truth, json.loads(place.read_text()))
    for place_name, key in (("side", "APside"), ("inside", "APinside")):
        matches = match(truth, place, area=place_name)
        ours = matches.aps(np.ones(len(matches.image_ids), dtype=np.int64))
        assert ours["AP"] == pytest.approx(expected[key], abs=0.01)
    assert expected["APside"] != expected["APinside"]
