"""Exhibits: what a report shows where the volumes of a scorecard are at hand.

Pictures of volumes, the most and the least typical synthetic ones, nearest training volumes,
power spectra, and subgroups of the real cohort. All of it is for the eyes of whoever holds the
data; subgroups are aggregates, with small cells hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from synthbench.cards import sources, subgroup_names, subgroups
from synthbench.charts import Band, LineChart, Series, line_chart
from synthbench.cohort import Cohort, Volumes, majority_mask
from synthbench.errors import MetricError, ScorecardError, UsageError
from synthbench.evaluation import Flipped, Sample
from synthbench.extraction import Extractors, add_features, load_extractors
from synthbench.feature_cache import FeatureCache
from synthbench.metrics import inference
from synthbench.metrics.metric import Statistic
from synthbench.metrics.mmd import MMD2, gaussian_kernel, median_bandwidth, squared_distances
from synthbench.metrics.spectrum import radial_profile
from synthbench.metrics.voxels import voxel_gram, voxel_squares
from synthbench.records.keys import JobKey
from synthbench.runtime.callbacks import Log, Progress, no_progress, shown
from synthbench.scorecard import CohortRecord, Scorecard
from synthbench.scoring_inputs import draw
from synthbench.scoring_settings import Context
from synthbench.slices import Picture, within_budget

PICTURED = 4
"""Volumes in each row of pictures."""

SIMULATED = "synthbench atlas cohort (simulated, no person's data)"
"""What the embedded cohort calls itself: its volumes are no person's."""


@dataclass(frozen=True)
class Shown:
    """A volume in a gallery: its words and its picture."""

    title: str
    words: str
    picture: Picture


@dataclass(frozen=True)
class Gallery:
    """Volumes that are looked at together, with common slice positions.

    `pairs` says that they belong together two by two.
    """

    title: str
    words: str
    volumes: tuple[Shown, ...]
    pairs: bool = False


@dataclass(frozen=True)
class SubgroupRow:
    """How the synthetic volumes stand to one subgroup of the real ones; aggregates only.

    Attributes
    ----------
    count
        Subjects, or words where the count is hidden.
    value, interval
        MMD^2 of the synthetic set and this subgroup; None where it is hidden or cannot be told.
    others
        MMD^2 of this subgroup and the other real volumes: how unlike them it is anyway.
    """

    column: str
    name: str
    count: int | str
    value: float | None = None
    interval: tuple[float, float] | None = None
    others: float | None = None


@dataclass(frozen=True)
class Exhibits:
    """What a report shows of one scorecard's volumes.

    Attributes
    ----------
    people
        Whether a picture of a real participant is among the pictures.
    missing
        What is not shown, why, and how to have it.
    """

    galleries: tuple[Gallery, ...] = ()
    spectrum: LineChart | None = None
    subgroups: tuple[SubgroupRow, ...] = ()
    subgroup_words: str = ""
    people: bool = False
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cohorts:
    """The cohorts of one scorecard, each the one that was scored (see `scored`)."""

    real: Cohort
    synth: Cohort
    train: Cohort | None = None


def scored(cohort: Cohort, record: CohortRecord, role: str, seed: int) -> Cohort | None:
    """Return the volumes of a cohort that a scorecard is about; None where they are others.

    A benchmark scores n of more synthetic volumes by the protocol's seed.
    """
    if cohort.fingerprint == record.fingerprint:
        return cohort
    if role == "synth" and len(cohort) == record.available > record.n:
        chosen = cohort.subset(draw(len(cohort), record.n, seed))
        return chosen if chosen.fingerprint == record.fingerprint else None
    return None


def cohorts_of(
    card: Scorecard, real: Cohort, synths: Sequence[Cohort], train: Cohort | None
) -> Cohorts | None:
    """Return the cohorts that a scorecard is about, found by their fingerprints.

    Returns
    -------
    None where none of `synths` is the scorecard's.

    Raises
    ------
    ScorecardError
        The real or the training cohort is another one.
    """
    seed = card.protocol.seed
    chosen = (scored(synth, card.synth, "synth", seed) for synth in synths)
    synth = next((cohort for cohort in chosen if cohort is not None), None)
    if synth is None:
        return None
    for role, cohort, record in (("real", real, card.real), ("train", train, card.train)):
        if cohort is None or record is None or cohort.fingerprint == record.fingerprint:
            continue
        raise ScorecardError(
            f"--{role}: the scorecard of {card.name} is about another cohort: its fingerprint is "
            f"{record.fingerprint[:12]}... (n = {record.n}), this one's is "
            f"{cohort.fingerprint[:12]}... (n = {len(cohort)}). Name the folder that was scored, "
            f"or leave out --{role}."
        )
    return Cohorts(real, synth, train)


def exhibits(
    card: Scorecard,
    cohorts: Cohorts,
    *,
    budget: int,
    real_pictures: bool = True,
    seed: int = 0,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
    say: Log = lambda message: None,
) -> Exhibits:
    """Gather what a report shows of a scorecard's volumes.

    Parameters
    ----------
    card, cohorts
        The scorecard, and the cohorts that it is about.
    budget
        Characters that its pictures may take.
    real_pictures
        Whether real and training volumes are pictured and named.
    seed
        Of the draw of volumes that are pictured as examples.
    cache
        Where features of the scoring are kept.
    progress, say
        See `synthbench.scoring.score`.

    Raises
    ------
    SynthbenchError
        A volume cannot be read.
    """
    protocol = card.protocol
    sides = {"real": cohorts.real, "synth": cohorts.synth, "train": cohorts.train}
    samples = {
        role: Sample(
            role,
            cohort.volumes(protocol.space.grid, protocol.space.intensity, role=role),
            cohort.subjects,
        )
        for role, cohort in sides.items()
        if cohort is not None
    }
    mask = majority_mask(cohorts.real.volumes(protocol.space.grid, protocol.space.intensity))
    planned = [_examples(sides, seed, real_pictures)]
    missing: list[str] = []
    rows: tuple[SubgroupRow, ...] = ()
    words = ""
    space = _feature_space(card, samples, cache, progress, say)
    if isinstance(space, str):
        missing.append(f"The most and the least typical volumes, and subgroups: {space}")
    else:
        planned += _by_typicality(space, cohorts.synth)
        rows, words = _subgroups(card, cohorts.real, space), _subgroup_words(card, space)
    if cohorts.train is None:
        missing.append("Nearest training volumes: name the generator's training set with --train.")
    else:
        planned.append(_neighbours(samples, cohorts, mask, real_pictures, progress))
    shown_roles = {volume.role for plan in planned for volume in plan.volumes}
    return Exhibits(
        galleries=_pictured(planned, samples, budget),
        spectrum=_spectrum(samples, mask, progress),
        subgroups=rows,
        subgroup_words=words,
        people=any(_people(sides[role]) for role in shown_roles - {"synth"}),
        missing=tuple(missing),
    )


def _people(cohort: Cohort | None) -> bool:
    """Whether a cohort's volumes may be scans of people: all but those that say they are not."""
    if cohort is None:
        return False
    return any(source["name"] != SIMULATED for source in sources(cohort))


# ---------------------------------------------------------------- pictures


@dataclass(frozen=True)
class _Chosen:
    role: str
    index: int
    title: str
    words: str


@dataclass(frozen=True)
class _Plan:
    title: str
    words: str
    volumes: list[_Chosen] = field(default_factory=list)
    pairs: bool = False


def _examples(sides: dict[str, Cohort | None], seed: int, real_pictures: bool) -> _Plan:
    plan = _Plan(
        "Examples",
        f"Drawn at random (seed {seed}), not chosen."
        + ("" if real_pictures else " Pictures of real volumes were left out."),
    )
    for role in ("real", "synth") if real_pictures else ("synth",):
        cohort = sides[role]
        assert cohort is not None
        rng = np.random.default_rng(seed)
        for index in np.sort(rng.permutation(len(cohort))[:PICTURED]):
            words = "real" if role == "real" else "synthetic"
            plan.volumes.append(_Chosen(role, int(index), cohort.entries[index].name, words))
    return plan


def _pictured(
    planned: Sequence[_Plan], samples: dict[str, Sample], budget: int
) -> tuple[Gallery, ...]:
    """Read each volume once, and share the budget among all of them."""
    wanted = list(dict.fromkeys((v.role, v.index) for plan in planned for v in plan.volumes))
    # A volume in two galleries is in the page twice.
    repeats = sum(len(plan.volumes) for plan in planned) / len(wanted)
    grid = next(iter(samples.values())).volumes.space
    volumes = [samples[role].volumes[index] for role, index in wanted]
    pictures = dict(zip(wanted, within_budget(volumes, grid, int(budget / repeats)), strict=True))
    return tuple(
        Gallery(
            plan.title, plan.words,
            tuple(Shown(v.title, v.words, pictures[v.role, v.index]) for v in plan.volumes),
            plan.pairs,
        )
        for plan in planned
    )  # fmt: skip


# ---------------------------------------------------------------- typicality


@dataclass(frozen=True)
class FeatureSpace:
    """The features that typicality and subgroups are told in, and the kernel's bandwidth."""

    extractor: str
    bandwidth: float
    real: Sample
    synth: Sample

    def rows(self, sample: Sample) -> Float64[np.ndarray, "n d"]:
        """A sample's features in float64."""
        return np.asarray(sample.features[self.extractor], dtype=np.float64)


def _feature_space(
    card: Scorecard,
    samples: dict[str, Sample],
    cache: FeatureCache | None,
    progress: Progress | None,
    say: Log,
) -> FeatureSpace | str:
    """Return the features of the protocol's first extractor, or why there are none."""
    if not card.protocol.extractors:
        return "the protocol has no extractor."
    record = card.protocol.extractors[0]
    try:
        loaded: Extractors = load_extractors([record.name], say)
    except UsageError as error:
        return str(error)
    if loaded.missing:
        return str(loaded.missing[record.name])
    if loaded.records[0] != record:
        return (
            f"this version's {record.name} is not the one of the scorecard: use the version of "
            "synthbench that scored."
        )
    real, synth = samples["real"], samples["synth"]
    add_features([real, synth], loaded, Context(cache=cache, progress=progress or no_progress))
    settings = card.protocol.settings.get(str(JobKey(MMD2.name, extractor=record.name)), {})
    rows = np.asarray(real.features[record.name], dtype=np.float64)
    bandwidth = settings.get("bandwidth") or median_bandwidth(rows, real.subjects)
    return FeatureSpace(record.name, float(bandwidth), real, synth)


def typicality(
    synth: Float64[np.ndarray, "m d"], real: Float64[np.ndarray, "n d"], bandwidth: float
) -> Float64[np.ndarray, " m"]:
    """Mean Gaussian kernel of each row to all real rows: the MMD witness's real part.

    Parameters
    ----------
    synth, real
        Features, one row an image.
    bandwidth
        Of exp(-|a-b|^2 / (2 bandwidth^2)).

    Returns
    -------
    In [0, 1]; high where real images are near. Source: Gretton et al. 2012, "A kernel two-sample
    test", section 2.3 (the empirical witness function).
    """
    means: Float64[np.ndarray, " m"] = gaussian_kernel(synth, real, bandwidth).mean(axis=1)
    return means


def _of_real(space: FeatureSpace) -> Float64[np.ndarray, " n"]:
    """Each real volume's mean kernel to those of other subjects."""
    rows = space.rows(space.real)
    kernel = gaussian_kernel(rows, rows, space.bandwidth)
    other = space.real.subjects[:, None] != space.real.subjects
    means: Float64[np.ndarray, " n"] = (kernel * other).sum(axis=1) / other.sum(axis=1)
    return means


def _by_typicality(space: FeatureSpace, synth: Cohort) -> list[_Plan]:
    real = space.rows(space.real)
    found = typicality(space.rows(space.synth), real, space.bandwidth)
    low, high = np.percentile(_of_real(space), [2.5, 97.5])
    # Where every kernel underflows, distances still order.
    distances = squared_distances(space.rows(space.synth), real).mean(axis=1)
    order = np.lexsort((distances, -found))
    about = (
        f"By the mean kernel to all real volumes, in the features of {space.extractor}; real "
        f"volumes have {low:.3g} to {high:.3g} (95% of them) to each other."
    )
    plans = []
    some = min(PICTURED, len(order) // 2)
    for title, chosen in (
        ("The most typical synthetic volumes", order[:some]),
        ("The least typical synthetic volumes", order[::-1][:some]),
    ):
        volumes = [
            _Chosen("synth", int(i), synth.entries[i].name, f"synthetic, typicality {found[i]:.3g}")
            for i in chosen
        ]
        plans.append(_Plan(title, about, volumes))
    return plans


# ---------------------------------------------------------------- neighbours


@dataclass(frozen=True)
class Nearest:
    """For each synthetic volume: its nearest training volume, in the voxels inside the mask.

    Attributes
    ----------
    index
        Of the training volume.
    distance
        Root mean squared difference of intensities in [0, 1].
    mirrored
        Whether the synthetic volume is nearest when mirrored left to right.
    usual
        The median over training volumes of the distance to the nearest one of another subject.
    """

    index: Any
    distance: Float64[np.ndarray, " m"]
    mirrored: Bool[np.ndarray, " m"]
    usual: float


def nearest_training(
    synth: Sample, train: Sample, mask: Bool[np.ndarray, "d h w"], progress: Progress | None = None
) -> Nearest:
    """Find each synthetic volume's nearest training volume, as it is or mirrored.

    Parameters
    ----------
    synth, train
        Volumes of one grid.
    mask
        The voxels that count.
    """
    voxels = int(mask.sum())
    bar = shown("nearest training volumes", progress)
    squares = voxel_squares(train.volumes, mask=mask)

    def apart(products: np.ndarray, own: np.ndarray) -> Float64[np.ndarray, "m n"]:
        squared = np.maximum(own[:, None] + squares - 2 * products, 0)
        distances: Float64[np.ndarray, "m n"] = np.sqrt(squared / voxels)
        return distances

    plain = apart(
        voxel_gram(synth.volumes, train.volumes, mask=mask, progress=bar),
        voxel_squares(synth.volumes, mask=mask),
    )
    mirrored = apart(
        voxel_gram(Flipped(synth.volumes), train.volumes, mask=mask),
        voxel_squares(Flipped(synth.volumes), mask=mask),
    )
    either = np.minimum(plain, mirrored)
    index = either.argmin(axis=1)
    rows = np.arange(len(index))
    within = apart(voxel_gram(train.volumes, mask=mask), squares)
    within[train.subjects[:, None] == train.subjects] = np.inf
    return Nearest(
        index=index,
        distance=either[rows, index],
        mirrored=mirrored[rows, index] < plain[rows, index],
        usual=float(np.median(within.min(axis=1))),
    )


def _neighbours(
    samples: dict[str, Sample],
    cohorts: Cohorts,
    mask: Bool[np.ndarray, "d h w"],
    real_pictures: bool,
    progress: Progress | None,
) -> _Plan:
    assert cohorts.train is not None
    found = nearest_training(samples["synth"], samples["train"], mask, progress)
    plan = _Plan(
        "Nearest to the training volumes",
        "The synthetic volumes that lie nearest to a training volume, by the root mean squared "
        "difference of voxels inside the mask, as they are or mirrored. For scale: a training "
        f"volume's nearest other subject is {found.usual:.3g} away (median)."
        + ("" if real_pictures else " The training volumes are neither shown nor named."),
        pairs=real_pictures,
    )
    for i in np.argsort(found.distance, kind="stable")[:PICTURED]:
        share = found.distance[i] / found.usual if found.usual > 0 else np.nan
        flipped = ", mirrored" if found.mirrored[i] else ""
        plan.volumes.append(
            _Chosen(
                "synth", int(i), cohorts.synth.entries[i].name,
                f"synthetic; nearest at {found.distance[i]:.3g}{flipped}, {share:.0%} of the "
                "usual distance",
            )
        )  # fmt: skip
        if real_pictures:
            j = int(found.index[i])
            plan.volumes.append(
                _Chosen("train", j, cohorts.train.entries[j].name, "its nearest training volume")
            )
    return plan


# ---------------------------------------------------------------- spectra


def _spectrum(
    samples: dict[str, Sample], mask: Bool[np.ndarray, "d h w"], progress: Progress | None
) -> LineChart | None:
    """Mean radial power spectra of both sets, with the central 95% of the real volumes."""
    profiles = {}
    try:
        for role in ("real", "synth"):
            volumes = samples[role].volumes
            assert isinstance(volumes, Volumes)
            bar = shown(f"spectra, {role}", progress)
            rows = []
            for index, volume in enumerate(volumes):
                frequencies, row = radial_profile(volume, mask, volumes.space.spacing)
                rows.append(row)
                if bar is not None:
                    bar(index + 1, len(volumes))
            profiles[role] = np.array(rows)
    except MetricError:
        return None
    low, high = np.percentile(profiles["real"], [2.5, 97.5], axis=0)
    means = {role: rows.mean(axis=0) for role, rows in profiles.items()}
    gap = means["synth"] - means["real"]
    at = int(np.abs(gap).argmax())
    return line_chart(
        "Radial power spectrum",
        "cycles/mm",
        "dB",
        f"Mean log power of synthetic and real volumes. They differ most at "
        f"{frequencies[at]:.2g} cycles/mm, by {gap[at]:+.1f} dB (synthetic less real).",
        [
            Series("real", "real", frequencies, means["real"]),
            Series("synthetic", "synth", frequencies, means["synth"]),
        ],
        [Band("95% of the real volumes", "spread", frequencies, low, high)],
    )


# ---------------------------------------------------------------- subgroups


def _subgroups(card: Scorecard, real: Cohort, space: FeatureSpace) -> tuple[SubgroupRow, ...]:
    """Return a row a band of age, sex, site and diagnosis, with small cells hidden."""
    rows, index = space.rows(space.real), space.real.subjects
    statistic = MMD2().prepare(
        rows, space.rows(space.synth), bandwidth=space.bandwidth,
        subjects={"real": index, "synth": space.synth.subjects},
    )  # fmt: skip
    found = []
    for column, counts in subgroups(real).items():
        bands = _bands(real, column)
        for name, count in counts.items():
            row = SubgroupRow(column, name, count)
            inside = bands == name
            # A value of a hidden cell, or of one whose count was coarsened to hide another,
            # would tell of it.
            if isinstance(count, int) and count < len(set(index.tolist())):
                others = MMD2().prepare(
                    rows[inside], rows[~inside], bandwidth=space.bandwidth,
                    subjects={"real": index[inside], "synth": index[~inside]},
                )  # fmt: skip
                row = _told(row, inference.subgroup(statistic, {"real": inside}), others, card)
            found.append(row)
    return tuple(found)


def _told(
    row: SubgroupRow, statistic: Statistic, others: Statistic, card: Scorecard
) -> SubgroupRow:
    protocol = card.protocol
    try:
        made = inference.interval(
            statistic, "studentized", resamples=protocol.resamples, level=protocol.level,
            seed=protocol.seed,
        )  # fmt: skip
        interval = (made.low, made.high) if made.low < made.high else None
        return SubgroupRow(
            row.column, row.name, row.count, inference.estimate(statistic), interval,
            inference.estimate(others),
        )  # fmt: skip
    except MetricError:
        return row


def _bands(real: Cohort, column: str) -> np.ndarray:
    """Return the band of each volume's subject, as `synthbench.cards.subgroups` names it."""
    values: pd.Series[Any] = real.participants[column].reindex([e.subject for e in real.entries])
    return np.array(subgroup_names(values))


def _subgroup_words(card: Scorecard, space: FeatureSpace) -> str:
    return (
        f"MMD² in the features of {space.extractor} between all synthetic volumes and the real "
        f"ones of each subgroup, with {card.protocol.level:.0%} intervals. Beside it the same of "
        "the other real volumes: how unlike them the subgroup is anyway. Several looks at one set "
        "of data: no row is a test."
    )
