"""The description of a BIDS dataset: the fields of `dataset_description.json` that are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from synthbench.errors import CohortError
from synthbench.runtime.documents import check_fields, is_there, json_fields

FILE = "dataset_description.json"
_FIX = "Correct it: the terms that bind these data are read from it."


class Program(BaseModel):
    """A program that made a dataset."""

    model_config = ConfigDict(strict=True)

    Name: str | None = None


class SourceDataset(BaseModel):
    """A dataset that another one was made from."""

    model_config = ConfigDict(strict=True)

    URL: str | None = None


class Description(BaseModel):
    """The fields of a dataset's description; each may be absent."""

    model_config = ConfigDict(strict=True)

    Name: str | None = None
    DatasetType: str | None = None
    License: str | None = None
    DataUse: str | None = None
    HowToAcknowledge: str | None = None
    ReferencesAndLinks: list[str | None] = Field(default=[])
    SourceDatasets: list[SourceDataset] = Field(default=[])
    GeneratedBy: list[Program] = Field(default=[])

    @field_validator("ReferencesAndLinks", "SourceDatasets", "GeneratedBy", mode="before")
    @classmethod
    def _listed(cls, found: Any) -> Any:
        """Return a list: some datasets write one entry without it, or null."""
        if found is None:
            return []
        return [found] if isinstance(found, (str, dict)) else found

    @property
    def licence(self) -> str | None:
        """The licence or the agreement, as the dataset names it."""
        return self.DataUse or self.License or None

    @property
    def link(self) -> str:
        """The first address that the dataset gives; empty where it gives none."""
        links = [*self.ReferencesAndLinks, *(source.URL for source in self.SourceDatasets)]
        return next((link for link in links if link), "")


def read_description(root: Path) -> Description:
    """Return the description of a dataset; an empty one where it has no file.

    Raises
    ------
    CohortError
        The file cannot be read, is not JSON, or a field has a wrong value.
    """
    file = root / FILE
    if not is_there(file, CohortError):
        return Description()
    fields = json_fields(file, error=CohortError, fix=_FIX)
    return check_fields(Description, fields, file, error=CohortError, fix=_FIX)
