"""No output of the whole way from training to leaderboard tells who the real volumes are of.

The cohorts' identifiers can be recognised. Every file that a verb writes is read, whatever it is
packed in, and searched for them and for their hashes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zipfile
import zlib

import numpy as np
import pytest

from tests.command_line import run

pytestmark = pytest.mark.slow

IDENTIFIERS = {"real": "Wernicke", "train": "Brodmann", "holdout": "Penfield"}
N = 12


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder that the verbs wrote into, and what they printed on standard output."""
    import nibabel as nib

    from tests.conftest import AFFINE, blob

    root = tmp_path_factory.mktemp("identifiers")
    for k, (role, identifier) in enumerate(IDENTIFIERS.items()):
        folder = root / role
        folder.mkdir()
        rows = ["participant_id\tage\tsex"]
        for i in range(N):
            subject = f"sub-{identifier}{i:02d}"
            image = nib.Nifti1Image(blob(100 * k + i), AFFINE)
            nib.save(image, folder / f"{subject}_T1w.nii.gz")
            rows.append(f"{subject}\t{30 + 3 * i + k}\t{'FM'[i % 2]}")
        (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    labels = ["file\tsex"] + [f"synth-{i:06d}.nii.gz\t{'FM'[i % 2]}" for i in range(N)]
    (root / "labels.tsv").write_text("\n".join(labels) + "\n")
    out = root / "out"
    out.mkdir()
    real, train, holdout = (f"../{role}" for role in IDENTIFIERS)
    voxels = ("--extractor", "voxels", "--metric", "mmd2")
    board = "leaderboards/b"
    steps = [
        ("train", "memorizer", "--real", train, "--out", "run"),
        ("sample", "run", "--n", N, "--out", "synth"),
        ("benchmark", "init", "b", "--real", real, "--m", N, *voxels),
        ("score", "--benchmark", board, "--real", real, "--synth", "synth",
         "--out", f"{board}/entries/memorizer.json", "--sample-data", "entry.npz"),
        ("score", "--real", real, "--synth", "synth", "--train", train, "--holdout", holdout,
         *voxels, "--metric", "memorization", "--metric", "local_copying", "--resamples", 100,
         "--out", "card.json", "--features", "features.npz", "--neighbours", "neighbours.tsv",
         "--sample-data", "data.npz"),
        ("leaderboard", board, "--html", "board.html"),
        ("report", "card.json", "--real", real, "--synth", "synth", "--train", train),
        ("cite", "card.json"),
        ("drift", "card.json", "card.json", "--junit", "drift.xml"),
        ("utility", "--real", train, "--synth", "synth", "--test", real, "--label", "sex",
         "--extractor", "voxels", "--synth-labels", "../labels.tsv", "--out", "utility.json",
         "--scorecard", "card.json"),
        ("sensitivity", "--real", real, *voxels, "--corruption", "blur", "--out", "sens.json"),
    ]  # fmt: skip
    printed = []
    for step in steps:
        result = run(*step, cwd=out)
        assert result.returncode == 0, (step, result.stderr)
        printed.append(result.stdout)
    return out, "\n".join(printed)


def unpacked(name, content):
    """Yield the bytes of a file, and of all that is packed in it."""
    yield name, content
    if content.startswith(b"\x1f\x8b"):
        yield f"{name} (gzip)", gzip.decompress(content)
    elif content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for part in archive.namelist():
                yield f"{name}/{part}", archive.read(part)
    elif content.startswith(b"\x89PNG"):
        for packed in re.findall(rb"(?:zTXt|iTXt)[^\0]*\0+(.*?)IEND", content, re.S):
            with_text = zlib.decompressobj()
            yield f"{name} (text)", with_text.decompress(packed, 10**6)


def recognisable():
    """Every identifier in words, and the hashes of every subject that could be tried."""
    words = {identifier.lower().encode() for identifier in IDENTIFIERS.values()}
    for identifier in IDENTIFIERS.values():
        for i in range(N):
            for text in (f"sub-{identifier}{i:02d}", f"{identifier}{i:02d}",
                         f"sub-{identifier}{i:02d}_T1w.nii.gz"):  # fmt: skip
                for kind in ("md5", "sha1", "sha256"):
                    digest = hashlib.new(kind, text.encode()).hexdigest()
                    words.add(digest[:12].encode())
    return words


def test_no_file_names_a_real_volume(written):
    out, printed = written
    files = sorted(file for file in out.rglob("*") if file.is_file())
    assert {"neighbours.tsv", "report.html", "utility.json"} < {file.name for file in files}
    searched = re.compile(b"|".join(map(re.escape, sorted(recognisable()))))
    contents = [("standard output", printed.encode())]
    for file in files:
        contents += unpacked(str(file.relative_to(out)), file.read_bytes())
    found = {name for name, content in contents if searched.search(content.lower())}
    assert found == set()
    assert len(contents) > len(files) > 40


def test_pseudonyms_are_there_and_names_where_they_are_asked_for(written):
    out, _ = written
    assert re.search(r"\ttrain-1\t", (out / "neighbours.tsv").read_text(encoding="utf-8"))
    assert "train-1" in (out / "report.html").read_text(encoding="utf-8")
    named = run(
        "report", "card.json", "--real", "../real", "--synth", "synth", "--train", "../train",
        "--identifiers", "--out", "named.html", cwd=out.parent / "out",
    )  # fmt: skip
    page = (out / "named.html").read_text(encoding="utf-8")
    (out / "named.html").unlink()
    assert named.returncode == 0
    assert "sub-Wernicke" in page
    assert "sub-Brodmann" in page


def test_features_have_no_names(written):
    out, _ = written
    for file in ("features.npz", "data.npz"):
        with np.load(out / file) as arrays:
            assert {arrays[name].dtype.kind for name in arrays.files} <= set("fiu")
            if "about" in arrays.files:
                assert json.loads(bytes(arrays["about"]))
