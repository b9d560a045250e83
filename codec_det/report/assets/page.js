"use strict";
// What the whole page shares: its data, tables, records, copying and downloads.

const DATA = JSON.parse(document.getElementById("data").textContent);

/** An element with text (never HTML) and attributes. */
function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  if (text !== "") made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function decimals(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
}

/** Mean, and least to greatest where these differ. */
function withRange({ mean, low, high }, digits) {
  const range = low === high ? "" : ` (${decimals(low, digits)}–${decimals(high, digits)})`;
  return decimals(mean, digits) + range;
}

// Plotly reads its texts as HTML.
function plotlyText(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// Fingers scroll the page over a plot, and so cannot draw a box to zoom into.
const TOUCH = matchMedia("(pointer: coarse)").matches;

const PLOTLY_OPTIONS = {
  responsive: true,
  displaylogo: false,
  displayModeBar: TOUCH ? false : "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  // This page sends nothing anywhere.
  showSendToCloud: false,
  plotlyServerURL: "",
};

function axisLayout(title, more = {}) {
  return { title: { text: plotlyText(title), standoff: 12 }, automargin: true, ticks: "", ...more };
}

function plotLayout(more) {
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 13 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { align: "left", font: { size: 13 } },
    dragmode: TOUCH ? false : "zoom",
    modebar: { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: "#8a8a8a", activecolor: "#3d83c0" },
    ...more,
  };
}

/** Call draw(element) when the element comes near the window, or is printed. */
function whenSeen(box, draw) {
  let drawn = false;
  const once = () => {
    if (drawn) return;
    drawn = true;
    watcher.disconnect();
    draw(box);
  };
  const watcher = new IntersectionObserver(
    (entries) => entries.some((entry) => entry.isIntersecting) && once(),
    { rootMargin: "300px" },
  );
  watcher.observe(box);
  window.addEventListener("beforeprint", once);
}

// Tables: a click on a heading sorts by it, a second one the other way round.

function sortValue(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value ?? cell.textContent.trim();
  if (value === "") return null;
  return Number.isNaN(Number(value)) ? value : Number(value);
}

function compareValues(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sortTable(table, column, descending) {
  const rows = [...table.tBodies[0].rows];
  rows.sort((first, second) => {
    const [a, b] = [sortValue(first, column), sortValue(second, column)];
    // Absent figures stay at the end either way.
    if (a === null || b === null) return (a === null) - (b === null);
    return (descending ? -1 : 1) * compareValues(a, b);
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector(".sort")?.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortTable(table, column, descending);
    });
  });
}

// Records: all of a point's, below the curves.

function showRecord(key) {
  const point = DATA.points[key];
  const box = document.getElementById("record");
  const pairs = element("dl", "", { class: "pairs" });
  for (const [name, value] of point.details) {
    pairs.append(element("dt", name), element("dd", value));
  }
  box.replaceChildren(element("h3", point.title), pairs);
  for (const name of point.runs) {
    const details = element("details");
    const inside = element("div");
    inside.append(element("pre", JSON.stringify(DATA.records[name], null, 2), { tabindex: "0" }));
    details.append(element("summary", `Whole record of ${name}`), inside);
    box.append(details);
  }
  box.hidden = false;
  return box;
}

for (const button of document.querySelectorAll("[data-point]")) {
  button.addEventListener("click", () => {
    const box = showRecord(button.dataset.point);
    box.scrollIntoView({ block: "center" });
    box.focus({ preventScroll: true });
  });
}

// Explanations of refused figures: by mouse, by focus and by touch. They are in the text as well.

const tip = element("div", "", { class: "tip", role: "tooltip", id: "tip", hidden: "" });
document.body.append(tip);

let tipTarget = null;

function placeTip() {
  if (tipTarget === null) return;
  const place = tipTarget.getBoundingClientRect();
  const left = Math.min(place.left, document.documentElement.clientWidth - tip.offsetWidth - 16);
  const above = place.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(16, left)}px`;
  tip.style.top = `${above > 8 ? above : place.bottom + 8}px`;
}

function showTip(event) {
  tipTarget = event.currentTarget;
  const reason = document.getElementById(tipTarget.getAttribute("aria-describedby"));
  tip.textContent = reason.textContent;
  tip.hidden = false;
  placeTip();
}

function hideTip() {
  tipTarget = null;
  tip.hidden = true;
}

for (const target of document.querySelectorAll(".refusal")) {
  for (const kind of ["mouseenter", "focus", "click"]) target.addEventListener(kind, showTip);
  for (const kind of ["mouseleave", "blur"]) target.addEventListener(kind, hideTip);
}
// Capturing: tables scroll in their own boxes.
window.addEventListener("scroll", placeTip, { passive: true, capture: true });
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());

// Copying and downloads.

/** Copy where the browser lets a page from a file do so; else leave the text selected. */
async function copyText(source) {
  const selection = getSelection();
  selection.selectAllChildren(source);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    if (!document.execCommand("copy")) return false;
  }
  selection.removeAllRanges();
  return true;
}

for (const button of document.querySelectorAll(".command button")) {
  button.addEventListener("click", async () => {
    const copied = await copyText(button.parentElement.querySelector("pre"));
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

function offerDownload(link, text, type) {
  link.href = URL.createObjectURL(new Blob([text], { type }));
}

offerDownload(
  document.getElementById("download"),
  Object.values(DATA.records).map((record) => `${JSON.stringify(record)}\n`).join(""),
  "application/x-ndjson",
);
for (const link of document.querySelectorAll("a.config")) {
  offerDownload(link, link.closest("details").querySelector("pre.yaml").textContent, "text/yaml");
}
