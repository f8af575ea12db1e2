"use strict";
// The viewer: two volumes and their difference. It shows them with NiiVue where the browser has
// WebGL2, and as three planes on plain canvases where it has not. NIfTI images are built here, from
// the mosaics that are in the page: nothing is loaded.

const PARTS = ["first", "second", "difference"];
const PLANES = ["sagittal", "coronal", "axial"];
const DIFFERENCE = { least: 13, most: 128 };  // of 255: fainter differences have no colour

const hasWebGL2 = () => {
  try {
    return Boolean(document.createElement("canvas").getContext("webgl2"));
  } catch {
    return false;
  }
};

// NIfTI-1, little endian, uint8 or int16, cubic voxels, the centre of the volume at 0 mm.
const nifti = (voxels, { d, h, w, spacing }) => {
  const signed = voxels instanceof Int16Array;
  const buffer = new ArrayBuffer(352 + voxels.byteLength);
  const head = new DataView(buffer);
  const put = (place, value) => head.setFloat32(place, value, true);
  head.setInt32(0, 348, true);
  [3, d, h, w, 1, 1, 1, 1].forEach((n, i) => head.setInt16(40 + 2 * i, n, true));
  head.setInt16(70, signed ? 4 : 2, true);
  head.setInt16(72, signed ? 16 : 8, true);
  [1, spacing, spacing, spacing].forEach((n, i) => put(76 + 4 * i, n));
  put(108, 352);
  put(112, 1);
  head.setUint8(123, 2);
  head.setInt16(254, 1, true);
  [d, h, w].forEach((n, axis) => {
    put(280 + 16 * axis + 4 * axis, spacing);
    put(280 + 16 * axis + 12, (-spacing * (n - 1)) / 2);
  });
  [0x6e, 0x2b, 0x31, 0].forEach((byte, i) => head.setUint8(344 + i, byte));
  new voxels.constructor(buffer, 352).set(voxels);
  return buffer;
};

const minus = (one, other) => {
  const voxels = new Int16Array(one.voxels.length);
  for (let i = 0; i < voxels.length; i++) voxels[i] = one.voxels[i] - other.voxels[i];
  return { ...one, voxels };
};

// ---------------------------------------------------------------- without WebGL2

const drawFlat = (canvas, volume, at, shade) => {
  const { d, h, w, voxels } = volume;
  const level = (x, y, z) => shade(voxels[x + d * (y + h * z)]);
  drawPlanes(canvas, { ...volume, level }, at);
  const context = canvas.getContext("2d");
  const tall = Math.max(h, w);
  context.fillStyle = "#d33";
  const line = (left, wide, high, column, row) => {
    const above = Math.floor((tall - high) / 2);
    context.globalAlpha = 0.6;
    context.fillRect(left + column, above, 1, high);
    context.fillRect(left, above + high - 1 - row, wide, 1);
    context.globalAlpha = 1;
  };
  line(0, d, h, at.sagittal, at.coronal);
  line(d, d, w, at.sagittal, at.axial);
  line(2 * d, h, w, at.coronal, at.axial);
  context.fillStyle = "#fff";
  context.font = `${Math.max(8, Math.round(tall / 9))}px sans-serif`;
  context.textBaseline = "top";
  for (const left of [0, d]) {
    context.textAlign = "left";
    context.fillText("L", left + 1, 1);
    context.textAlign = "right";
    context.fillText("R", left + d - 1, 1);
  }
};

class Flat {
  constructor(canvas) {
    this.canvas = canvas;
  }

  async show(volume, base) {
    this.volume = volume;
    this.signed = Boolean(base);
  }

  update(state) {
    const [low, high] = [2.55 * state.low, 2.55 * state.high];
    const grey = (v) => (255 * (v - low)) / (high - low);
    // Of a difference, grey is none, white is the first brighter by half of the range.
    drawFlat(this.canvas, this.volume, state, this.signed ? (v) => 128 + v : grey);
  }
}

// ---------------------------------------------------------------- with WebGL2

class Deep {
  constructor(canvas) {
    this.canvas = canvas;
    this.nv = new niivue.Niivue({
      dragAndDropEnabled: false, show3Dcrosshair: true, crosshairColor: [0.9, 0.2, 0.2, 0.8],
      fontColor: [1, 1, 1, 1], multiplanarShowRender: 1, multiplanarLayout: 2, logLevel: "error",
      loadingText: "", crosshairWidth: 0.3, showAllOrientationMarkers: true,
      multiplanarPadPixels: 8,
    });
    this.zoom = 1;
  }

  async show(volume, base) {
    if (!this.ready) this.ready = this.nv.attachToCanvas(this.canvas, false);
    await this.ready;
    const { nv } = this;
    const image = (voxels, ...how) => niivue.NVImage.new(nifti(voxels, volume), "volume.nii", ...how);
    const { least, most } = DIFFERENCE;
    const images = [await image((base || volume).voxels, "gray", 1, null, 0, 255)];
    if (base) {
      images.push(await image(
        volume.voxels, "warm", 1, null, least, most, true, 0.02, false, false, "winter", 0,
        undefined, -most, -least,
      ));
    }
    for (const old of [...nv.volumes]) nv.removeVolume(old);
    for (const one of images) nv.addVolume(one);
    this.uploaded = "";
  }

  update(state) {
    const { nv } = this;
    nv.opts.sliceType = state.layout;
    nv.opts.isRadiologicalConvention = state.radiological;
    nv.scene.crosshairPos = nv.vox2frac([state.sagittal, state.coronal, state.axial]);
    if (state.zoom !== this.zoom) {
      const centre = nv.frac2mm(nv.scene.crosshairPos);
      const pan = nv.scene.pan2Dxyzmm;
      for (let axis = 0; axis < 3; axis++) pan[axis] += (pan[3] - state.zoom) * centre[axis];
      pan[3] = state.zoom;
      nv.scene.volScaleMultiplier = 1 + (state.zoom - 1) / 4;
      this.zoom = state.zoom;
    }
    const needed = [state.low, state.high, state.radiological].join();
    if (needed !== this.uploaded) {
      nv.volumes[0].cal_min = 2.55 * state.low;
      nv.volumes[0].cal_max = 2.55 * state.high;
      nv.updateGLVolume();
      this.uploaded = needed;
    }
    // It draws all planes too.
    nv.setClipPlane(state.cut ? [0, 180, 40] : [2, 0, 0]);
  }
}

// ---------------------------------------------------------------- both

const openViewer = (box) => {
  const control = (name) => box.querySelector(`[data-control=${name}]`);
  const part = (name) => box.querySelector(`[data-part=${name}]`);
  const say = (words) => { part("status").textContent = words; };
  const webgl = hasWebGL2();
  const screens = PARTS.map((name) => new (webgl ? Deep : Flat)(part(name)));
  let shown = [];

  const stateOf = () => {
    const number = (name) => Number(control(name).value);
    const low = Math.min(number("low"), number("high") - 1);
    const state = { low, high: number("high"), zoom: number("zoom"), layout: number("layout") };
    for (const plane of PLANES) state[plane] = number(plane);
    for (const name of ["radiological", "cut"]) state[name] = control(name).checked;
    return state;
  };
  const label = () => {
    for (const input of box.querySelectorAll("input[type=range]")) {
      input.parentElement.querySelector("output").textContent = input.value;
    }
  };
  const update = () => {
    label();
    const state = stateOf();
    for (const screen of shown) screen.update(state);
  };
  const load = async () => {
    const choice = control("first").selectedOptions[0];
    const own = choice.dataset.nearest;
    const other = control("second").value || own;
    const [one, two] = await Promise.all([choice.value, other].map((key) => key && volumeOf(key)));
    const hidden = box.querySelectorAll(".screen");
    hidden[1].hidden = hidden[2].hidden = !two;
    shown = two ? screens : screens.slice(0, 1);
    await screens[0].show(one);
    const named = Array.from(control("second").options).find((option) => option.value === other);
    if (two) {
      await screens[1].show(two);
      await screens[2].show(minus(one, two), one);
    }
    part("first-words").textContent = choice.textContent;
    const words = other && other === own ? `: ${choice.dataset.words}` : "";
    part("second-words").textContent = two ? `${named.textContent}${words}` : "";
    part("difference-words").textContent = webgl
      ? "first minus second: warm is brighter, blue is darker; below 5% of the range has no colour"
      : "first minus second: white is brighter, black is darker, grey is equal";
    update();
    say(webgl ? "" : "This browser has no WebGL2: slices without a rendering. The sliders move them.");
  };
  const move = (at) => {
    PLANES.forEach((plane, axis) => {
      const input = control(plane);
      input.value = Math.max(0, Math.min(Number(input.max), Math.round(at[axis])));
    });
  };
  const steps = {
    ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, -1], ArrowUp: [1, 1],
    PageDown: [2, -1], PageUp: [2, 1],
  };
  const pressed = (event) => {
    // The page's own keys; those of NiiVue would change what the controls do not show.
    event.stopImmediatePropagation();
    const step = steps[event.key];
    if (!step || event.type !== "keydown") return;
    event.preventDefault();
    const at = PLANES.map((plane) => Number(control(plane).value));
    at[step[0]] += step[1];
    move(at);
    update();
  };
  for (const name of PARTS) {
    for (const type of ["keydown", "keyup"]) part(name).addEventListener(type, pressed);
  }
  if (webgl) {
    const all = screens.map((screen) => screen.nv);
    for (const nv of all) {
      nv.broadcastTo(all.filter((other) => other !== nv), { "2d": true, "3d": true });
      nv.onLocationChange = (location) => { move(location.vox); label(); };
      nv.onIntensityChange = (volume) => {
        if (volume !== nv.volumes[0]) return;
        control("low").value = volume.cal_min / 2.55;
        control("high").value = volume.cal_max / 2.55;
        update();
      };
    }
  }
  for (const hidden of box.querySelectorAll(".webgl")) hidden.hidden = !webgl;
  box.classList.toggle("gl", webgl);
  const failed = (error) => say(`The viewer stopped: ${error.message}`);
  for (const name of ["first", "second"]) {
    control(name).addEventListener("change", () => load().catch(failed));
  }
  const changing = ["low", "high", "zoom", "layout", "radiological", "cut", ...PLANES];
  for (const name of changing) control(name).addEventListener("input", update);
  control("save").addEventListener("click", () => {
    const sheet = document.createElement("canvas");
    const canvases = shown.map((screen) => screen.canvas);
    sheet.width = canvases.reduce((sum, canvas) => sum + canvas.width, 0);
    sheet.height = Math.max(...canvases.map((canvas) => canvas.height));
    const context = sheet.getContext("2d");
    let left = 0;
    for (const screen of shown) {
      // A WebGL canvas can be read only in the task that drew it.
      if (webgl) screen.nv.drawScene();
      context.drawImage(screen.canvas, left, 0);
      left += screen.canvas.width;
    }
    sheet.toBlob((blob) => saveFile("volumes.png", "image/png", blob), "image/png");
  });
  say("Opening.");
  return load().catch(failed);
};
for (const box of document.querySelectorAll("details.viewer")) {
  box.addEventListener("toggle", () => openViewer(box), { once: true });
}
