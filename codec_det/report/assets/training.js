"use strict";
// Training curves: a small plot per logged figure, a line per run.

const trainingBox = document.getElementById("multiples");

function trainingTrace(run, key) {
  // A line needs two points: a run of few iterations logged one.
  const logged = run.values[key].filter((value) => value !== null);
  return {
    type: "scatter",
    mode: logged.length > 1 ? "lines" : "markers",
    name: plotlyText(run.name),
    x: run.iteration,
    y: run.values[key],
    line: { color: run.colour, width: 1.4 },
    opacity: 0.8,
    hovertemplate: `${plotlyText(run.name)}<br>iteration %{x}: %{y:.4~g}<extra></extra>`,
  };
}

function drawTraining(box) {
  const point = document.getElementById("training-point")?.value ?? "";
  const runs = DATA.training.runs.filter(
    (run) => box.dataset.key in run.values && (point === "" || run.point === point),
  );
  box.closest(".figure").hidden = runs.length === 0;
  if (runs.length === 0) return;
  const layout = plotLayout({
    showlegend: false,
    hovermode: "closest",
    xaxis: axisLayout("iteration", { zeroline: false, nticks: 5 }),
    yaxis: axisLayout("", { zeroline: false, nticks: 5, type: box.dataset.scale, rangemode: "nonnegative" }),
    margin: { l: 8, r: 8, t: 6, b: 8 },
  });
  const traces = runs.map((run) => trainingTrace(run, box.dataset.key));
  Plotly.react(box, traces, layout, { ...PLOTLY_OPTIONS, displayModeBar: false });
}

if (trainingBox) {
  const boxes = [...trainingBox.querySelectorAll(".plot")];
  for (const box of boxes) whenSeen(box, drawTraining);
  document.getElementById("training-point")?.addEventListener("change", () => {
    boxes.forEach(drawTraining);
  });
}
