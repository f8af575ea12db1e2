"""Every parser of synthbench, with small good files of its kind and how they are damaged."""

from __future__ import annotations

import gzip
import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import save as packed_safetensors

from synthbench.runtime.tar import END, entry
from tests.fuzz import mutations as damage
from tests.fuzz.parser import Parser
from tests.fuzz.records import records
from tests.fuzz.studies import studies

# ---------------------------------------------------------------- images

SHAPE = (10, 9, 8)
AFFINE = np.array([[8.0, 0, 0, -36], [0, 8, 0, -32], [0, 0, 9, -28], [0, 0, 0, 1]])
VOXELS = (np.random.default_rng(0).random(SHAPE) * 200).astype(np.uint8)


def _image(kind: Any, voxels: np.ndarray = VOXELS, order: str | None = None) -> bytes:
    header = None if order is None else kind.header_class(endianness=order)
    image = kind(voxels, AFFINE, header)
    if hasattr(image.header, "set_xyzt_units"):
        image.header.set_xyzt_units("mm")
        image.set_qform(AFFINE, 1)
        image.set_sform(AFFINE, 1)
    content: bytes = image.to_bytes()
    return content


def _pair(kind: Any) -> tuple[bytes, bytes]:
    image = kind(VOXELS, AFFINE)
    files = {name: io.BytesIO() for name in ("header", "image")}
    image.to_file_map(
        {**{name: nib.FileHolder(fileobj=file) for name, file in files.items()},
         **({"mat": nib.FileHolder(fileobj=io.BytesIO())} if "mat" in image.file_map else {})}
    )  # fmt: skip
    return files["header"].getvalue(), files["image"].getvalue()


def _npy() -> tuple[bytes, ...]:
    found = []
    for voxels in (VOXELS, VOXELS.astype(">f8"), np.asfortranarray(VOXELS.astype("f4"))):
        content = io.BytesIO()
        np.save(content, voxels)
        found.append(content.getvalue())
    return tuple(found)


def _cohort(file: Path) -> object:
    from synthbench.cohorts.reading import read_cohort

    return read_cohort(file.parent)


def _cohort_without_geometry(file: Path) -> object:
    from synthbench.cohorts.reading import read_cohort

    return read_cohort(file.parent, assume_grid=8.0)


def _counted(file: Path) -> object:
    from synthbench.cohorts.reading import read_cohort

    return read_cohort(file.parent, role="synth", count_failures=True)


def _scan(file: Path) -> object:
    from synthbench.cohorts.preparation.image import read_image

    return read_image(file)


def _brought_in(file: Path) -> object:
    from synthbench.cohorts.choice import CohortFiles
    from synthbench.cohorts.foreign.rules import Statement
    from synthbench.sampling.importing import ImportRequest, import_volumes

    stated = Statement.parse("0:255", "RAS", "8")
    out = file.parent.parent / "out"
    for old in out.glob("*"):
        old.unlink()
    return import_volumes(ImportRequest(CohortFiles(file.parent), out=out, stated=stated))


_NIFTI = (
    _image(nib.Nifti1Image), _image(nib.Nifti1Image, VOXELS.astype(">f4"), ">"),
    _image(nib.Nifti1Image, VOXELS.astype(np.int16)),
)  # fmt: skip
_NIFTI2 = (_image(nib.Nifti2Image), _image(nib.Nifti2Image, VOXELS.astype(">f8"), ">"))
_MGH = (_image(nib.MGHImage), _image(nib.MGHImage, VOXELS.astype(">f4")))
_GOOD = {"sub-0.nii": _NIFTI[0]}
_SHARD = (
    b"".join(entry(f"sub-{i}.nii", _NIFTI[i]) + entry(f"sub-{i}.json", b"{}") for i in (0, 2)) + END
)
_SHARDS = "".join(
    f"{path}\t{digest}\n" for path, digest in
    [("path", "sha256"), *((f"a.tar/sub-{i}.nii", sha256(_NIFTI[i]).hexdigest()) for i in (0, 2))]
)  # fmt: skip


def _images() -> list[Parser]:
    found = [
        Parser("NIfTI-1", "c/sub-1.nii", damage.damaged_bytes(_NIFTI, 360), _cohort),
        Parser("NIfTI-1, gzip", "c/sub-1.nii.gz", damage.damaged_gzip(_NIFTI), _cohort),
        Parser("NIfTI-2", "c/sub-1.nii", damage.damaged_bytes(_NIFTI2, 550), _cohort),
        Parser("MGH", "c/sub-1.mgh", damage.damaged_bytes(_MGH, 100), _cohort),
        Parser("MGH, gzip", "c/sub-1.mgz", damage.damaged_gzip(_MGH), _cohort),
        Parser("npy", "c/sub-1.npy", damage.damaged_bytes(_npy(), 128), _cohort_without_geometry),
        Parser("NIfTI-1 that may fail", "c/sub-1.nii", damage.damaged_bytes(_NIFTI, 360), _counted,
               {"c/sub-0.nii": _NIFTI[0]}),
        Parser("tar", "c/a.tar", damage.damaged_bytes((_SHARD,), 1024), _cohort),
        Parser("NIfTI-1 of a scan", "sub-1.nii", damage.damaged_bytes(_NIFTI, 360), _scan),
        Parser("NIfTI-1 to bring in", "c/sub-1.nii", damage.damaged_bytes(_NIFTI, 360), _brought_in,
               also_called=("--range", "--spacing", "--orientation")),
    ]  # fmt: skip
    for name, kind in (("NIfTI-1 pair", nib.Nifti1Pair), ("ANALYZE pair", nib.Spm99AnalyzeImage)):
        header, voxels = _pair(kind)
        read = _cohort if kind is nib.Nifti1Pair else _cohort_without_geometry
        found.append(
            Parser(
                name, "c/sub-1.hdr", damage.damaged_bytes((header,)), read, {"c/sub-1.img": voxels}
            )
        )
    return found


# ---------------------------------------------------------------- tables

_PARTICIPANTS = "participant_id\tage\tsex\tsite\nsub-0\t61.5\tF\tA\nsub-1\t70\tM\tB\n"
_MANIFEST = "path\tparticipant_id\tage\nsub-0.nii\tsub-0\t61\nsub-1.nii\tsub-1\t70\n"
_TWO = {"c/sub-0.nii": _NIFTI[0], "c/sub-1.nii": _image(nib.Nifti1Image, VOXELS[::-1])}
_REQUESTS = "age,sex,seed\n61.5,F,1\n70,M,2\n55,n/a,3\n"


def _manifest(file: Path) -> object:
    from synthbench.cohorts.listing import list_cohort

    return list_cohort(file, "real")


def _participants(file: Path) -> object:
    from synthbench.cohorts.listing import list_cohort

    return list_cohort(file.parent, "real")


def _selected(file: Path) -> object:
    from synthbench.cohorts.datasets.selection import select

    out = file.with_name("selected.tsv")
    out.unlink(missing_ok=True)
    return select(file, out)


def _requested(file: Path) -> object:
    from synthbench.cohorts.conditions import Condition, Conditions
    from synthbench.cohorts.requests import read_conditions

    known = Conditions((
        Condition("age", "numeric", 50.0, 80.0, (), 0, tuple(np.linspace(50, 80, 11)), ()),
        Condition("sex", "categorical", None, None, ("F", "M"), 1, (), (0.5, 0.5)),
    ))  # fmt: skip
    return known.encode(read_conditions(file, known))


def _measures(file: Path) -> object:
    from synthbench.cohorts.volume_table import VolumeTable

    table = VolumeTable.read(file, "--measures")
    return [table.values(name, [0]) for name in table.columns]


def _split(file: Path) -> None:
    from synthbench.cohorts.cohort import Entry
    from synthbench.cohorts.split_record import verify

    verify(file.parent / "train.tsv", [Entry(file, "a.nii", "sub-0", "ab" * 32, None)])


def _tables() -> list[Parser]:
    split = f"part\tparticipant_id\tpath\tcontent\ntrain\tsub-0\ta.nii\t{'ab' * 32}\n"
    table = damage.damaged_table
    return [
        Parser("manifest", "c/list.tsv", table((_MANIFEST,)), _manifest, _TWO,
               ("no such file", "volume")),
        Parser("participants.tsv", "c/participants.tsv", table((_PARTICIPANTS,)), _participants,
               _TWO),
        Parser("shards.tsv", "c/shards.tsv", table((_SHARDS,)), _participants,
               {"c/a.tar": _SHARD}, ("a.tar",)),
        Parser("manifest of scans", "c/list.tsv", table((_MANIFEST,)), _selected, _TWO,
               ("manifest",)),
        Parser("requested conditions", "requests.csv", table((_REQUESTS,)), _requested),
        Parser("measures", "m.csv", table(("file,icv\na,1400\nb,1500\n",)), _measures),
        Parser("split.tsv", "split.tsv", table((split,)), _split, also_called=("train.tsv",)),
    ]  # fmt: skip


# ---------------------------------------------------------------- run folders

_GRID = {"shape": [4, 4, 4], "affine": [2.0, 0, 0, 0, 0, 2.0, 0, 0, 0, 0, 2.0, 0, 0, 0, 0, 1.0]}
_ARRAYS = {"mean": np.zeros(64, "f4"), "components": np.ones((2, 64), "f4"),
           "shape": np.array([4, 4, 4])}  # fmt: skip
_WEIGHTS = packed_safetensors(_ARRAYS)
_CONFIG = {"generator": "pca-gaussian", "preset": None, "real": None, "intensity": "percentile",
           "space": {"shape": [4, 4, 4], "spacing": None}, "seed": 3, "variance": 0.7}  # fmt: skip
_OPTIONS = {"all": {"seed": 3, "extractor": ["voxels"]}, "score": {"real": "r", "cache": True},
            "data": {"split": {"by": ["sex"], "out": "split"}}}  # fmt: skip
_KEY = "a secret key, with an \u00e9 in it\n".encode()
_CONDITION = {"name": "age", "kind": "numeric", "low": 20.0, "high": 80.0, "levels": [],
              "missing": 0, "quantiles": [20.0, 50.0, 80.0], "frequencies": []}  # fmt: skip


def _options(file: Path) -> object:
    import synthbench.cli.app
    from synthbench.cli.common.settings_file import sections_of, settings_of

    assert synthbench.cli.app  # it fills the table of verbs
    return settings_of(file, sections_of(file), ("score",), found=True)


def _record() -> dict[str, Any]:
    import hashlib

    return {
        "generator": "pca-gaussian", "finished": True, "trained": True,
        "cohort": {"fingerprint": "cd" * 32, "n": 70, "subjects": 68, "embedded": False},
        "validation": None, "space": _GRID, "conditions": None,
        "sources": [{"name": "IXI", "licence": "CC BY-SA 3.0", "terms": "", "url": ""}],
        "subgroups": {"age": {"20 to 29": 40}, "sex": {"F": 68}}, "accepted": ["background"],
        "environment": {"python": "3.11", "cpus": 2, "gpus": ["A"], "packages": {"torch": "2"}},
        "steps": 700, "processes": 4, "device": "cpu", "training_seconds": 54.0,
        "parameters": 100, "gpu_hours": 1.0, "weights_sha256": hashlib.sha256(_WEIGHTS).hexdigest(),
        "energy": {"kwh": 1.25, "methods": ["codecarbon"]},
        "changes": [{"setting": "steps", "before": 1, "after": 2, "step": 3}],
        "diversity": {"step": 1, "volumes": 2, "real_volumes": 2, "diversity": 0.1, "twins": 0.5,
                      "similarity": 0.9, "real_similarity": 0.5, "collapsed": True},
    }  # fmt: skip


def _run(**changed: bytes) -> dict[str, bytes]:
    files = {"config.yaml": json.dumps(_CONFIG).encode(),
             "run.json": json.dumps(_record()).encode(),
             "weights.safetensors": _WEIGHTS}  # fmt: skip
    return {f"run/{name}": content for name, content in {**files, **changed}.items()}


def _opened_run(file: Path) -> object:
    """What sampling, the model card and resuming read of a run."""
    from synthbench.runs.configuration import configured
    from synthbench.runs.folder import Run
    from synthbench.runs.model_card import write_model_card
    from synthbench.sampling.source import Source

    folder = next(parent for parent in file.parents if parent.name == "run")
    (folder / "README.md").unlink(missing_ok=True)
    run = Run.open(folder)
    write_model_card(run)
    configured(run, None)
    return Source.of(run, None, None, clean=False).conditions.encode([{}])


def _sampled(file: Path) -> object:
    """A volume of a run whose weights are these: run.json has their hash."""
    from synthbench import registry
    from synthbench.runs.folder import Run
    from synthbench.runtime.files import sha256_file

    run = Run(file.parent)
    (file.parent / "run.json").write_text(
        json.dumps({**_record(), "weights_sha256": sha256_file(file)}), encoding="utf-8"
    )
    return list(registry.load("generators", "pca-gaussian")().sample(Run.open(run.folder), [1]))


def _checkpoint(file: Path) -> object:
    from synthbench.runs.checkpoint import last_good
    from synthbench.runs.folder import Run

    return last_good(Run(file.parents[2]))


def _sidecar(file: Path) -> None:
    from synthbench.runs.sidecar import read_sidecar
    from synthbench.sampling.folder import write_conditions_table

    volume = file.with_name("synth-000000.nii")
    read_sidecar(volume)
    write_conditions_table(file.with_name("conditions.tsv"), [volume])


def _scored_sidecar(file: Path) -> object:
    from synthbench.runs.sidecar import found_sidecars
    from synthbench.scoring.requested import _from_sidecars
    from synthbench.scoring.setup import origin_of, seeds

    found = found_sidecars([file.with_name("synth-000000.nii")])
    if found[0].get("conditions"):
        _from_sidecars(found)
    return origin_of(found), seeds(found)


def _settings(file: Path) -> object:
    from synthbench.runs.configuration import resolve

    return resolve("pca-gaussian", config=file)


def _override(file: Path) -> object:
    from synthbench.errors import UsageError
    from synthbench.runs.configuration import resolve

    text = file.read_bytes().decode("utf-8", errors="replace")
    try:
        return resolve("pca-gaussian", overrides=[f"variance={text}"])
    except UsageError as error:
        raise UsageError(f"{file.name}: {error}") from error


def _tracked(file: Path) -> object:
    from synthbench.training.tracking import _Identities

    return _Identities(file).read()


def _watermark_key(file: Path) -> object:
    from synthbench.sampling.watermark import WatermarkKey

    return WatermarkKey.parse(f"@{file}")


def _ready(file: Path) -> object:
    from synthbench.generators.loop.volume_cache import holds

    return holds(file, {"cohort": "x"})


def _step_log(file: Path) -> None:
    from synthbench.generators.loop.step_log import StepLog

    StepLog(file, ("loss",)).keep(2)


def _other_arrays() -> st.SearchStrategy[bytes]:
    """Arrays of other names, shapes and kinds, in a good file."""
    shapes = st.sampled_from(((), (0,), (1,), (3,), (64,), (2, 64), (2, 63), (64, 2), (4, 4, 4)))
    kinds = st.sampled_from(("f4", "f8", "f2", "i8", "u1", "?"))
    values = st.sampled_from((0.0, 1.0, np.nan, np.inf, 1e30))
    made = st.builds(
        lambda shape, kind, value: np.full(shape, value if kind[0] == "f" else 1, kind),
        shapes, kinds, values,
    )  # fmt: skip
    names = st.sampled_from(("mean", "components", "shape", "x"))
    return st.dictionaries(names, made, max_size=3).map(
        lambda arrays: packed_safetensors({**_ARRAYS, **arrays} if len(arrays) < 3 else arrays)
    )


def _runs() -> list[Parser]:
    loss = b"step,loss\n1,0.5\n2,0.25\n3,0.2\n"
    about = {"synthetic": True, "generator": "g", "seed": 3,
             "conditions": {"age": 61.0, "sex": None}, "extrapolated": ["age"], "drawn": [],
             "seconds": 0.5, "weights_sha256": "ab" * 32, "parameters": 3,
             "watermark": {"version": 1, "key_id": "0123456789ab"}}  # fmt: skip
    state = {"step": 3, "seconds": 1.0, "volumes_a_step": 1, "sha256": {}}
    conditional = {**_record(), "conditions": [_CONDITION]}
    return [
        Parser("run.json", "run/run.json", damage.damaged_json((_record(), conditional)),
               _opened_run, _run(), ("run", "generator")),
        Parser("config.yaml", "run/config.yaml", damage.damaged_yaml((_CONFIG,)), _opened_run,
               _run(), ("generator", "intensity", "run")),
        Parser("loss.csv", "run/loss.csv", damage.damaged_bytes((loss,)), _opened_run, _run()),
        Parser("loss.csv, resumed", "loss.csv", damage.damaged_bytes((loss,)), _step_log),
        Parser("weights", "run/weights.safetensors", damage.damaged_bytes((_WEIGHTS,)), _sampled,
               _run(), ("weights",)),
        Parser("weights of other forms", "run/weights.safetensors", _other_arrays(), _sampled,
               _run(), ("weights",)),
        Parser("state.json", "run/checkpoints/step-00000003/state.json",
               damage.damaged_json((state,)), _checkpoint, also_called=("ema.safetensors",)),
        Parser("checkpoint", "run/checkpoints/step-00000003/ema.safetensors",
               damage.damaged_bytes((_WEIGHTS,)), _checkpoint,
               {"run/checkpoints/step-00000003/state.json": json.dumps(state).encode()}),
        Parser("sidecar", "synth-000000.json", damage.damaged_json((about,)), _sidecar),
        Parser("sidecar, scored", "synth-000000.json", damage.damaged_json((about,)),
               _scored_sidecar),
        Parser("--config", "settings.yaml", damage.damaged_yaml((_CONFIG,)), _settings,
               also_called=("pca-gaussian",)),
        Parser("synthbench.yaml", "synthbench.yaml", damage.damaged_yaml((_OPTIONS,)), _options),
        Parser("--set", "typed", damage.damaged_yaml(({"a": 1},)), _override),
        Parser("trackers", "ids.json", damage.damaged_json(({"wandb": "x"},)), _tracked),
        Parser("key of a watermark", "secret.txt", damage.damaged_bytes((_KEY,)), _watermark_key),
        Parser("volumes.json", "volumes.json", damage.damaged_json(({"cohort": "x"},)), _ready),
    ]  # fmt: skip


def parsers() -> list[Parser]:
    """Return every parser."""
    return [*_images(), *_tables(), *_runs(), *records(), *studies()]


def gzip_of_zeros(size: int) -> bytes:
    """Return a NIfTI of `SHAPE`, followed by zeros, compressed a thousandfold."""
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(_NIFTI[0])
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
    return content.getvalue()
