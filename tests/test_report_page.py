"""The report's page in a real browser: what is drawn, how it reacts, and that it loads nothing.

The browser is the system's; playwright's own are not needed.
"""

import json
import os
import re
import shutil

import pytest

from codec_det.rate_accuracy.bjontegaard_deltas import MIN_POINTS
from codec_det.rate_accuracy.curves import curves_of
from codec_det.rate_accuracy.records import read_results
from codec_det.report.page import render_page, write_page
from tests.report_study import make_gallery, make_record, write_run, write_study

LAPTOP, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}
REGIMES = ("baseline", "T-FT", "J-FT")


def find_browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CODEC_DET_BROWSER") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page of three regimes, an evil one that has too few points for BD-rates."""
    root = write_study(tmp_path_factory.mktemp("page") / "study", REGIMES)
    evil = make_record("<script>bad()<", 0.3, 1, 40.0, 20.0)
    write_run(root / "<img src=x onerror=bad()>", evil)
    results = read_results([root])
    path = root / "page #1.html"
    write_page(
        render_page(
            root, results, curves_of(results), make_gallery(), ["<b>!"], ["AP", "AP50", "PSNR"]
        ),
        path,
    )
    return path


@pytest.fixture(scope="module")
def browser():
    program = find_browser()
    if program is None:
        pytest.skip(
            "no browser to test the page in: apt-get install chromium, or name one by "
            "CODEC_DET_BROWSER"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox cannot be made by root.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """The page in a window of its own, with all that it complains of and asks for."""

    def __init__(self, browser, file, **options):
        # Else it scrolls smoothly, and places on the screen change after they were looked up.
        self.context = browser.new_context(reduced_motion="reduce", **options)
        self.page = self.context.new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def show(self, selector):
        """Scroll there, and wait for what is drawn only then."""
        self.page.locator(selector).first.evaluate("e => e.scrollIntoView({block: 'center'})")

    def draw_all(self):
        self.show("#curves")
        self.page.wait_for_selector("#curves .scatterlayer .point")
        for place in range(self.page.locator("#multiples .plot").count()):
            self.page.locator("#multiples .plot").nth(place).scroll_into_view_if_needed()
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('#multiples .plot')]"
            ".every(e => e.querySelector('svg'))"
        )


@pytest.fixture(scope="module")
def shared(browser, page_file):
    """One visit for the tests that leave the page as it was, or do not mind."""
    visit = Visit(browser, page_file, viewport=LAPTOP)
    visit.draw_all()
    yield visit
    visit.context.close()


@pytest.fixture
def page(shared):
    # What scrolls under a mouse that an earlier test has left is entered by it, some time later.
    shared.page.mouse.move(1, 1)
    yield shared.page
    assert shared.complaints == []


def middle(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def hover(page, series, place):
    """Move to a curve's point and wait for its label; series 0 is the level, without points."""
    page.locator("#curves").evaluate("e => e.scrollIntoView({block: 'center'})")
    # No label from before may be taken for this one's.
    page.mouse.move(1, 1)
    page.wait_for_selector("#curves .hovertext", state="detached")
    trace = page.locator("#curves .scatterlayer .trace").nth(series)
    x, y = middle(trace.locator(".point").nth(place))
    page.mouse.move(x, y)
    page.wait_for_selector("#curves .hovertext")
    return x, y


def test_every_curve_is_drawn(page):
    traces = page.locator("#curves .scatterlayer .trace")
    assert traces.count() == 5
    for place in range(1, 4):
        assert traces.nth(place).locator(".point").count() == 4
        path = traces.nth(place).locator("path.js-line").get_attribute("d")
        assert len(re.findall(r"[ML]", path)) == 4
    assert traces.nth(0).locator("path.js-line").count() == 1
    # Three seeds have error bars, the baseline has none.
    assert traces.nth(2).locator(".yerror").count() == 4
    assert traces.nth(1).locator(".yerror").count() == 0


def test_hovering_over_a_point_says_what_it_is(page):
    hover(page, 3, 0)
    said = page.locator("#curves .hovertext").text_content()
    for part in ("J-FT", "box AP 4", "real bits", "target: 0.09 bpp", "β: 0.25", "iteration: 150"):
        assert part in said
    assert re.search(r"seed: box AP: 1: \d+\.\d; 2: \d+\.\d; 3: \d+\.\d", said)
    assert re.search(r"weights: [0-9a-f]{12}, [0-9a-f]{12}", said)


def test_clicking_on_a_point_shows_its_whole_records(page):
    page.mouse.click(*hover(page, 3, 1))
    panel = page.locator("#record")
    panel.wait_for(state="visible")
    assert panel.locator("h3").text_content() == "J-FT, shapes_codec_2.pth"
    assert panel.locator("details").count() == 3
    panel.locator("summary").first.click()
    assert json.loads(panel.locator("pre").first.text_content())["iteration"] == 150


def test_a_row_of_the_table_shows_its_records_too(page):
    row = page.locator("#summary tbody tr", has_text="T-FT").first
    row.get_by_role("button").click()
    assert page.locator("#record h3").text_content() == "T-FT, shapes_codec_1.pth"
    assert page.evaluate("document.activeElement.id") == "record"


def test_the_metric_can_be_switched(page):
    line = page.locator("#curves .scatterlayer .trace").nth(2).locator("path.js-line")
    assert page.locator("#curves .ytitle").text_content() == "box AP on shapes_val (%)"
    before = line.get_attribute("d")
    page.get_by_role("radio", name="PSNR").check(force=True)
    page.wait_for_function(
        "() => document.querySelector('#curves .ytitle').textContent === 'PSNR on shapes_val (dB)'"
    )
    assert line.get_attribute("d") != before
    # Uncompressed pictures have no PSNR.
    assert page.locator("#curves .scatterlayer .trace").count() == 4
    page.get_by_role("radio", name="box AP", exact=True).check(force=True)
    page.wait_for_function(
        "() => document.querySelectorAll('#curves .scatterlayer .trace').length === 5"
    )


def column(page, number):
    return page.locator(f"#summary tbody tr > :nth-child({number})").evaluate_all(
        "cells => cells.map(cell => cell.dataset.value ?? cell.textContent.trim())"
    )


def test_the_table_sorts_by_numbers_and_back(page):
    head = page.locator("#summary th", has_text=re.compile(r"^\s*box AP\s*$"))
    head.get_by_role("button").click()
    rising = [float(value) for value in column(page, 5)]
    assert rising == sorted(rising)
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").press("Enter")
    assert [float(value) for value in column(page, 5)] == rising[::-1]
    assert head.get_attribute("aria-sort") == "descending"
    # Uncompressed pictures have no PSNR: they come last either way.
    psnr = page.locator("#summary th", has_text="PSNR")
    for _ in range(2):
        psnr.get_by_role("button").click()
        assert column(page, 8)[-1] == ""
    assert head.get_attribute("aria-sort") is None


def test_refusals_are_explained_by_focus_and_by_mouse(page):
    refusal = page.locator(".refusal").first
    refusal.evaluate("e => e.scrollIntoView({block: 'center'})")
    refusal.focus()
    assert page.locator("#tip").text_content() == (
        f"the curve has 1 of the {MIN_POINTS} points that are needed: add rates"
    )
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    refusal.hover()
    assert page.locator("#tip").is_visible()
    assert "add rates" in page.locator(".reasons").text_content()


def clip_of(page):
    return page.locator(".layer.right").first.evaluate("e => getComputedStyle(e).clipPath")


def test_the_divider_follows_the_mouse(page):
    stage = page.locator(".stage").first
    stage.evaluate("e => e.scrollIntoView({block: 'center'})")
    assert clip_of(page) == "inset(0px 0px 0px 50%)"
    box = stage.bounding_box()
    x, y = middle(stage)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.3 * box["width"], y, steps=5)
    page.mouse.up()
    split = float(re.search(r"([\d.]+)%", clip_of(page))[1])
    assert split == pytest.approx(30, abs=1)
    # The thumb, wider than the divider, does not set it off.
    divider = middle(page.locator(".divider").first)[0]
    assert divider == pytest.approx(box["x"] + 0.3 * box["width"], abs=4)


def test_the_divider_follows_the_keyboard_and_says_where_it_is(page):
    slider = page.get_by_role("slider", name="Divider of image 2")
    slider.focus()
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "0 % baseline, 100 % J-FT"
    for _ in range(4):
        slider.press("ArrowRight")
    stage = page.locator(".stage").nth(1)
    assert stage.evaluate("e => e.style.getPropertyValue('--split')") == "2%"
    slider.press("End")
    assert slider.get_attribute("aria-valuetext") == "100 % baseline, 0 % J-FT"


def test_other_layers_can_be_chosen(page):
    left, right = (page.locator(f".layer.{side} img").first for side in ("left", "right"))
    was = left.get_attribute("src"), right.get_attribute("src")
    assert (
        page.locator(".figures.left").first.text_content() == "0.100\xa0bpp · lossless · AP\xa040.0"
    )
    page.select_option("#left-layer", label="original")
    page.select_option("#right-layer", label="J-FT: bits")
    assert left.get_attribute("src") not in was
    assert right.get_attribute("src") not in was
    assert right.get_attribute("alt") == "image 1, where J-FT spends its bits"
    assert page.locator(".name.right").first.text_content() == "J-FT: bits"
    assert page.locator(".figures.left").first.text_content() == "image 1, 64 × 48"  # noqa: RUF001
    loaded = "e => e.decode().then(() => [e.naturalWidth, e.naturalHeight])"
    assert right.evaluate(loaded) == [64, 48]


def test_boxes_are_where_objects_are_and_can_be_hidden(page):
    page.select_option("#left-layer", label="original")
    page.select_option("#right-layer", label="J-FT")
    right = page.locator(".layer.right").first
    assert right.locator(".box").count() == 2
    assert right.locator(".box:not(.truth)").text_content() == "<i>square</i> 0.87"
    box = page.locator(".layer.left .box.truth").first.bounding_box()
    stage = page.locator(".stage").first.bounding_box()
    assert (box["x"] - stage["x"]) / stage["width"] == pytest.approx(8 / 64, abs=0.01)
    assert box["width"] / stage["width"] == pytest.approx(22 / 64, abs=0.01)
    page.get_by_label("boxes").uncheck()
    assert right.locator(".box").first.is_hidden()
    page.get_by_label("boxes").check()


def test_training_is_drawn_for_one_operating_point_or_all(page):
    lines = page.locator("#multiples .plot").first.locator(".scatterlayer .trace")
    assert lines.count() == 6
    page.select_option("#training-point", label="all")
    page.wait_for_function(
        "() => document.querySelector('#multiples .plot').querySelectorAll('.trace').length === 24"
    )
    assert lines.first.locator("path.js-line").get_attribute("d").startswith("M")


def test_records_and_configs_can_be_downloaded(page):
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all records").click()
    lines = download.value.path().read_text().splitlines()
    assert download.value.suggested_filename == "records.jsonl"
    assert len(lines) == 30
    assert {json.loads(line)["regime"] for line in lines} == {*REGIMES, "<script>bad()<"}
    details = page.locator("#reproduction details", has_text="j-ft-rate_2-seed_3")
    details.locator("summary").click()
    with page.expect_download() as download:
        details.locator("a.config").click()
    assert download.value.suggested_filename == "j-ft-rate_2-seed_3.yaml"
    assert download.value.path().read_text() == "SEED: 3\nOUTPUT_DIR: j-ft-rate_2-seed_3\n"


def test_commands_can_be_copied(page):
    details = page.locator("#reproduction details").nth(1)
    details.locator("summary").click()
    button = details.locator(".command button")
    button.click()
    page.wait_for_function("e => e.textContent === 'Copied'", arg=button.element_handle())


def test_names_stay_text(page):
    assert page.locator("img[src=x]").count() == 0
    assert "<script>bad()<" in page.locator("#curves .legend").text_content()
    assert page.get_by_text("<img src=x onerror=bad()>").count() > 0
    assert page.get_by_text("<b>!").count() == 1


def test_nothing_is_requested_but_the_page_itself(shared, page_file):
    outside = [url for url in shared.requests if not url.startswith(("data:", "blob:"))]
    assert outside == [page_file.as_uri()]


def fits(visit, width):
    """Whether nothing is wider than the window, plots in their boxes included."""
    plot = visit.page.locator("#curves .main-svg").first.bounding_box()
    return visit.page.evaluate("document.documentElement.scrollWidth") == width > plot["width"]


def test_it_fits_a_laptop_in_the_dark_and_follows_the_window(browser, page_file):
    visit = Visit(browser, page_file, viewport=LAPTOP, color_scheme="dark")
    visit.draw_all()
    assert fits(visit, 1366)
    paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", paper))) < 64
    text = visit.page.locator("#curves .xtick text").first
    assert text.evaluate("e => getComputedStyle(e).fill") == "rgb(235, 233, 228)"
    visit.page.set_viewport_size(PHONE)
    narrow = "() => document.querySelector('#curves .main-svg').clientWidth < 390"
    visit.page.wait_for_function(narrow)
    assert fits(visit, 390)
    assert visit.complaints == []
    visit.context.close()


def test_it_fits_a_phone_and_fingers_move_the_divider(browser, page_file):
    visit = Visit(browser, page_file, viewport=PHONE, has_touch=True, is_mobile=True)
    visit.draw_all()
    assert fits(visit, 390)
    visit.show(".stage")
    box = visit.page.locator(".stage").first.bounding_box()
    visit.page.touchscreen.tap(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    visit.page.wait_for_function(
        "() => document.querySelector('.stage').style.getPropertyValue('--split') !== '50%'"
    )
    split = float(re.search(r"([\d.]+)%", clip_of(visit.page))[1])
    assert split == pytest.approx(75, abs=2)
    assert visit.complaints == []
    visit.context.close()


def test_on_paper_plots_scale_and_on_the_screen_they_do_not(page):
    drawing = page.locator("#curves .main-svg").first
    assert drawing.get_attribute("viewBox") is None
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown = drawing.evaluate("e => [e.viewBox.baseVal.width, e.viewBox.baseVal.height]")
    assert shown == drawing.evaluate("e => [e.width.baseVal.value, e.height.baseVal.value]")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert drawing.get_attribute("viewBox") is None
