"""Features of a scoring that several jobs compute: each of a part of the volumes, into a file.

A file holds the features of its part under the keys of the cache (`synthbench.scoring.cache.keys`),
which hash everything that they depend on. A scoring that is given the files of all parts computes
no features, and everything else as ever.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from synthbench.errors import UsageError
from synthbench.runtime.arrays import unpack_npz
from synthbench.runtime.files import check_is_file, write_atomic
from synthbench.runtime.part import Part, check_complete

Rows = dict[str, Float32[np.ndarray, " dim"]]
"""The features of volumes, by their keys."""

_FIX = "Repeat the command that writes this part: synthbench score --shard"


@dataclass(frozen=True)
class FeaturePart:
    """The features of one part of the volumes of a scoring.

    Attributes
    ----------
    part
        Which part, of how many.
    call
        The sha256 of the keys of all volumes and extractors of the scoring: all its parts have
        the same.
    rows
        By extractor, the features of the volumes of this part.
    """

    part: Part
    call: str
    rows: Mapping[str, Rows]

    def save(self, file: Path) -> None:
        """Write the part; only its owner may read it: participant-level data."""
        about = {"part": str(self.part), "call": self.call, "extractors": list(self.rows)}
        arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
        for place, rows in enumerate(self.rows.values()):
            keys = np.frombuffer(bytes.fromhex("".join(rows)), np.uint8).reshape(len(rows), 32)
            # A part may have no volume for an extractor only where it has none at all.
            arrays |= {f"keys-{place}": keys, f"rows-{place}": np.stack(list(rows.values()))}
        content = io.BytesIO()
        np.savez(content, **arrays)
        write_atomic(file, content.getvalue(), private=True)

    @classmethod
    def load(cls, file: Path) -> FeaturePart:
        """Return the part that a file holds.

        Raises
        ------
        UsageError
            It cannot be read, or holds something else.
        """
        try:
            check_is_file(file)
            arrays = unpack_npz(file.read_bytes())
            about = json.loads(arrays["about"].tobytes())
            rows = {}
            for place, name in enumerate(about["extractors"]):
                keys, found = arrays[f"keys-{place}"], arrays[f"rows-{place}"]
                if keys.shape != (len(found), 32) or found.dtype != np.float32 or found.ndim != 2:
                    raise ValueError(f"the features of {name!r} have another form")
                rows[str(name)] = {k.tobytes().hex(): r for k, r in zip(keys, found, strict=True)}
            return cls(Part.parse(about["part"]), str(about["call"]), rows)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{file}: it holds no part of the features of a scoring: {error}. {_FIX}"
            ) from error


@dataclass(frozen=True)
class AllParts:
    """The features of all parts of a scoring; it stands where a cache stands.

    Attributes
    ----------
    folder
        The folder of the files, for messages.
    call
        As in `FeaturePart`.
    rows
        By extractor, the features of all volumes.
    """

    folder: Path
    call: str
    rows: Mapping[str, Rows]

    @classmethod
    def load(cls, folder: Path) -> AllParts:
        """Return the parts that the npz files of a folder hold.

        Raises
        ------
        UsageError
            A part is missing, doubled, cannot be read, or is of another scoring.
        """
        files = sorted(folder.glob("*.npz"))
        if not files:
            raise UsageError(f"{folder}: it holds no parts (.npz). {_FIX}")
        parts = [FeaturePart.load(file) for file in files]
        check_complete([(f, one.part, one.call) for f, one in zip(files, parts, strict=True)])
        rows: dict[str, Rows] = {}
        for one in parts:
            for name, found in one.rows.items():
                rows.setdefault(name, {}).update(found)
        return cls(folder, parts[0].call, rows)

    def check(self, call: str) -> None:
        """Raise a UsageError where the parts are not those of this scoring."""
        if call != self.call:
            raise UsageError(
                f"{self.folder}: its parts are of another scoring: other volumes, extractors or "
                "settings, another version of torch, or another kind of device. Repeat the "
                "commands that write them, with the options of this one."
            )

    def find(self, key: str, extractor: str, dim: int) -> Float32[np.ndarray, " dim"] | None:
        """Return a volume's features, as `Cache.find` does."""
        row = self.rows.get(extractor, {}).get(key)
        return None if row is None or len(row) != dim else row

    def keep(self, key: str, extractor: str, row: Float32[np.ndarray, " dim"]) -> None:
        """Keep nothing: what is not in the parts is refused.

        Raises
        ------
        UsageError
            Always: features are missing.
        """
        raise UsageError(f"{self.folder}: features of {extractor} are missing in it. {_FIX}")
