"use strict";
// Accuracy and distortion over the rate: a line per series, a level for uncompressed pictures.

const curvesBox = document.getElementById("curves");

function hoverText(point, metric) {
  const { label, digits } = DATA.metrics[metric];
  const { [metric]: quality, [DATA.rate]: cost } = point.figures;
  const lines = point.details.map(([name, value]) => `${plotlyText(name)}: ${plotlyText(value)}`);
  const figure = `${plotlyText(label)} ${withRange(quality, digits)}`;
  const { digits: costDigits } = DATA.metrics[DATA.rate];
  const rate = cost.mean === null ? "" : ` at ${withRange(cost, costDigits)} ${DATA.rate}`;
  const heading = `<b>${plotlyText(point.title)}</b><br>${figure}${rate}`;
  // On a phone it would hide the plot; a tap shows the panel with all of it as well.
  return TOUCH ? heading : `${heading}<br>${lines.join("<br>")}`;
}

/** From the least to the greatest of a point's runs. */
function errorBars(points, key) {
  return {
    type: "data",
    symmetric: false,
    array: points.map(({ figures }) => figures[key].high - figures[key].mean),
    arrayminus: points.map(({ figures }) => figures[key].mean - figures[key].low),
    visible: points.some(({ figures }) => figures[key].high > figures[key].low),
    thickness: 1.2,
    width: 3,
  };
}

function curveTrace(series, metric) {
  const points = series.points
    .map((key) => ({ key, ...DATA.points[key] }))
    .filter(({ figures }) => figures[metric].mean !== null && figures[DATA.rate].mean !== null);
  return {
    type: "scatter",
    mode: "lines+markers",
    name: plotlyText(series.name),
    x: points.map(({ figures }) => figures[DATA.rate].mean),
    y: points.map(({ figures }) => figures[metric].mean),
    error_x: errorBars(points, DATA.rate),
    error_y: errorBars(points, metric),
    customdata: points.map((point) => point.key),
    text: points.map((point) => hoverText(point, metric)),
    hovertemplate: "%{text}<extra></extra>",
    hoverlabel: { bordercolor: series.colour },
    line: { color: series.colour, dash: series.dash, width: 2 },
    marker: {
      color: series.colour,
      symbol: series.symbol,
      size: 10,
      line: { width: series.symbol.includes("open") ? 2 : 0 },
    },
    showlegend: points.length > 0,
  };
}

/** Uncompressed pictures have 24 bits per pixel: to scale, all codecs would be in one place. */
function levelTrace(series, metric, highest) {
  const key = series.points[0];
  const point = DATA.points[key];
  const level = point.figures[metric].mean;
  const steps = level === null ? [] : [...Array(21).keys()];
  return {
    type: "scatter",
    mode: "lines",
    name: plotlyText(series.name),
    x: steps.map((step) => (step / 20) * highest),
    y: steps.map(() => level),
    customdata: steps.map(() => key),
    text: steps.map(() => hoverText(point, metric)),
    hovertemplate: "%{text}<extra></extra>",
    hoverlabel: { bordercolor: series.colour },
    line: { color: series.colour, dash: "dash", width: 1.5 },
    showlegend: steps.length > 0,
  };
}

function drawCurves(metric) {
  const rates = DATA.series
    .filter((series) => !series.level)
    .flatMap((series) => series.points)
    .map((key) => DATA.points[key].figures[DATA.rate].mean ?? 0);
  const highest = 1.08 * Math.max(...rates, 1e-6);
  const traces = DATA.series.map((series) =>
    series.level ? levelTrace(series, metric, highest) : curveTrace(series, metric),
  );
  const layout = plotLayout({
    xaxis: axisLayout(DATA.rateIs, { range: [0, highest], zeroline: false }),
    yaxis: axisLayout(plotlyText(DATA.metrics[metric].axis), { zeroline: false }),
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" },
    hovermode: "closest",
    margin: { l: 8, r: TOUCH ? 12 : 40, t: 34, b: 8 },
  });
  return Plotly.react(curvesBox, traces, layout, PLOTLY_OPTIONS);
}

if (curvesBox) {
  whenSeen(curvesBox, async () => {
    const chosen = document.querySelector("[name=metric]:checked").value;
    await drawCurves(chosen);
    curvesBox.on("plotly_click", (event) => showRecord(event.points[0].customdata));
  });
  for (const choice of document.querySelectorAll("[name=metric]")) {
    choice.addEventListener("change", () => drawCurves(choice.value));
  }
}
