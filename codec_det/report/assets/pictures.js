"use strict";
// Two layers of every picture on each other, with a divider: originals, reconstructions, bit maps.

const leftChoice = document.getElementById("left-layer");
const rightChoice = document.getElementById("right-layer");

function boxElement(box, picture) {
  const [x0, y0, x1, y1] = box.place;
  const made = element("div", "", { class: box.truth ? "box truth" : "box" });
  made.style.left = `${(100 * x0) / picture.width}%`;
  made.style.top = `${(100 * y0) / picture.height}%`;
  made.style.width = `${(100 * (x1 - x0)) / picture.width}%`;
  made.style.height = `${(100 * (y1 - y0)) / picture.height}%`;
  made.style.setProperty("--colour", box.colour);
  // Labels that would stick out of the picture go inside.
  made.classList.toggle("low", y0 < 0.06 * picture.height);
  made.classList.toggle("far", x0 > 0.6 * picture.width);
  if (box.label) made.append(element("span", box.label));
  return made;
}

function fillLayer(layer, picture, name) {
  const content = picture.layers[name];
  const image = element("img", "", { src: content.src, alt: content.alt, draggable: "false" });
  layer.classList.toggle("small", Math.max(picture.width, picture.height) <= 320);
  layer.replaceChildren(image, ...content.boxes.map((box) => boxElement(box, picture)));
}

function moveDivider(stage) {
  const slider = stage.querySelector("input");
  stage.style.setProperty("--split", `${slider.value}%`);
  const [left, right] = [leftChoice, rightChoice].map((box) => box.selectedOptions[0].textContent);
  slider.setAttribute(
    "aria-valuetext",
    `${Math.round(slider.value)} % ${left}, ${100 - Math.round(slider.value)} % ${right}`,
  );
}

function fillPair(pair) {
  const picture = DATA.pictures[Number(pair.dataset.picture)];
  for (const [side, choice] of [["left", leftChoice], ["right", rightChoice]]) {
    const content = picture.layers[choice.value];
    fillLayer(pair.querySelector(`.layer.${side}`), picture, choice.value);
    pair.querySelector(`.name.${side}`).textContent = choice.selectedOptions[0].textContent;
    pair.querySelector(`.figures.${side}`).textContent = content.caption;
  }
  moveDivider(pair.querySelector(".stage"));
}

if (leftChoice) {
  const pairs = [...document.querySelectorAll(".pair")];
  for (const pair of pairs) {
    fillPair(pair);
    const stage = pair.querySelector(".stage");
    stage.querySelector("input").addEventListener("input", () => moveDivider(stage));
  }
  for (const choice of [leftChoice, rightChoice]) {
    choice.addEventListener("change", () => pairs.forEach(fillPair));
  }
  const shown = document.getElementById("show-boxes");
  shown.addEventListener("change", () => {
    document.getElementById("gallery").classList.toggle("bare", !shown.checked);
  });
}
