"""The viewer of the report: NiiVue where there is WebGL2, slices where there is none."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import numpy as np
import pytest

from synthbench.errors import ScorecardError
from synthbench.report import scripts
from tests.report.pages import (
    CHROMIUM,
    NO_CHROMIUM,
    NO_GL,
    SOFTWARE_GL,
    Page,
    browse,
    pixels,
    voxels,
)

# ---------------------------------------------------------------- the library


def test_niivue_is_the_file_that_was_reviewed_and_has_its_licence_with_it():
    folder = files("synthbench.report") / "vendor"
    content = (folder / "niivue.umd.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == scripts.NIIVUE_SHA256
    text = scripts.niivue()
    assert text.endswith(content.decode("utf-8"))
    assert "Copyright (c) 2021, Niivue" in text[:200]
    assert "Redistributions in binary form must reproduce" in text[:1000]
    about = (folder / "README.md").read_text(encoding="utf-8")
    for fact in (scripts.NIIVUE_SHA256, scripts.NIIVUE_VERSION, "@niivue/niivue"):
        assert fact in about
    # What would end a script, or keep it from ending. HTML reads a carriage return as a newline.
    assert not re.search(r"</script|<!--|\r|\0", text, re.IGNORECASE)


def test_another_niivue_is_not_written_into_a_page(monkeypatch):
    monkeypatch.setattr(scripts, "NIIVUE_SHA256", "0" * 64)
    with pytest.raises(ScorecardError, match=r"niivue\.umd\.js: the sha256 is 47b896b77ec4"):
        scripts.niivue()


def test_scripts_insert_no_markup():
    for name in ("report.js", "viewer.js"):
        script = scripts.asset(name)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)


@pytest.mark.slow
def test_niivue_is_in_pages_with_pictures_only(full, plain):
    assert "niivue" not in plain
    assert len(plain) < 500_000
    assert any("niivue" in script for script in Page(full).raw["script"])


# ---------------------------------------------------------------- in a browser

OPENED = """
const opened = async () => {
  const box = document.querySelector("details.viewer");
  box.open = true;
  const words = box.querySelector("[data-part=first-words]");
  for (let i = 0; i < 1000 && !words.textContent; i++) await pause(20);
  await pause(50);
  return box;
};
const control = (box, name) => box.querySelector(`[data-control=${name}]`);
const canvasOf = (box, name) => box.querySelector(`canvas[data-part=${name}]`);
const mosaicOf = (key) => {
  const image = document.getElementById(key);
  return { mosaic: image.src, shape: image.dataset.shape, columns: Number(image.dataset.columns) };
};
const started = (found, box) => {
  const choice = control(box, "first").selectedOptions[0];
  found.first = mosaicOf(choice.value);
  found.second = mosaicOf(choice.dataset.nearest);
  found.status = box.querySelector("[data-part=status]").textContent;
  found.captions = Array.from(box.querySelectorAll("figcaption"), (c) => c.textContent);
};
const press = (canvas, key) => {
  canvas.focus();
  for (const type of ["keydown", "keyup"]) {
    canvas.dispatchEvent(new KeyboardEvent(type, { key, code: key, bubbles: true }));
  }
};
"""
DEEP = (
    OPENED
    + """
addEventListener("load", async () => {
  const made = [];
  const Real = niivue.Niivue;
  niivue.Niivue = class extends Real { constructor(...o) { super(...o); made.push(this); } };
  const box = await opened();
  const found = {};
  started(found, box);
  found.images = made.map((nv) => nv.volumes.map((v) => ({
    dims: v.hdr.dims.slice(1, 4), mm: v.hdr.pixDims.slice(1, 4), affine: v.hdr.affine,
    voxels: Array.from(v.img),
  })));
  const marks = ({ opts }) => [opts.isOrientationTextVisible, opts.showAllOrientationMarkers];
  found.marks = made.map(marks);
  const places = () => made.map((nv) => Array.from(nv.frac2vox(nv.scene.crosshairPos), Math.round));
  found.before = places()[0];
  press(canvasOf(box, "first"), "ArrowRight");
  press(canvasOf(box, "second"), "ArrowUp");
  press(canvasOf(box, "difference"), "PageDown");
  found.after = places();
  const low = control(box, "low");
  low.value = 20;
  low.dispatchEvent(new Event("input"));
  found.low = made.map((nv) => nv.volumes[0].cal_min);
  const first = canvasOf(box, "first");
  const lit = () => {
    made[0].drawScene();
    const sheet = document.createElement("canvas");
    [sheet.width, sheet.height] = [first.width, first.height];
    sheet.getContext("2d").drawImage(first, 0, 0);
    return sheet.getContext("2d").getImageData(0, 0, first.width, first.height).data
      .filter((v, i) => i % 4 !== 3 && v > 60).length;
  };
  found.lit = lit();
  const other = control(box, "second");
  other.value = control(box, "first").value;
  other.dispatchEvent(new Event("change"));
  await pause(300);
  found.itself = Math.max(...made[2].volumes[1].img.map(Math.abs));
  let blob = null;
  URL.createObjectURL = (made_of) => { blob = made_of; return "#"; };
  control(box, "save").click();
  for (let i = 0; i < 100 && !blob; i++) await pause(20);
  found.saved = await new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(blob);
  });
  report(found);
});
"""
)
FLAT = (
    OPENED
    + """
addEventListener("load", async () => {
  const box = await opened();
  const found = {};
  started(found, box);
  const canvas = canvasOf(box, "first");
  found.places = ["sagittal", "coronal", "axial"].map((p) => Number(control(box, p).value));
  press(canvas, "PageUp");
  found.axial = control(box, "axial").value;
  const rows = (name) => {
    const c = canvasOf(box, name);
    const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
    return POINTS.map(([x, y]) => data[4 * (y * c.width + x)]);
  };
  found.first_pixels = rows("first");
  found.difference_pixels = rows("difference");
  found.hidden = Array.from(box.querySelectorAll(".webgl"), (e) => getComputedStyle(e).display);
  report(found);
});
"""
)
POINTS = [[8, 14], [16, 15], [6, 10]]
"""Of the axial plane; off the crosshair and the letters."""


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
def test_with_webgl_it_shows_the_volumes_of_the_page_and_their_difference(full, tmp_path):
    """The images that NiiVue holds are those of the mosaics, as Pillow decodes them."""
    found, console = browse(full, tmp_path, DEEP, *SOFTWARE_GL, "--window-size=1280,900")
    assert found["broken"] == found["violations"] == found["requests"] == []
    assert not [line for line in console if "rror" in line]
    assert found["status"] == ""
    assert "nearest real volume" in found["captions"][1]
    first, second = voxels(found["first"]), voxels(found["second"])
    (one,), (two,), (base, gap) = found["images"]
    for image, volume in (
        (one, first),
        (two, second),
        (base, first),
        (gap, first.astype(int) - second),
    ):
        assert image["dims"] == list(volume.shape)
        assert image["mm"] == [4, 4, 4]
        np.testing.assert_array_equal(image["voxels"], volume.ravel(order="F"))
        np.testing.assert_allclose(np.diag(image["affine"]), [4, 4, 4, 1])
        np.testing.assert_allclose(np.array(image["affine"])[:3, 3], -46)
    assert found["marks"] == [[True, True]] * 3
    x, y, z = found["before"]
    assert found["after"] == [[x + 1, y + 1, z - 1]] * 3
    assert found["low"] == pytest.approx([51] * 3)
    assert found["lit"] > 1000
    assert found["itself"] == 0
    # Three pictures side by side, all of them drawn.
    for part in np.split(pixels(found["saved"])[:, :, :3], 3, axis=1):
        assert (part > 60).mean() > 0.01


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
def test_without_webgl_it_shows_slices(full, tmp_path):
    found, console = browse(
        full, tmp_path, FLAT.replace("POINTS", str(POINTS)), *NO_GL, "--window-size=400,900"
    )
    assert found["broken"] == found["violations"] == found["requests"] == console == []
    assert found["status"].startswith("This browser has no WebGL2")
    assert set(found["hidden"]) == {"none"}
    first, second = voxels(found["first"]), voxels(found["second"])
    z = found["places"][2] + 1
    assert found["axial"] == str(z)
    at = [(x, 23 - y, z) for x, y in POINTS]
    assert found["first_pixels"] == [int(first[p]) for p in at]
    gap = [128 + int(first[p]) - int(second[p]) for p in at]
    assert found["difference_pixels"] == [min(max(v, 0), 255) for v in gap]
