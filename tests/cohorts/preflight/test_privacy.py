"""Fields, sidecars, tables, names and faces that tell a person: named, and printed only on request.

Headers are written by nibabel and gzip, or byte by byte where these do not write the field.
"""

from __future__ import annotations

import gzip
import io
import json
import struct

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.inspection import inspect
from synthbench.cohorts.preflight import check
from synthbench.cohorts.preflight.faces import FACE_ML, face_of
from synthbench.cohorts.preflight.header_texts import header_texts
from synthbench.cohorts.preflight.identifiers import in_header, in_name, in_sidecar, in_table
from synthbench.cohorts.preflight.privacy import PRIVACY
from synthbench.volumes import mni152
from synthbench.volumes.grid import Space, resample
from tests.command_line import run
from tests.conftest import AFFINE, blob


def image(kind=nib.Nifti1Image, order="<", extensions=(), **fields):
    """The bytes of an image with these texts in its header."""
    made = kind(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    if order == ">":
        made = kind(np.zeros((4, 4, 4), np.uint8), np.eye(4), made.header.as_byteswapped(">"))
    for name, text in fields.items():
        made.header[name] = text
    for code, content in extensions:
        made.header.extensions.append(nib.nifti1.Nifti1Extension(code, content))
    return made.to_bytes()


def written(folder, content, name="sub-01_T1w.nii"):
    file = folder / name
    file.write_bytes(content)
    return file


# ---------------------------------------------------------------- headers


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_texts_of_a_header_are_found_in_every_form(tmp_path, kind, order, packed):
    content = image(
        kind, order, [(6, b"scanned for Dr. House"), (4, b"[jane@host: Wed Dec  4 2024] 3dcalc")],
        descrip=b"DOE^JOHN", aux_file=b"see notes", intent_name=b"t-test",
    )  # fmt: skip
    file = written(tmp_path, gzip.compress(content) if packed else content)
    assert header_texts(file) == {
        "descrip": "DOE^JOHN",
        "aux_file": "see notes",
        "intent_name": "t-test",
        "extension 6 (comment)": "scanned for Dr. House",
        "extension 4 (AFNI)": "[jane@host: Wed Dec  4 2024] 3dcalc",
    }
    assert set(in_header(file)) == {
        "descrip: a name",
        "aux_file: a free text",
        "extension 6 (comment)",
        "extension 4 (AFNI): a date, an address of mail or of a user",
    }


def test_the_fields_of_analyze_are_known(tmp_path):
    """`patient_id` has 10 bytes at 283, `exp_date` 10 at 293 (dbh.h)."""
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    header[283:289] = b"KH1234"
    header[293:303] = b"2019-03-07"
    written(tmp_path, bytes(header), "a.hdr")
    voxels = written(tmp_path, b"\0" * 64, "a.img")
    assert header_texts(voxels) == {"patient_id": "KH1234", "exp_date": "2019-03-07"}
    assert set(in_header(voxels)) == {"patient_id", "exp_date: a date"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sub-01_T1w.nii", {}),
        ("Doe_Jane.nii", {"gzip file name: another than the file's": "Doe_Jane.nii"}),
        (
            "19700131.nii",
            {"gzip file name: another than the file's, a date": "19700131.nii"},
        ),
    ],
)
def test_the_name_that_gzip_keeps_is_compared_with_the_files(tmp_path, name, found):
    packed = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=packed, mtime=0) as stream:
        stream.write(image())
    file = written(tmp_path, packed.getvalue(), "sub-01_T1w.nii.gz")
    assert in_header(file) == found


@pytest.mark.parametrize(
    "text",
    ["", "FSL5.0", "6.0.5:9e026117", "spm - 3D normalized", "FreeSurfer Dec  8 2013", "none",
     "SYNTHETIC: synthbench", "TE=2.98;Time=100644.230;phase=1"],
)  # fmt: skip
def test_what_programs_write_is_not_reported(tmp_path, text):
    assert in_header(written(tmp_path, image(descrip=text.encode()))) == {}


@pytest.mark.parametrize("cut", [0, 3, 100, 347, 348, 352, 356, 370])
def test_a_header_that_is_cut_raises_nothing(tmp_path, cut):
    content = image(extensions=[(6, b"text")], descrip=b"DOE^JOHN")
    in_header(written(tmp_path, content[:cut]))
    in_header(written(tmp_path, gzip.compress(content)[:cut]))
    damaged = bytearray(content)
    struct.pack_into("<2i", damaged, 352, 2**31 - 1, 6)
    assert set(in_header(written(tmp_path, bytes(damaged)))) == {"descrip: a name"}


# ---------------------------------------------------------------- sidecars, tables, names


def test_keys_of_sidecars_are_found_at_any_depth(tmp_path):
    fields = {
        "EchoTime": 0.003, "AcquisitionTime": "10:06:44", "PatientSex": "F",
        "PatientName": "Doe", "InstitutionName": "", "DeviceSerialNumber": 4711,
        "AcquisitionDateTime": "1925-01-01T00:00:00", "StudyDate": "1901-01-01",
        "global": {"const": [{"patientbirthdate": "19700131", "StationName": "anonymous"}]},
    }  # fmt: skip
    file = tmp_path / "a.json"
    file.write_text(json.dumps(fields))
    assert in_sidecar(file) == {
        "AcquisitionDateTime": "1925-01-01T00:00:00", "DeviceSerialNumber": "4711",
        "PatientName": "Doe", "patientbirthdate": "19700131",
    }  # fmt: skip
    for broken in (b"", b"\xff", b"[" * 100_000, b"3"):
        file.write_bytes(broken)
        assert in_sidecar(file) == {}


def test_columns_of_tables_are_found_by_name_and_by_content(tmp_path):
    file = tmp_path / "participants.tsv"
    file.write_text(
        "participant_id\tage\tdate of birth\tcode\tnote\tacq_time\n"
        "sub-01\t20190307\tn/a\t19700131\t2019-03-07\t1901-02-03T10:00:00\n"
        "sub-02\t34\t31.01.1970\t2\tjane@host.org\t1901-02-03T10:00:00\n"
    )
    assert in_table(file) == {"date of birth": "31.01.1970", "note: a date": "2019-03-07"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sub-JohnDoe/anat/sub-JohnDoe_T1w.nii.gz", "a name"),
        ("Doe, Jane.nii", "a name"),
        ("DOE^JANE_T1.nii", "a name"),
        ("sub-01/ses-20190307/anat/sub-01_T1w.nii.gz", "a date"),
        ("T1_07.03.2019.nii.gz", "a date"),
        ("ADNI_002_S_0295_MR_MP-RAGE_br_raw_20110602125224397_100.nii", "a date"),
        ("IXI012-HH-1211-T1.nii.gz", None),
        ("sub-CC110033_T1w.nii.gz", None),
        ("OAS1_0001_MR1_mpr_n4_anon_111_t88_gfc.hdr", None),
        ("synth-20190307.nii.gz", "a date"),
        ("synth-000001.nii.gz", None),
        ("sub-01_run-19011231_T1w.nii.gz", None),
    ],
)
def test_names_of_files_that_tell_a_person(name, found):
    assert in_name(name) == found


# ---------------------------------------------------------------- faces


def head(face: bool, degrees: float = 0.0, moved=(0.0, 0.0, 0.0)):
    """A head of 4 mm voxels: MNI152's brain, a dark skull, a scalp, a neck, and perhaps a face."""
    axes = np.meshgrid(*[np.arange(n) * 4.0 for n in (48, 64, 72)], indexing="ij")
    corner = np.array([-94.0, -126.0, -170.0])
    angle = np.deg2rad(degrees)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]]
    )
    grid = np.eye(4)
    grid[:3, :3], grid[:3, 3] = 4 * np.eye(3), corner
    to_mni = np.eye(4)
    to_mni[:3, :3] = turn
    to_mni[:3, 3] = -turn @ np.array(moved)
    space = Space.of(axes[0].shape, grid)
    template = mni152.t1()
    in_brain = resample(
        template.values.astype(np.float32), template.space, Space.of(space.shape, to_mni @ grid)
    )
    brain = np.clip(in_brain / in_brain.max(), 0, 1)
    x, y, z = (to_mni[:3, :3] @ (np.stack([a.ravel() for a in axes]) + corner[:, None])
               + to_mni[:3, 3:]).reshape(3, *space.shape)  # fmt: skip
    radius = np.sqrt((x / 84) ** 2 + ((y + 17) / 104) ** 2 + ((z - 5) / 94) ** 2)
    volume = np.where(radius < 1, 0.05, 0).astype(np.float32)
    volume[(radius > 0.93) & (radius < 1)] = 0.8
    volume[(np.hypot(x, y + 40) < 55) & (z < -50)] = 0.5
    volume[(y > 20) & (z < -20)] = 0
    if face:
        volume[(np.abs(x) < 55) & (y > -10) & (y < 85) & (z < -30) & (z > -110)] = 0.5
    volume = np.where(brain > 0.1, brain, volume)
    return inspect(volume, space, space, dtype="float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("degrees", "moved"), [(0, (0, 0, 0)), (17, (9, -14, 22)), (-12, (0, 20, 0))]
)
def test_a_face_is_found_wherever_the_head_is_and_only_where_there_is_one(degrees, moved):
    """The box of the face has at least 35 mm in front, 55 down and 100 across: 190 mL."""
    there, removed = (face_of(head(face, degrees, moved)) for face in (True, False))
    assert there.there is True
    assert there.foreground_ml == pytest.approx(190, abs=60)
    assert removed.there is False
    assert removed.foreground_ml < FACE_ML / 2
    # The head's own mm are taken to the template's: the middle of the brain comes back.
    assert there.to_mni is not None
    middle = there.to_mni[:3, :3] @ np.array(moved, dtype=float) + there.to_mni[:3, 3]
    assert np.abs(middle).max() < 9


def test_where_no_brain_is_found_it_is_not_said_whether_there_is_a_face():
    noise = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32)
    space = Space.of(noise.shape, np.diag([6.0, 6.0, 6.0, 1.0]))
    assert face_of(inspect(noise, space, space, dtype="float32")).there is None
    small = Space.of((4, 4, 4), np.diag([6.0, 6.0, 6.0, 1.0]))
    assert face_of(inspect(noise[:4, :4, :4], small, small, dtype="float32")).there is None


# ---------------------------------------------------------------- the report


@pytest.fixture
def cohort(tmp_path):
    """Six volumes that tell a person in every way but by a face."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    for i in range(6):
        made = nib.Nifti1Image(blob(i), AFFINE)
        made.header["descrip"] = b"DOE^JOHN"
        nib.save(made, folder / f"sub-JaneRoe{chr(97 + i)}_T1w.nii.gz")
    (folder / "participants.tsv").write_text("participant_id\tsurname\nsub-JaneRoea\tSecretname\n")
    (folder / "T1w.json").write_text('{"StationName": "Secretstation"}')
    return folder


def test_data_info_names_field_and_file_and_prints_the_value_only_on_request(cohort):
    found = run("data", "info", cohort, "--json")
    findings = {f["rule"]: f["message"] for f in json.loads(found.stdout)["findings"]}
    assert set(PRIVACY) - set(findings) == {"face"}
    assert "sub-JaneRoea_T1w.nii.gz (descrip: a name)" in findings["identifying-header"]
    table = findings["identifying-table"]
    assert "participants.tsv (surname)" in table
    assert "T1w.json (StationName)" in table
    for secret in ("DOE^JOHN", "Secretname", "Secretstation"):
        assert secret not in found.stdout + found.stderr
    asked = run("data", "info", cohort, "--json", "--identifiers").stdout
    for secret in ("DOE^JOHN", "Secretname", "Secretstation"):
        assert secret in asked


def test_a_manifest_is_read_with_the_sidecars_of_its_volumes(cohort, tmp_path):
    files = sorted(cohort.glob("*.nii.gz"))
    files[0].with_name("sub-JaneRoea_T1w.json").write_text('{"PatientID": "7"}')
    manifest = tmp_path / "some.csv"
    manifest.write_text(
        "path,dob\n" + "".join(f"cohort/{file.name},1970-01-31\n" for file in files)
    )
    report = check.report(manifest)
    (message,) = [f.message for f in report.findings if f.rule == "identifying-table"]
    assert "some.csv (dob)" in message
    assert "cohort/sub-JaneRoea_T1w.json (PatientID)" in message
    assert "StationName" not in message


def test_privacy_stops_no_run_and_changes_no_record(cohort):
    from synthbench.cohorts.reading import read_cohort

    within = check.findings_within(read_cohort(cohort), "real")
    assert not {finding.rule for finding in within} & set(PRIVACY)
    report = check.report(cohort)
    told = [finding for finding in report.findings if finding.rule in PRIVACY]
    assert {finding.severity for finding in told} == {"warning"}
