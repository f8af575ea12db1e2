
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

// Volumes: the mosaic holds all axial slices; every plane is read out of its pixels. Voxels are
// stored with x fastest, then y, then z, as in NIfTI; x runs to the right, y to the front, z up.
const readMosaic = async (key) => {
  const image = document.getElementById(key);
  const [d, h, w] = image.dataset.shape.split(",").map(Number);
  const columns = Number(image.dataset.columns);
  const spacing = Number(image.dataset.spacing);
  // Drawing decodes what has arrived; decode() may wait for a frame that a hidden page never paints.
  if (!image.complete) await new Promise((arrived) => image.addEventListener("load", arrived));
  const sheet = document.createElement("canvas");
  sheet.width = image.naturalWidth;
  sheet.height = image.naturalHeight;
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, sheet.width, sheet.height).data;
  const voxels = new Uint8Array(d * h * w);
  for (let z = 0; z < w; z++) {
    for (let y = 0; y < h; y++) {
      const row = Math.floor(z / columns) * h + (h - 1 - y);
      const start = row * sheet.width + (z % columns) * d;
      for (let x = 0; x < d; x++) voxels[x + d * (y + h * z)] = pixels[4 * (start + x)];
    }
  }
  return { d, h, w, spacing, voxels, level: (x, y, z) => voxels[x + d * (y + h * z)] };
};
const readOnce = new Map();
const volumeOf = (key) => {
  if (!readOnce.has(key)) readOnce.set(key, readMosaic(key));
  return readOnce.get(key);
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
      if (!volumes.has(figure)) volumes.set(figure, await volumeOf(figure.dataset.volume));
      draw(figure);
    }
  };
  for (const input of inputs) input.addEventListener("input", redraw);
};
for (const gallery of document.querySelectorAll(".gallery")) openGallery(gallery);

// Features in two dimensions: the axial slice of the point that is looked at.
const openEmbedding = (figure) => {
  const [columns, wide, high] = ["columns", "wide", "high"].map((k) => Number(figure.dataset[k]));
  const dots = Array.from(figure.querySelectorAll(".dot"));
  const across = [...dots].sort((one, other) => one.getBoundingClientRect().x - other.getBoundingClientRect().x);
  const thumb = figure.querySelector(".thumb");
  let chosen = null;
  const choose = (dot) => {
    if (chosen) chosen.classList.remove("chosen");
    chosen = dot;
    dot.classList.add("chosen");
    const i = Number(dot.dataset.point);
    const context = thumb.querySelector("canvas").getContext("2d");
    const sprite = figure.querySelector(".sprite");
    context.drawImage(sprite, (i % columns) * wide, Math.floor(i / columns) * high, wide, high, 0, 0, wide, high);
    thumb.querySelector("p").textContent = dot.querySelector("title").textContent;
    thumb.hidden = false;
  };
  for (const dot of dots) dot.addEventListener("pointerenter", () => choose(dot));
  figure.querySelector("svg").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = chosen ? across.indexOf(chosen) + step : 0;
    choose(across[(next + across.length) % across.length]);
  });
};
for (const figure of document.querySelectorAll(".embedding")) openEmbedding(figure);

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

// Files that are made of what is in the page: nothing is fetched, and nothing leaves it.
const saveFile = (name, type, content) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
};
// A spreadsheet would compute a cell that starts so, unless it is a number: the rule of
// synthbench/render/delimited.py.
const csvCell = (text) => {
  const number = /^(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:inf|nan))$/i.test(text);
  const formula = /^(?:[=@]|[+-].*[A-Za-z(|!])/.test(text) && !number;
  return `"${(formula ? "'" : "") + text.replaceAll('"', '""')}"`;
};
const csvRow = (row) => Array.from(row.cells, (cell) => {
  const shown = cell.textContent.replace(/\s+/g, " ").trim();
  // A number with all its digits; a floor has three numbers, and stays as it is shown.
  return csvCell(cell.classList.contains("floor") ? shown : cell.dataset.sort || shown);
}).join(",");
const csvOf = (table) => Array.from(table.rows, (row) => `${csvRow(row)}\r\n`).join("");
const painted = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "opacity",
  "font-size", "font-family", "font-weight", "text-anchor"];
const savePicture = async (svg, name) => {
  const box = svg.getBoundingClientRect();
  const copy = svg.cloneNode(true);
  const copies = [copy, ...copy.querySelectorAll("*")];
  [svg, ...svg.querySelectorAll("*")].forEach((one, i) => {
    const style = getComputedStyle(one);
    for (const property of painted) copies[i].setAttribute(property, style.getPropertyValue(property));
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", box.width);
  copy.setAttribute("height", box.height);
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  const margin = 12;
  [canvas.width, canvas.height] = [2 * (box.width + 2 * margin), 2 * (box.height + 2 * margin)];
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 2 * margin, 2 * margin, 2 * box.width, 2 * box.height);
  canvas.toBlob((blob) => saveFile(name, "image/png", blob), "image/png");
};
for (const button of document.querySelectorAll("button.save-csv")) {
  button.addEventListener("click", () => {
    const table = button.closest("section").querySelectorAll("table")[Number(button.dataset.table)];
    saveFile(button.dataset.name, "text/csv", csvOf(table));
  });
}
for (const button of document.querySelectorAll("button.save-json")) {
  button.addEventListener("click", () => {
    const text = document.getElementById(button.dataset.copies).textContent;
    saveFile(button.dataset.name, "application/json", text);
  });
}
for (const figure of document.querySelectorAll(".charts > figure, .embedding")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "action small";
  button.textContent = "PNG";
  const title = (figure.querySelector("figcaption strong") || { textContent: "of features" }).textContent;
  button.setAttribute("aria-label", `Save the chart ${title} as PNG`);
  button.addEventListener("click", () => savePicture(figure.querySelector("svg"), "chart.png"));
  figure.append(button);
}

// On paper everything is open.
addEventListener("beforeprint", () => {
  for (const closed of document.querySelectorAll("details:not([open], .viewer)")) closed.open = true;
});
