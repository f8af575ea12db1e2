"""Files of small networks, and a simulated head, for the tests of extractors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from tests.metrics.extractors.mixers import SLICES, Mixer, Write, saved
from tests.metrics.extractors.simulated_heads import on_mni152, subject


@pytest.fixture(scope="module")
def mixer_pt2() -> bytes:
    return saved(Mixer().eval())


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a network and its YAML file; keys may be changed."""

    def write(
        content: bytes | onnx.ModelProto,
        suffix: str = ".onnx",
        of: dict[str, Any] = SLICES,
        **keys: Any,
    ) -> Path:
        path = tmp_path / f"net{suffix}"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            onnx.save(content, path)
        described = {key: value for key, value in {**of, **keys}.items() if value != "left out"}
        path.with_suffix(".yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    """The first simulated head, on the grid of the extractor."""
    return on_mni152(subject(0).volume)
