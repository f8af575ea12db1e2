
"use strict";
document.documentElement.classList.add("scripted");

// Tables: a button in a header sorts by its column; rows without a number come last.
const keyOf = (row, column) => {
  const cell = row.cells[column];
  const stated = cell.dataset.sort;
  if (stated === undefined) return cell.textContent.trim().toLowerCase();
  return stated === "" ? null : Number(stated);
};
const compare = (a, b, sign) => {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
};
const sortBy = (header) => {
  const table = header.closest("table");
  const rising = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const body = table.tBodies[0];
  const column = header.cellIndex;
  const keyed = Array.from(body.rows, (row) => [keyOf(row, column), row]);
  keyed.sort((one, other) => compare(one[0], other[0], rising ? 1 : -1));
  body.append(...keyed.map((pair) => pair[1]));
};
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

// Volumes: the mosaic holds all axial slices; every plane is read out of its pixels.
const readMosaic = async (figure) => {
  const [d, h, w] = figure.dataset.shape.split(",").map(Number);
  const columns = Number(figure.dataset.columns);
  const image = figure.querySelector(".mosaic");
  // Drawing decodes what has arrived; decode() may wait for a frame that a hidden page never paints.
  if (!image.complete) await new Promise((arrived) => image.addEventListener("load", arrived));
  const sheet = document.createElement("canvas");
  sheet.width = image.naturalWidth;
  sheet.height = image.naturalHeight;
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, sheet.width, sheet.height).data;
  const level = (x, y, z) => {
    const row = Math.floor(z / columns) * h + (h - 1 - y);
    const column = (z % columns) * d + x;
    return pixels[4 * (row * sheet.width + column)];
  };
  return { d, h, w, level };
};
const drawPlanes = (canvas, volume, at) => {
  const { d, h, w, level } = volume;
  const tall = Math.max(h, w);
  canvas.width = d + d + h;
  canvas.height = tall;
  const context = canvas.getContext("2d");
  const drawing = context.createImageData(canvas.width, tall);
  const plane = (left, wide, high, value) => {
    const above = Math.floor((tall - high) / 2);
    for (let r = 0; r < high; r++) {
      for (let c = 0; c < wide; c++) {
        const place = 4 * ((above + r) * canvas.width + left + c);
        drawing.data.fill(value(c, high - 1 - r), place, place + 3);
      }
    }
  };
  plane(0, d, h, (c, r) => level(c, r, at.axial));
  plane(d, d, w, (c, r) => level(c, at.coronal, r));
  plane(2 * d, h, w, (c, r) => level(at.sagittal, c, r));
  for (let i = 3; i < drawing.data.length; i += 4) drawing.data[i] = 255;
  context.putImageData(drawing, 0, 0);
};
const openGallery = (gallery) => {
  const inputs = Array.from(gallery.querySelectorAll("input[type=range]"));
  const figures = Array.from(gallery.querySelectorAll(".volume"));
  const volumes = new Map();
  const positions = () => Object.fromEntries(inputs.map((i) => [i.dataset.plane, Number(i.value)]));
  const draw = (figure) => {
    const canvas = figure.querySelector("canvas");
    drawPlanes(canvas, volumes.get(figure), positions());
    canvas.hidden = false;
    figure.querySelector(".still").hidden = true;
  };
  const redraw = async () => {
    for (const input of inputs) {
      input.parentElement.querySelector("output").textContent = input.value;
    }
    for (const figure of figures) {
      if (!volumes.has(figure)) volumes.set(figure, await readMosaic(figure));
      draw(figure);
    }
  };
  for (const input of inputs) input.addEventListener("input", redraw);
};
for (const gallery of document.querySelectorAll(".gallery")) openGallery(gallery);

// The protocol: copied, or selected where the browser does not let a page copy.
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: press Ctrl+C";
    }
  });
}

// On paper everything is open.
addEventListener("beforeprint", () => {
  for (const closed of document.querySelectorAll("details:not([open])")) closed.open = true;
});
