"""The report's parts, and tools/report.py as called from a shell; tests/test_report_page.py has
what a browser makes of its page."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from codec_det.config import load_config
from codec_det.data.shapes import generate
from codec_det.evaluation.metrics import metric_of
from codec_det.rate_accuracy.bjontegaard_deltas import MIN_POINTS
from codec_det.rate_accuracy.curves import curves_of
from codec_det.rate_accuracy.records import read_results
from codec_det.regimes import REGIMES
from codec_det.report.gallery import Gallery, data_uri
from codec_det.report.headline import facts, headline
from codec_det.report.matrices import bd_tables
from codec_det.report.page import render_page
from codec_det.report.points import point_entries, series_entries, table_rows
from codec_det.report.reproduction import environment, run_entries
from codec_det.report.training import (
    MAX_POINTS,
    read_metrics,
    training_lines,
    training_runs,
    training_section,
)
from codec_det.report.wording import DASH, MINUS
from codec_det.training.checkpoint import ChainCheckpointer
from codec_det.training.trainer import load_chain
from tests.report_study import make_gallery, make_record, write_run, write_study
from tools import report as tool

METRICS = ["AP", "AP50", "PSNR"]
SHOWN = ["AP", "AP50", "bpp", "PSNR"]


def read(root):
    results = read_results([root])
    return results, curves_of(results)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("report") / "study", ("baseline", "T-FT", "J-FT"))


# What the figures are made into


def two_runs(root, aps=(40.0, 42.0), **more):
    for seed, ap in enumerate(aps, start=1):
        write_run(root / f"j-{seed}", make_record("J-FT", 0.1 * seed, seed, ap, 20.0, **more))
    return read(root)


def test_points_have_mean_range_and_the_runs_behind_them(tmp_path):
    _, curves = two_runs(tmp_path, target_bpp=0.084)
    (point,) = point_entries(curves, tmp_path, SHOWN)
    assert point["figures"]["AP"] == {"mean": 41.0, "low": 40.0, "high": 42.0}
    assert point["figures"]["bpp"] == {"mean": 0.15, "low": 0.1, "high": 0.2}
    assert point["runs"] == ["j-1", "j-2"]
    details = dict(point["details"])
    assert details["seed: box AP"] == "1: 40.0; 2: 42.0"
    assert details["target"] == "0.084 bpp"
    assert details["iteration"] == "150"
    assert details["rate"] == "real bits"
    assert re.fullmatch(r"[0-9a-f]{12}, [0-9a-f]{12}", details["weights"])


def test_a_regime_that_cannot_change_the_rate_has_no_beta_or_target(tmp_path):
    write_run(tmp_path / "t", make_record("T-FT", 0.1, 1, 30.0, 20.0, beta=4.0))
    _, curves = read(tmp_path)
    (point,) = point_entries(curves, tmp_path, SHOWN)
    assert {"β", "target"}.isdisjoint(dict(point["details"]))


def test_uncompressed_pictures_are_a_level_without_psnr(study):
    _, curves = read(study)
    series = series_entries(curves)
    assert [s["level"] for s in series] == [True, False, False, False]
    level = point_entries(curves, study, SHOWN)[series[0]["points"][0]]
    assert level["figures"]["PSNR"] == {"mean": None, "low": None, "high": None}
    assert level["figures"]["AP"]["mean"] == 55.3
    # Every point is in one series, under its own key.
    assert [key for s in series for key in s["points"]] == list(range(13))


def test_codecs_differ_by_line_and_marker_and_regimes_by_colour(tmp_path):
    for name in ("bmshj2018-hyperprior", "jpeg"):
        for regime in ("baseline", "T-FT"):
            record = make_record(regime, 0.1, 1, 40.0, 20.0, codec={"name": name, "quality": 1})
            write_run(tmp_path / f"{regime}-{name}", record)
    series = {entry["name"]: entry for entry in series_entries(read(tmp_path)[1])}
    learned, jpeg = series["T-FT, bmshj2018-hyperprior"], series["T-FT, jpeg"]
    assert (learned["symbol"], learned["dash"]) == ("square", "solid")
    assert (jpeg["symbol"], jpeg["dash"]) == ("square-open", "dot")
    assert learned["colour"] == jpeg["colour"] != series["baseline, jpeg"]["colour"]


def test_every_regime_is_told_from_the_others(tmp_path):
    for regime in REGIMES:
        write_run(tmp_path / regime.name, make_record(regime.name, 0.1, 0, 30.0, 20.0))
    entries = series_entries(read(tmp_path)[1])
    styles = {(entry["colour"], entry["symbol"]) for entry in entries}
    assert len(styles) == len(entries) == len(REGIMES)


def test_table_rows_sort_by_exact_values_and_show_ranges(tmp_path):
    _, curves = two_runs(tmp_path)
    (row,) = table_rows(curves, SHOWN)
    assert row["seeds"] == "1, 2"
    ap = row["figures"][0]
    assert (ap["value"], ap["mean"], ap["spread"]) == ("41.0", "41.0", f"40.0{DASH}42.0")


def test_the_headline_holds_the_best_regime_against_tft(study):
    results, curves = read(study)
    t_ft, j_ft = (next(c for c in curves if c.regime == name) for name in ("T-FT", "J-FT"))
    gain = j_ft.points[0].mean("AP") - t_ft.points[0].mean("AP")
    assert headline(curves, "AP").startswith("At the lowest rate, J-FT has a box AP of ")
    assert f": {gain:.1f} more than T-FT, with " in headline(curves, "AP")
    assert headline(curves, "AP").endswith("Uncompressed pictures give 55.3.")
    assert dict(facts(results, curves))["Seeds"] == 3


def test_the_headline_names_the_codec_where_there_are_several(study, tmp_path):
    record = make_record("baseline", 0.01, 0, 54.0, 20.0)
    record["codec"] = {"name": "jpeg", "quality": 2}
    write_run(tmp_path / "jpeg", record)
    curves = curves_of(read_results([study, tmp_path]))
    # JPEG's accuracy at JPEG's lowest rate is not held against the learned codec's at its own.
    assert headline(curves, "AP").startswith(
        "At the lowest rate of bmshj2018-hyperprior, J-FT has "
    )


def test_a_headline_of_uncompressed_pictures_alone(tmp_path):
    write_study(tmp_path, regimes=())
    _, curves = read(tmp_path)
    assert headline(curves, "AP") == "Uncompressed pictures give a box AP of 55.3."


def test_bd_tables_have_signs_tones_and_reasons(study):
    _, curves = read(study)
    (rate, ap), reasons = bd_tables(curves, metric_of("AP"))
    assert rate["names"] == ["baseline", "T-FT", "J-FT"]
    against_baseline = rate["rows"][0]["cells"][1]
    assert against_baseline["text"].startswith(MINUS)
    assert against_baseline["tone"] == "better"
    gained = ap["rows"][0]["cells"][1]
    assert gained["text"].startswith("+")
    assert gained["tone"] == "better"
    assert ap["rows"][1]["cells"][0]["tone"] == "worse"
    assert rate["rows"][0]["cells"][0]["tone"] == "self"
    refused = [cell for row in rate["rows"] for cell in row["cells"] if cell["tone"] == "refused"]
    assert all(1 <= cell["reason"] <= len(reasons) for cell in refused)


def test_too_few_points_are_explained_once(tmp_path):
    write_study(tmp_path, ("baseline", "T-FT"), rates=(0.1, 0.2), seeds=(1,))
    _, curves = read(tmp_path)
    (rate, _), reasons = bd_tables(curves, metric_of("AP"))
    assert rate["rows"][0]["cells"][1] == {"text": "n/a", "tone": "refused", "reason": 1}
    assert reasons == [f"the anchor has 2 of the {MIN_POINTS} points that are needed: add rates"]


def test_training_lines_are_thinned_and_leave_evaluations_out(tmp_path):
    path = tmp_path / "metrics.json"
    lines = [
        {"iteration": i, "total_loss": i / 3, "beta": math.nan, "rate/bpp": 1.0}
        for i in range(0, 2000, 2)
    ]
    path.write_text("\n".join(json.dumps(x) for x in [*lines, {"iteration": 2000, "bbox/AP": 3}]))
    shown = training_lines(read_metrics(path))
    assert len(shown["iteration"]) == MAX_POINTS
    assert (shown["iteration"][0], shown["iteration"][-1]) == (0, 1998)
    assert shown["values"]["total_loss"][-1] == 666.0
    assert set(shown["values"]) == {"total_loss"}


def test_a_resumed_run_counts_once_and_cut_lines_are_passed_over(tmp_path):
    path = tmp_path / "metrics.json"
    lines = ['{"iteration": 1, "total_loss": 9}', '{"iteration": 1, "total_loss": 5}', '{"iter']
    path.write_text("\n".join(lines))
    shown = training_lines(read_metrics(path))
    assert shown == {"iteration": [1], "values": {"total_loss": [5.0]}}


def test_training_panels_and_operating_points(study):
    _, curves = read(study)
    runs = training_runs(curves, study)
    assert len(runs) == 24
    section = training_section(runs, curves)
    assert [panel["title"] for panel in section["panels"]] == [
        *("total loss", "bits per pixel", "β", "PSNR (dB)", "loss rate")
    ]
    assert [rank for rank, _ in section["operating_points"]] == ["1", "2", "3", "4"]
    assert section["operating_points"][0][1].startswith("1 (lowest rate): 0.09")


def test_a_detector_trained_on_uncompressed_pictures_is_at_no_rate(tmp_path):
    record = make_record("T-FT", 24.0, 1, 56.0, None, codec={"name": "identity"})
    write_run(tmp_path / "detector", record, metrics=[{"iteration": 1, "total_loss": 2.0}])
    _, curves = read(tmp_path)
    runs = training_runs(curves, tmp_path)
    assert training_section(runs, curves)["operating_points"] == [("0", "uncompressed")]


def test_reproduction_has_every_config_and_command(tmp_path):
    two_runs(tmp_path)
    write_run(tmp_path / "of $HOME", make_record("baseline", 0.1, 0, 30.0, 20.0))
    results, _ = read(tmp_path)
    entries = run_entries(results, tmp_path)
    assert [entry["name"] for entry in entries] == ["j-1", "j-2", "of $HOME"]
    assert entries[0]["command"] == (
        "tools/train_net.py --config-file j-1.yaml OUTPUT_DIR output/again/j-1"
    )
    # A shell must take none of a name for anything else.
    assert entries[2]["command"] == (
        "tools/train_net.py --config-file of_HOME.yaml --eval-only OUTPUT_DIR output/again/of_HOME"
    )
    assert entries[0]["config"] == "SEED: 1\nOUTPUT_DIR: j-1\n"


def test_versions_that_differ_say_how_many_runs_had_each(tmp_path):
    two_runs(tmp_path)
    other = make_record("T-FT", 0.1, 1, 30.0, 20.0, versions={"torch": "2.15.0"})
    write_run(tmp_path / "t", other)
    found = dict(environment(read(tmp_path)[0]))
    assert found["torch"] == "2.14.1 (2 runs), 2.15.0 (1 runs)"
    assert found["device"] == "x86_64 CPU, 1 threads"


def test_small_pictures_are_kept_exact_and_large_ones_reduced():
    def decode(uri):
        return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))

    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    assert np.array_equal(np.array(decode(data_uri(noise)).convert("RGB")), noise)
    assert decode(data_uri(np.zeros((100, 2000, 3), np.uint8))).size == (640, 32)


# The page


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self._inside = [], "", ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text += data


def test_the_page_loads_nothing(study):
    results, curves = read(study)
    page = Page(render_page(study, results, curves, make_gallery(), ["beware"], METRICS))
    for tag, attributes in page.tags:
        assert not re.match(r"(https?:)?//", attributes.get("src") or ""), tag
        if tag != "a":
            assert not re.match(r"(https?:)?//", attributes.get("href") or ""), tag
    policy = next(a["content"] for t, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none';")
    assert "beware" in page.text
    assert "A note on <runs>." in page.text


def test_names_and_configs_are_shown_as_text(tmp_path):
    evil = "<script>document.title='x'<&\""
    folder = write_run(tmp_path / evil, make_record("J-FT", 0.1, 1, 40.0, 20.0, device=evil))
    (folder / "config.yaml").write_text("</pre></script><script>alert(1)</script>")
    record = make_record(f"T-FT {evil}", 0.2, 1, 40.0, 20.0)
    write_run(tmp_path / "other", {**record, "dataset": "shapes_val"})
    results, curves = read(tmp_path)
    html = render_page(tmp_path, results, curves, Gallery(), [evil], METRICS)
    own = ("page.js", "curves.js", "pictures.js", "training.js", "print.js")
    assert sum(tag == "script" for tag, _ in Page(html).tags) == 2 + len(own)
    assert "alert(1)" in Page(html).text
    assert Page(html).text.count(evil) >= 4
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert set(json.loads(data[1])["records"]) == {evil, "other"}


def test_without_training_or_pictures_the_page_says_so(tmp_path):
    write_study(tmp_path, ("baseline",))
    results, curves = read(tmp_path)
    text = Page(
        render_page(tmp_path, results, curves, Gallery(notes=["None made."]), [], METRICS)
    ).text
    assert "No run here has logged any training." in text
    assert "None made." in text


# The tool


def test_it_writes_the_page_beside_the_results(tmp_path, capsys):
    root = write_study(tmp_path, ("baseline", "J-FT"), rates=(0.1,), seeds=(1,))
    cut = root / "baseline-rate_1-seed_0" / "results.jsonl"
    cut.write_text(cut.read_text() + '{"time": "2026')
    assert tool.main([str(root), "--pictures", "0"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{root / 'report.html'} (")
    assert "line 2 is no record" in err
    page = (root / "report.html").read_text()
    assert "line 2 is no record" in Page(page).text
    assert "--pictures 0" in Page(page).text


def test_runs_that_cannot_be_shown_are_named(tmp_path, capsys):
    root = write_study(tmp_path, ("J-FT",), rates=(0.1,), seeds=(1,))
    output = tmp_path / "elsewhere" / "page.html"
    assert tool.main([str(root), "--pictures", "1", "--output", str(output)]) == 0
    named = re.search(r"Without J-FT: .*j-ft-rate_1-seed_1.*", Page(output.read_text()).text)
    assert named[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "coco_2017_val"}, "different data sets"),
    ],
)
def test_results_that_do_not_compare_are_refused(tmp_path, capsys, change, message):
    write_run(tmp_path / "a", make_record("T-FT", 0.1, 1, 30.0, 20.0))
    write_run(tmp_path / "b", make_record("J-FT", 0.1, 1, 30.0, 20.0, **change))
    assert tool.main([str(tmp_path), "--pictures", "0"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_estimated_and_real_bits_are_on_one_page(tmp_path):
    write_run(tmp_path / "a", make_record("T-FT", 0.1, 1, 30.0, 20.0))
    estimated = make_record("J-FT", 0.1, 1, 30.0, 20.0, rate_is="estimated bits per pixel")
    write_run(tmp_path / "b", estimated)
    assert tool.main([str(tmp_path), "--pictures", "0"]) == 0
    data = data_of(tmp_path)
    assert [one["name"] for one in data["series"]] == ["T-FT", "J-FT, estimated"]
    assert data["series"][0]["dash"] != data["series"][1]["dash"]
    assert data["rateIs"] == "bits per pixel, real unless marked as estimated"


def test_sequences_are_on_the_page_over_kbps(tmp_path):
    record = make_record("T-FT", 0.1, 1, 30.0, 20.0)
    record["results"]["rate"]["kbps"] = 41.25
    write_run(tmp_path / "a", record)
    assert tool.main([str(tmp_path), "--pictures", "0"]) == 0
    data = data_of(tmp_path)
    assert (data["rate"], data["rateIs"]) == ("kbps", "kbit/s, real bits")
    assert data["points"][0]["figures"]["kbps"]["mean"] == 41.25
    assert "at 41.2 kbps" in Page((tmp_path / "report.html").read_text()).text
    assert tool.main([str(tmp_path), "--pictures", "0", "--rate", "bpp"]) == 0
    assert data_of(tmp_path)["rate"] == "bpp"


def test_metrics_of_the_page_are_chosen(tmp_path, capsys):
    record = make_record("T-FT", 0.1, 1, 30.0, 20.0)
    record["results"]["segm"] = {"AP": 21.5, "AP-<i>": 7.0}
    write_run(tmp_path / "a", record)
    assert tool.main([str(tmp_path), "--pictures", "0", "--metrics", "mask_AP-<i>", "PSNR"]) == 0
    page = Page((tmp_path / "report.html").read_text())
    assert "T-FT has a mask AP of <i> of 7.0 at" in page.text
    assert ("input", "mask_AP-<i>") in [(tag, one.get("value")) for tag, one in page.tags]
    data = data_of(tmp_path)
    assert list(data["metrics"]) == ["mask_AP-<i>", "PSNR", "bpp"]
    assert data["points"][0]["figures"]["mask_AP-<i>"]["mean"] == 7.0
    assert tool.main([str(tmp_path), "--metrics", "PQ"]) == 2
    assert "--metrics 'PQ': no result has it" in capsys.readouterr().err


def test_a_codec_alone_has_a_page(tmp_path):
    for i, psnr in enumerate((20.0, 22.0), start=1):
        record = make_record("C-FT", 0.1 * i, 1, 0.0, psnr, detector="NoDetector")
        del record["results"]["bbox"]
        record["config"]["MODEL.CODEC.WEIGHTS"] = f"{i}.pth"
        write_run(tmp_path / str(i), record)
    assert tool.main([str(tmp_path), "--pictures", "0"]) == 0
    text = Page((tmp_path / "report.html").read_text()).text
    assert "At the lowest rate, codec trained alone has a PSNR of 20.00 at 0.100 bpp." in text


def test_one_of_several_data_sets_can_be_chosen(tmp_path):
    write_run(tmp_path / "a", make_record("T-FT", 0.1, 1, 30.0, 20.0))
    write_run(tmp_path / "b", make_record("J-FT", 0.1, 1, 31.0, 20.0, dataset="other_val"))
    assert tool.main([str(tmp_path), "--pictures", "0", "--dataset", "other_val"]) == 0
    assert "J-FT has a box AP of 31.0" in Page((tmp_path / "report.html").read_text()).text


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    assert tool.main([str(tmp_path)]) == 2
    assert f"no results in '{tmp_path}'" in capsys.readouterr().err
    assert tool.main([str(tmp_path / "absent")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused_before_work(tmp_path, capsys):
    root = write_study(tmp_path / "study", ("baseline",))
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "page.html"
    assert tool.main([str(root), "--output", str(output)]) == 2
    assert "--output" in capsys.readouterr().err


@pytest.fixture
def real_runs(tmp_path, tiny_cfg):
    """A folder of two runs of a tiny chain, one of them trained, on four generated pictures."""
    # Registered for the whole process, so no two tests may use the same name.
    name = f"report_{tmp_path.name}"
    json_file = generate(tmp_path / "set", 4, (64, 64), progress=False)
    own = ("MODEL.ROI_HEADS.NUM_CLASSES", 6, "DATASETS.TEST", (name,))
    own += ("DATASETS.COCO_FORMAT", [[name, str(json_file), str(tmp_path / "set/images")]])
    trainable = ("MODEL.CODEC.TRAINABLE", ["encoder", "decoder"], "MODEL.DETECTOR.TRAINABLE", True)
    for folder, regime, opts in (("base", "baseline", ()), ("jft", "J-FT", trainable)):
        root = tmp_path / "runs" / folder
        write_run(root, make_record(regime, 0.1, 0, 30.0, 20.0, dataset=name))
        cfg = tiny_cfg("OUTPUT_DIR", str(root), *own, *opts)
        (root / "config.yaml").write_text(cfg.dump())
    ChainCheckpointer(load_chain(cfg), cfg.OUTPUT_DIR).save("model_final")
    yield tmp_path / "runs"
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def data_of(root):
    html = (root / "report.html").read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(data[1])


def test_pictures_of_real_runs(real_runs):
    assert tool.main([str(real_runs), "--pictures", "2"]) == 0
    pictures = data_of(real_runs)["pictures"]
    assert [(p["width"], p["height"]) for p in pictures] == [(64, 64), (64, 64)]
    layers = {"original", "picture0", "picture1", "bits0", "bits1"}
    assert all(set(picture["layers"]) == layers for picture in pictures)
    assert re.fullmatch(
        rf"\d\.\d{{3}}\xa0bpp · \d+\.\d\xa0dB · AP\xa0(\d+\.\d|{DASH})",
        pictures[0]["layers"]["picture1"]["caption"],
    )


def test_pictures_of_a_run_in_latents_are_those_that_its_files_decode_to(real_runs):
    root = real_runs / "ljft"
    record = make_record("LJ-FT", 0.1, 0, 30.0, None, dataset=f"report_{real_runs.parent.name}")
    write_run(root, record)
    trained = str(real_runs / "jft" / "config.yaml")
    opts = ["OUTPUT_DIR", str(root), "MODEL.CODEC.DECODED", "latents", "MODEL.BRIDGE.WIDTH", "8"]
    cfg = load_config(trained, opts)
    (root / "config.yaml").write_text(cfg.dump())
    ChainCheckpointer(load_chain(cfg), cfg.OUTPUT_DIR).save("model_final")
    assert tool.main([str(real_runs), "--pictures", "1"]) == 0
    data = data_of(real_runs)
    (picture,) = data["pictures"]
    assert {"picture0", "picture1", "picture2", "bits2"} <= set(picture["layers"])
    captions = [layer["caption"] for name, layer in picture["layers"].items() if "picture" in name]
    assert all(re.search(r"\d\.\d{3}\xa0bpp · \d+\.\d\xa0dB", caption) for caption in captions)
    assert "LJ-FT" in Page((real_runs / "report.html").read_text()).text


def test_a_missing_picture_is_named_and_the_rest_is_written(real_runs, capsys):
    missing = sorted((real_runs.parent / "set" / "images").iterdir())[0]
    missing.unlink()
    assert tool.main([str(real_runs)]) == 0
    assert missing.name in capsys.readouterr().err
    assert data_of(real_runs)["pictures"] == []
    assert missing.name in Page((real_runs / "report.html").read_text()).text


def test_disagreement_needs_saved_detections(real_runs, capsys):
    assert tool.main([str(real_runs), "--pictures", "1", "--by-disagreement"]) == 0
    assert "No pictures: " in capsys.readouterr().err


def test_help_names_what_it_writes(capsys):
    with pytest.raises(SystemExit) as exit_:
        tool.main(["--help"])
    assert exit_.value.code == 0
    assert "default: RESULTS_DIR/report.html" in capsys.readouterr().out
