"use strict";
// Plots have the window's width in pixels: on paper they are scaled to its width. Last of all scripts,
// so that what has not been seen is drawn by then.

const drawings = () => document.querySelectorAll(".plot .main-svg");

window.addEventListener("beforeprint", () => {
  for (const drawing of drawings()) {
    const [width, height] = [drawing.width.baseVal.value, drawing.height.baseVal.value];
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    drawing.parentElement.style.aspectRatio = `${width} / ${height}`;
  }
});
window.addEventListener("afterprint", () => {
  for (const drawing of drawings()) drawing.removeAttribute("viewBox");
});
