"use strict";
// A study without a server: the trials and volumes are in the page, the answers in the browser's
// storage until they are saved as a file, which `synthbench readers collect` takes.

const offline = (() => {
  const part = (id) => document.getElementById(id);
  const study = JSON.parse(part("study").textContent);
  const place = `synthbench ${study.study} ${study.reader}`;
  const lines = JSON.parse(localStorage.getItem(place) || "[]");
  const standing = () => {
    const found = new Map();
    for (const line of lines) {
      found.delete(line.trial);
      if (!line.undone) found.set(line.trial, line);
    }
    return found;
  };
  const state = () => {
    const answered = standing();
    const trial = study.trials.find((one) => !answered.has(one.trial)) || null;
    const { shape, spacing, items } = study;
    return {
      done: answered.size, total: study.trials.length, trial, shape, spacing, items, check: "",
    };
  };
  const add = (line) => {
    lines.push({ ...line, at: new Date().toISOString() });
    localStorage.setItem(place, JSON.stringify(lines));
  };
  const save = part("save");
  save.hidden = false;
  save.addEventListener("click", () => {
    const { reader } = study;
    const text = JSON.stringify({ schema_version: 1, study: study.study, reader, answers: lines });
    saveFile(`${reader}.json`, "application/json", text);
  });
  const reply = (value) => ({ ok: true, json: async () => value });
  return async (path, body) => {
    const [what, , number] = path.split("/");
    if (what === "volume") {
      const text = part(`volume-${state().trial.volumes[number]}`).textContent;
      const voxels = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      return { ok: true, arrayBuffer: async () => voxels.buffer };
    }
    if (what === "answer") add(body);
    else if (what === "undo") add({ trial: [...standing().keys()].pop(), undone: true });
    return reply(state());
  };
})();
