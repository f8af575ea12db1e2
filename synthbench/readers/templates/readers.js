"use strict";
// The page of a reader. It shows what the server gives for the current trial and sends the answer.
// Volumes come as voxels without a name; the viewer of the report (`Deep`, `Flat`, `nifti`) shows
// them. Everything can be done by keyboard.

const at = (id) => document.getElementById(id);
const FIRST_VIEW = { low: 0, high: 100, zoom: 1, layout: 3, radiological: false, cut: false, cross: true };
const LAYOUTS = [3, 0, 1, 2, 4];
const deep = hasWebGL2();
const views = [0, 1].map((i) => new (deep ? Deep : Flat)(at(`screen-${i}`).querySelector("canvas")));
let asked = null;  // the server's last word
let view = null;
let given = null;  // the answer so far
let clock = { before: 0, since: 0 };
let busy = false;

const say = (words) => { at("words").textContent = words; };
const seconds = () => (clock.before + (clock.since ? performance.now() - clock.since : 0)) / 1000;
const element = (name, text, parent) => {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
};

const call = async (path, body) => {
  if (typeof offline !== "undefined") return offline(path, body);
  const how = body === undefined ? {} : {
    method: "POST", body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", "X-Synthbench-Check": asked.check },
  };
  const reply = await fetch(path, { cache: "no-store", ...how });
  if (!reply.ok) throw new Error((await reply.text()) || `the server said ${reply.status}`);
  return reply;
};

// ---------------------------------------------------------------- what is shown

const redraw = () => {
  const shown = asked.trial.kind === "2afc" ? views : views.slice(0, 1);
  for (const one of shown) {
    if (deep) {
      one.nv.opts.crosshairWidth = view.cross ? 0.3 : 0;
      one.nv.opts.show3Dcrosshair = view.cross;
    }
    one.update(view);
  }
};
const resetView = () => {
  const [sagittal, coronal, axial] = asked.shape.map((n) => Math.floor(n / 2));
  view = { ...FIRST_VIEW, sagittal, coronal, axial };
};
const captions = () => {
  const compared = asked.trial.kind === "2afc";
  ["left", "right"].forEach((side, i) => {
    const words = !compared ? "" : `${side}: press ${i + 1}`;
    at(`screen-${i}`).querySelector("figcaption").textContent = words;
    at(`screen-${i}`).classList.toggle("chosen", compared && given.choice === side);
  });
};
const levels = () => {
  const box = at("items");
  box.replaceChildren();
  if (asked.trial.kind !== "rating") return;
  asked.items.forEach((item, number) => {
    const set = element("fieldset", "", box);
    set.classList.toggle("current", number === given.item);
    element("legend", item.question, set);
    item.levels.forEach((words, i) => {
      const label = element("label", "", set);
      label.classList.toggle("chosen", given.levels[item.key] === i + 1);
      element("kbd", String(i + 1), label);
      label.append(` ${words}`);
      label.addEventListener("click", () => { given.item = number; choose(i + 1); });
    });
  });
};
// A small window does not show all questions: the current one comes up below the pictures, which stay.
const bring = () => {
  const current = at("items").querySelector(".current");
  if (current) current.scrollIntoView({ block: "nearest" });
};
const complete = () => (asked.trial.kind === "2afc"
  ? Boolean(given.choice) : asked.items.every((item) => given.levels[item.key]));
const refresh = () => { captions(); levels(); bring(); at("submit").disabled = !complete(); };

const present = async () => {
  at("progress").max = asked.total;
  at("progress").value = asked.done;
  at("count").textContent = `${asked.done} of ${asked.total}`;
  at("undo").disabled = !asked.done;
  const trial = asked.trial;
  for (const id of ["screens", "comment", "submit"]) at(id).hidden = !trial;
  at("practice").hidden = !trial || !trial.practice;
  if (!trial) {
    at("items").replaceChildren();
    at("question").textContent = "That was all. Thank you. All answers are saved.";
    return;
  }
  const compared = trial.kind === "2afc";
  at("question").textContent = compared ? "Which of the two is the real brain?" : "Rate this volume.";
  at("screens").classList.toggle("one", !compared);
  at("screen-1").hidden = !compared;
  at("comment").value = "";
  given = { choice: null, levels: {}, item: 0 };
  resetView();
  const [d, h, w] = asked.shape;
  const spacing = asked.spacing[0];
  // A grid of two by two; one volume alone takes the shape that fits its canvas.
  if (deep) views[0].nv.opts.multiplanarLayout = compared ? 2 : 0;
  for (let i = 0; i < (compared ? 2 : 1); i++) {
    const reply = await call(`volume/${trial.trial}/${i}`);
    const voxels = new Uint8Array(await reply.arrayBuffer());
    await views[i].show({ voxels, d, h, w, spacing });
  }
  redraw();
  refresh();
  clock = { before: 0, since: performance.now() };
};

// ---------------------------------------------------------------- what a reader does

const choose = (level) => {
  if (asked.trial.kind === "2afc") {
    if (level <= 2) given.choice = ["left", "right"][level - 1];
  } else {
    const item = asked.items[given.item];
    if (level > item.levels.length) return;
    given.levels[item.key] = level;
    given.item = Math.min(given.item + 1, asked.items.length - 1);
  }
  refresh();
};
const alone = (work) => async () => {
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    say(`Not saved: ${error.message}. Try again, or open your link again.`);
  } finally {
    busy = false;
  }
};
const submit = alone(async () => {
  if (!asked.trial) return;
  if (!complete()) {
    say("An answer is missing.");
    return;
  }
  const answer = { trial: asked.trial.trial, seconds: seconds(), comment: at("comment").value };
  if (asked.trial.kind === "2afc") answer.choice = given.choice;
  else answer.levels = given.levels;
  asked = await (await call("answer", answer)).json();
  say("");
  await present();
});
const undo = alone(async () => {
  if (!asked.done) return;
  asked = await (await call("undo", {})).json();
  say("Your last answer was taken back: give it again.");
  await present();
});
const togglePause = () => {
  const paused = at("pause").hidden;
  at("pause").hidden = !paused;
  if (paused) clock = { before: clock.before + performance.now() - clock.since, since: 0 };
  else clock.since = performance.now();
};

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const STEPS = {
  ArrowLeft: ["sagittal", -1], ArrowRight: ["sagittal", 1], ArrowDown: ["coronal", -1],
  ArrowUp: ["coronal", 1], PageDown: ["axial", -1], PageUp: ["axial", 1],
};
const VIEWS = {
  "[": () => { view.low = clamp(view.low - 5, 0, view.high - 5); },
  "]": () => { view.low = clamp(view.low + 5, 0, view.high - 5); },
  "{": () => { view.high = clamp(view.high - 5, view.low + 5, 100); },
  "}": () => { view.high = clamp(view.high + 5, view.low + 5, 100); },
  "+": () => { view.zoom = clamp(view.zoom + 0.25, 1, 5); },
  "-": () => { view.zoom = clamp(view.zoom - 0.25, 1, 5); },
  v: () => { view.layout = LAYOUTS[(LAYOUTS.indexOf(view.layout) + 1) % LAYOUTS.length]; },
  x: () => { view.cross = !view.cross; },
  r: resetView,
};
const ITEMS = { n: 1, b: -1 };
const act = (key) => {
  if (key === "Enter") submit();
  else if (key === "u") undo();
  else if (key === "p") togglePause();
  else if (!asked.trial) return false;
  else if (/^[1-9]$/.test(key)) choose(Number(key));
  else if (key === "c") at("comment").focus();
  else if (key in ITEMS) {
    given.item = clamp(given.item + ITEMS[key], 0, asked.items.length - 1);
    refresh();
  } else if (key in STEPS) {
    const [plane, step] = STEPS[key];
    const most = asked.shape[["sagittal", "coronal", "axial"].indexOf(plane)] - 1;
    view[plane] = clamp(view[plane] + step, 0, most);
    redraw();
  } else if (key in VIEWS) {
    VIEWS[key]();
    redraw();
  } else return false;
  return true;
};
const pressed = (event) => {
  const typing = event.target === at("comment");
  if (typing && event.key === "Escape") at("comment").blur();
  if (typing || event.ctrlKey || event.altKey || event.metaKey || event.key === "Tab") return;
  // Not NiiVue's own keys: they would change what is not shown here.
  event.stopImmediatePropagation();
  if (!asked || (event.key === "Enter" && event.target.tagName === "BUTTON")) return;
  if (!at("pause").hidden && event.key !== "p") return;
  if (act(event.key)) event.preventDefault();
};
addEventListener("keydown", pressed, { capture: true });
at("submit").addEventListener("click", submit);
at("undo").addEventListener("click", undo);
at("stop").addEventListener("click", togglePause);
[0, 1].forEach((i) => at(`screen-${i}`).querySelector("figcaption").addEventListener("click", () => choose(i + 1)));
if (deep) {
  for (const { nv } of views) {
    nv.broadcastTo(views.map((one) => one.nv).filter((other) => other !== nv), { "2d": true, "3d": true });
    nv.onLocationChange = (location) => {
      if (!view) return;
      ["sagittal", "coronal", "axial"].forEach((plane, axis) => {
        view[plane] = clamp(Math.round(location.vox[axis]), 0, asked.shape[axis] - 1);
      });
    };
  }
}

const start = async () => {
  asked = await (await call("state")).json();
  if (!deep) say("This browser has no WebGL2: three planes without a rendering.");
  await present();
};
start().catch((error) => say(`The study could not be opened: ${error.message}`));
