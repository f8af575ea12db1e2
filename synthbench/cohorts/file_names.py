"""What the name of a volume's file says: BIDS entities, suffix, kind of image.

Entities stand in the file's name or in the names of its folders, such as `sub-01/ses-2/T1w.nii.gz`
(https://bids-specification.readthedocs.io, "Entities").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

ENTITIES = (
    "sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec",
    "dir", "run", "mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split",
    "recording", "chunk", "seg", "res", "den", "label", "desc", "atlas", "cohort", "model",
    "method", "from", "to", "mode",
)  # fmt: skip
"""The entities of BIDS raw data and derivatives."""

_SCAN = ("sub", "ses", "sample", "task", "acq", "run", "trc", "dir")
"""Entities that tell two scans of a person apart; the others tell versions of one scan apart."""

T1W = frozenset({"t1", "t1w", "t1n", "mprage", "mpr", "spgr", "bravo"})
CONTRASTS: dict[str, str] = {
    **dict.fromkeys(sorted(T1W), "T1-weighted"),
    **dict.fromkeys(("t1ce", "t1c", "t1gd", "t1post", "t1km"), "T1-weighted with contrast agent"),
    **dict.fromkeys(("t2", "t2w"), "T2-weighted"),
    **dict.fromkeys(("flair", "t2f", "t2flair"), "FLAIR"),
    **dict.fromkeys(("t2star", "t2starw", "t2s", "swi", "swan"), "T2*-weighted"),
    **dict.fromkeys(("pd", "pdw", "pdt2"), "proton density"),
    **dict.fromkeys(("dwi", "adc", "fa", "md", "dti", "trace", "b0", "b1000"), "diffusion"),
    **dict.fromkeys(("bold", "sbref", "rest", "epi", "fmri"), "functional"),
    **dict.fromkeys(("asl", "cbf", "m0", "m0scan", "perf"), "perfusion"),
    **dict.fromkeys(("mra", "tof", "angio"), "angiography"),
    **dict.fromkeys(("t1map", "t2map", "t2starmap", "qsm", "unit1", "mp2rage"), "quantitative map"),
    **dict.fromkeys(("ct", "pet"), "another modality"),
}
"""Words that name a contrast, in small letters, and what they mean."""

_SHORT = frozenset({"pd", "fa", "md", "ct", "mr", "rest", "trace", "b0", "perf", "m0"})
"""Contrast words that are also initials of other things: they count as a name's last word only."""

_LABELS = re.compile(
    r".*(mask|dseg|probseg|segmentations?|labels?|labelmap|parcellations?)\d*"
    r"|.*(?<![a-z])seg\d*|[a-z0-9]{0,6}seg|(a|wm|bn)?parc|aseg|roi|rois|lesions?|tissues?"
    r"|pve|pveseg|mixeltype|biasfield|warp|jacobian|labelst[rs]"
)
"""Words, in small letters, that name a mask, a label map, or a map of another quantity."""

PASSED_OVER = ("derivatives", "sourcedata", "code")
"""Folders of a BIDS dataset that hold what is made from it, or what it was made from."""


@dataclass(frozen=True)
class FileName:
    """What the name of a volume's file says.

    Attributes
    ----------
    file
        The file.
    name
        Its path relative to the cohort, as messages show it.
    stem
        The file's name without the ending of its format.
    entities
        Entities of the file's name and, where that has none of the kind, of its folders.
    words
        What the file's name has beside entities, such as a suffix ("T1w"), in order.
    folders
        The names of its folders below the cohort, from the outermost.
    """

    file: Path
    name: str
    stem: str
    entities: dict[str, str]
    words: tuple[str, ...]
    folders: tuple[str, ...]

    @property
    def suffix(self) -> str:
        """The last word, as in BIDS; empty where the name ends with an entity."""
        return self.words[-1] if self.words and self.stem.endswith(self.words[-1]) else ""

    @property
    def nested(self) -> str | None:
        """The folder of `PASSED_OVER` that it lies in, with the pipeline's folder below it."""
        for i, folder in enumerate(self.folders):
            if folder.lower() in PASSED_OVER:
                return "/".join(self.folders[i : i + 2])
        return None

    @property
    def is_label_map(self) -> bool:
        """True where the name says that it is a mask, a label map or another map."""
        if "label" in self.entities:
            return True
        last = [word.lower() for word in self.words[-2:]]
        if any(_LABELS.fullmatch(word) for word in last):
            return True
        return bool(self.folders) and bool(_LABELS.fullmatch(self.folders[-1].lower()))

    @property
    def contrast(self) -> str | None:
        """The word for a contrast in the file's name or, where it has none, in its folder's."""
        words = [word.lower() for word in self.words]
        for place in range(len(words) - 1, -1, -1):
            last = place == len(words) - 1
            if words[place] in CONTRASTS and (last or words[place] not in _SHORT):
                return self.words[place]
        if self.folders and self.folders[-1].lower() in CONTRASTS:
            return self.folders[-1]
        return None

    @property
    def kind(self) -> str:
        """What tells it from other images of the same scan, such as "T1w" or "desc-brain_T1w"."""
        versions = [f"{key}-{value}" for key, value in self.entities.items() if key not in _SCAN]
        words = self.words if "sub" in self.entities else self.words[-1:]
        if self.contrast and "sub" not in self.entities:
            words = (self.contrast,)
        # Numbers count scans: scan1 and scan2 are of one kind.
        plain = (w if w.lower() in CONTRASTS else w.rstrip("0123456789") for w in words)
        return "_".join([*versions, *(word for word in plain if word)])

    @property
    def scan(self) -> tuple[str, ...]:
        """What images of one scan have in common."""
        if "sub" in self.entities:
            return tuple(f"{key}-{self.entities[key]}" for key in _SCAN if key in self.entities)
        word = self.contrast or (self.words[-1] if self.words else "")
        others = list(self.words)
        folders = list(self.folders)
        for place in (others, folders):
            if word in place:
                place.pop(len(place) - 1 - place[::-1].index(word))
                break
        return ("/".join(folders), "_".join(others))

    def ends_with(self, suffix: str) -> bool:
        """Return True where the name ends with whole words, in any case: "desc-brain_T1w"."""
        end = rf"(?:^|[^A-Za-z0-9]){re.escape(suffix)}"
        if re.search(end + "$", self.stem, re.IGNORECASE):
            return True
        contrast = self.contrast
        return contrast is not None and contrast.lower() == suffix.lower()


def file_name(file: Path, name: str) -> FileName:
    """Return what a file's name says; `name` is its path relative to the cohort."""
    *folders, last = PurePath(name).parts
    stem = re.sub(r"\.(nii(\.gz)?|mg[hz]|np[yz]|img|hdr)(\.gz)?$", "", last, flags=re.IGNORECASE)
    entities: dict[str, str] = {}
    for folder in folders:
        entities |= {k: v for k, v in _entities(folder).items() if k in ("sub", "ses")}
    entities |= _entities(stem)
    words = [
        word
        for part in stem.split("_")
        if not _entity(part)
        for word in re.split(r"[^A-Za-z0-9]+", part)
        if word
    ]
    return FileName(file, name, stem, entities, tuple(words), tuple(folders))


def _entities(text: str) -> dict[str, str]:
    pairs = (_entity(part) for part in text.split("_"))
    return dict(pair for pair in pairs if pair)


def _entity(part: str) -> tuple[str, str] | None:
    found = re.fullmatch(r"([a-zA-Z]+)-([A-Za-z0-9+.-]+)", part)
    if found and found[1] in ENTITIES:
        return found[1], found[2]
    return None


def without_folders(names: Iterable[str]) -> dict[str, str]:
    """Return the names of files without their folders, by the whole name.

    Whole names stay where two would be the same.

    >>> without_folders(["../a/sub-1_T1w.nii", "../a/sub-2_T1w.nii"])["../a/sub-1_T1w.nii"]
    'sub-1_T1w.nii'
    >>> without_folders(["sub-1/T1w.nii", "sub-2/T1w.nii"])["sub-1/T1w.nii"]
    'sub-1/T1w.nii'
    """
    short = {name: PurePath(name).name for name in names}
    return short if len(set(short.values())) == len(short) else {name: name for name in short}
