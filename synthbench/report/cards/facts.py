"""What a scorecard says of the topics of cards, in sentences; or why it says nothing."""

from __future__ import annotations

from collections.abc import Sequence

from synthbench.records.protocol import ExtractorRecord
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render.numbers import duration, number, p_text
from synthbench.report.cards.item import Fact
from synthbench.report.failures import failures_line
from synthbench.report.membership import membership_lines
from synthbench.report.memorization import copies_found
from synthbench.report.readers import estimate_text, result_sentences, verdict_cell
from synthbench.report.standing import TEST_LEVEL, headline, ranked_rows, verdict
from synthbench.report.text import preflight_lines
from synthbench.report.verdicts import FEW_SEEDS, limits

DISTANCES = ("mmd2", "kid", "fid", "spectrum", "intensity", "morphometry")
VARIETY = ("clipped_coverage", "coverage", "recall", "rke", "ms_ssim")
CONSTRAINTS = ("constraints",)
"""The metrics that answer the questions of distance, of variety and of possible anatomy."""


# ---------------------------------------------------------------- values


def of_metrics(card: Scorecard, names: Sequence[str]) -> Fact:
    """Return one sentence per row of these metrics: its value, its floor, and its verdict."""
    rows = [row for name in names for row in ranked_rows(card) if row.metric == name]
    scored = [row for row in rows if row.value is not None]
    unknown = [
        f"{_name(row)} has no value: {_sentence(row.missing.text if row.missing else 'not scored')}"
        for row in rows
        if row.value is None
    ]
    without = [_name(row) for row in scored if row.floor is None]
    if without:
        unknown.append(
            f"{', '.join(without)}: no floor to compare with, so it is not known what is far."
        )
    found = tuple(_value_words(row, card) for row in scored)
    return Fact(found, tuple(unknown), _in_short(scored))


def _in_short(rows: Sequence[Value]) -> str:
    """Return in how many rows the volumes are like real ones, and whether a test disagrees."""
    known = [row for row in rows if row.floor is not None]
    if not known:
        return ""
    like = sum(verdict(row).standing == "within" for row in known)
    words = f"like real at this n by {like} of {len(known)} metrics"
    found = [row for row in known if row.p is not None and row.p <= TEST_LEVEL]
    return f"{words}; a test of all volumes finds a difference" if found else words


def _name(row: Value) -> str:
    return row.label if row.extractor is None else f"{row.label} of {row.extractor}"


def _value_words(row: Value, card: Scorecard) -> str:
    head = headline(row)
    assert head is not None
    words = f"{_name(row)}: {number(head.value)}"
    if head.saturated:
        words += " (near the kernel's ceiling: it only says 'far')"
    if head.interval is not None and head.interval[0] < head.interval[1]:
        low, high = map(number, head.interval)
        words += f", {card.protocol.level:.0%} interval {low} to {high}"
    if row.floor is not None:
        f = row.floor
        words += (
            f"; real against real at n = {f.n}: {number(f.mean)} ({number(f.low)} to "
            f"{number(f.high)})"
        )
    stands = verdict(row).words.partition(", but")[0]
    if row.p is not None:
        finds = "finds a difference" if row.p <= TEST_LEVEL else "finds no difference"
        joined = ", but" if stands == "like real" and row.p <= TEST_LEVEL else ";"
        stands += f"{joined} a permutation test of all volumes {finds} (p {_p(row.p)})"
    words = f"{words}: {stands}."
    return f"{words[0].upper()}{words[1:]}"


def _p(p: float) -> str:
    words = p_text(p)
    return words if words.startswith("<") else f"= {words}"


def _sentence(words: str) -> str:
    """Return words as a sentence: a capital letter is not forced, a full stop is."""
    return words if words.endswith(".") else f"{words}."


def uncertainty(card: Scorecard) -> Fact:
    """Return how intervals, floors and tests were computed."""
    p = card.protocol
    methods = ", ".join(dict.fromkeys(str(method) for method in p.intervals.values()))
    return Fact((
        f"Intervals at {p.level:.0%} resample subjects {p.resamples} times (seed {p.seed}; "
        f"methods: {methods}). Floors are {p.floor_splits} random disjoint splits of the real "
        f"volumes. Tests have {p.permutations} permutations.",
    ))  # fmt: skip


# ---------------------------------------------------------------- data and preparation


def sizes(card: Scorecard) -> Fact:
    """Return how many volumes and subjects were scored."""
    real, synth = card.real, card.synth
    found = [
        f"{synth.n} synthetic volumes (of {synth.available} in the folder) were compared with "
        f"{real.n} real ones of {real.subjects} subjects."
    ]
    for role, record in (("training", card.train), ("hold-out", card.holdout)):
        if record is not None:
            found.append(f"{record.n} {role} volumes of {record.subjects} subjects were at hand.")
    return Fact(tuple(found))


def preparation(card: Scorecard) -> Fact:
    """Return the grid, the intensities, the mask and the resampling."""
    p = card.protocol
    found = [
        f"All volumes were brought to {p.space.grid} ({p.space.resampling}). Intensities: "
        f"{p.space.scaling}.",
        f"Mask: {p.mask.rule}, {p.mask.voxels} voxels.",
        *(f"{note[0].upper()}{note[1:]}." for note in card.notes if note),
    ]
    return Fact(tuple(found), (
        "What was done to the images before this scoring (brain extraction, registration, "
        "exclusions) is not in a scorecard. A person writes this.",
    ))  # fmt: skip


def faults(card: Scorecard) -> Fact:
    """Return what preflight found, and how many volumes failed."""
    lines = [f"{line[0].upper()}{line[1:]}." for line in preflight_lines(card)]
    found = lines or ["Preflight found no fault in the volumes (geometry, flips, scale, copies)."]
    short = f"{len(lines)} findings of preflight" if lines else "no fault found"
    short = "1 finding of preflight" if len(lines) == 1 else short
    failed = failures_line(card)
    if failed:
        return Fact((*found, f"{failed[0].upper()}{failed[1:]}"), short=short)
    return Fact(tuple(found), (
        "Synthetic volumes that failed were not counted: score with --count-failures.",
    ), short=short)  # fmt: skip


def split(card: Scorecard) -> Fact:
    """Return whether the real volumes are those of the training."""
    if card.scored_on_training:
        return Fact(
            ("The real volumes are those of the training: this flatters the generator.",),
            ("Score against volumes that were kept apart by subject: synthbench data split.",),
        )
    if card.origin.training_cohort is None:
        return Fact(open=(
            "The sidecars of the synthetic volumes do not name the training cohort, so it is not "
            "known whether the real volumes were apart from it.",
        ))  # fmt: skip
    return Fact((
        f"The training cohort ({card.origin.training_cohort[:12]}) is not the one that was scored "
        f"against ({card.real.fingerprint[:12]}), by the hashes of their images.",
    ), (
        "That no subject is in both is checked by synthbench data split, not by a scorecard.",
    ))  # fmt: skip


# ---------------------------------------------------------------- the generator


def generator(card: Scorecard) -> Fact:
    """Return what the sidecars say of the generator, its weights and its sampler."""
    o = card.origin
    known = {
        "generator": o.generator,
        "weights (sha256)": o.weights_sha256 and o.weights_sha256[:12],
        "sampler": o.sampler,
        "steps": o.steps,
        "guidance": o.guidance,
        "precision": o.precision,
        "parameters": o.parameters,
        "training cohort": o.training_cohort and o.training_cohort[:12],
        "training seeds": o.training_seeds,
        "settings of the training (hash)": o.method,
    }
    said = [f"{name} {value}" for name, value in known.items() if value is not None]
    needed = ("generator", "weights (sha256)", "training cohort", "training seeds")
    lacking = [name for name in needed if known[name] is None]
    found = (f"The sidecars name: {', '.join(said)}.",) if said else ()
    if not lacking:
        return Fact(found)
    return Fact(found, (f"The sidecars do not name: {', '.join(lacking)}.",))


def training_seeds(card: Scorecard) -> Fact:
    """Return from how many trainings the volumes come."""
    if card.origin.fixed_fit:
        return Fact(("Nothing in the training is random: every seed gives the same weights.",),
                    short="nothing in the training is random")  # fmt: skip
    seeds = card.origin.training_seeds
    if seeds is None:
        return Fact(open=("It is not recorded from how many trainings the volumes come.",))
    trainings = "1 training" if seeds == 1 else f"{seeds} trainings"
    found = (f"The volumes come from {trainings}.",)
    if seeds >= FEW_SEEDS:
        return Fact(found, short=trainings)
    return Fact(found, (
        f"At least {FEW_SEEDS} trainings with other seeds are needed to speak of the method and "
        "not of one network.",
    ), short=trainings)  # fmt: skip


def cost(card: Scorecard) -> Fact:
    """Return time and energy of training and sampling."""
    o = card.origin
    found = []
    if o.training_seconds is not None:
        found.append(f"Training took {duration(o.training_seconds)}.")
    if o.seconds_a_volume is not None:
        found.append(f"Sampling took {duration(o.seconds_a_volume)} per volume.")
    if o.training_energy_kwh is not None:
        found.append(f"Training took {number(o.training_energy_kwh)} kWh.")
        return Fact(tuple(found))
    return Fact(
        tuple(found), ("The energy of the training was not measured (the extra 'energy' does).",)
    )


# ---------------------------------------------------------------- consistency, use, privacy


def groups(card: Scorecard) -> Fact:
    """Return whether the volumes follow what was requested, in each group."""
    if card.adherence is None:
        return Fact(open=(
            "Not known by age, sex or site: no conditions were requested of the volumes, or none "
            "are known. MMD² by subgroup of the real volumes: synthbench report --real REAL "
            "--synth SYNTH, with a participants table.",
        ))  # fmt: skip
    names = ", ".join(one.name for one in card.adherence.conditions)
    found = [f"Requested and measured were compared for: {names}."]
    for one in card.adherence.parity:
        for statistic in one.statistics:
            estimate = statistic.difference
            if estimate is not None:
                ends = ""
                if estimate.low is not None and estimate.high is not None:
                    ends = f" ({number(estimate.low)} to {number(estimate.high)})"
                found.append(
                    f"{one.condition}, {one.covariate} {one.group} (n = {one.n}) against others: "
                    f"{statistic.label} differs by {number(estimate.value)}{ends}."
                )
    return Fact(tuple(found))


def replication(card: Scorecard) -> Fact:
    """Return which findings on real volumes survive in the synthetic ones."""
    if card.replication is None:
        return Fact(open=(
            "Not studied: whether a finding on real people (an age slope, a sex difference) is "
            "found in these volumes.",
        ))  # fmt: skip
    words = [effect.word for effect in card.replication.effects]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    return Fact((f"Effects of real people in the synthetic volumes: {counts}.",))


def usefulness(card: Scorecard) -> Fact:
    """Return whether the volumes help a model that is used on real people."""
    if card.utility is None:
        return Fact(open=(
            "Not studied: whether these volumes help a model that is used on real people "
            "(synthbench utility).",
        ), short="not studied")  # fmt: skip
    return Fact((_sentence(card.utility.sentence),), short=card.utility.verdict)


def readers(card: Scorecard) -> Fact:
    """Return what people saw who looked at the volumes."""
    found = card.readers
    if found is None:
        return Fact(open=(
            "No study with readers is in the scorecard (synthbench readers; then synthbench score "
            "--readers). Its own card: synthbench readers cite STUDY.",
        ), short="not studied")  # fmt: skip
    agreement = [
        f"{one.item} {estimate_text(one.alpha)} and {estimate_text(one.ac2)}"
        for one in found.ratings
    ]
    lines = result_sentences(found)
    if agreement:
        lines.append(f"Agreement (Krippendorff's alpha and Gwet's AC2): {', '.join(agreement)}.")
    return Fact(
        tuple(lines),
        ("Training and experience of the readers are not in a scorecard. A person writes this.",),
        short=verdict_cell(found),
    )


def privacy(card: Scorecard) -> Fact:
    """Return the tests for copies of training images."""
    if card.not_assessed or not card.memorization:
        why = card.not_assessed or "no training and hold-out volumes were named"
        whole = Fact(
            open=(f"Copies of training images were not looked for: {_sentence(why)}",),
            short="copies not tested",
        )
    else:
        copies = copies_found(card)
        caution = (
            () if copies.verdict == "copies"
            else ("A test that finds no copies does not guarantee privacy.",)
        )  # fmt: skip
        whole = Fact(
            (f"Copies of training images: {_sentence(copies.text)}", *caution),
            short=f"copies: {copies.words}",
        )
    if card.local_copying is not None:
        whole += Fact((f"Copied parts: {_sentence(card.local_copying.text)}",))
    else:
        whole += Fact(open=(
            "Copied parts were not looked for (score --train TRAIN --metric local_copying).",
        ))  # fmt: skip
    if card.membership:
        lines = membership_lines(card)
        return whole + Fact(tuple(f"{line[0].upper()}{line[1:]}." for line in lines))
    return whole + Fact(open=(
        "No attack inferred membership (score --train TRAIN --metric membership_inference).",
    ))  # fmt: skip


def licence(card: Scorecard) -> Fact:
    """Return under which licence the volumes are."""
    if card.origin.licence is None:
        return Fact(open=("The sidecars name no licence of the volumes.",))
    return Fact((f"Licence of the volumes: {card.origin.licence}.",))


# ---------------------------------------------------------------- the scorecard itself


def reproduction(card: Scorecard) -> Fact:
    """Return what is needed to compute the numbers again."""
    software = ", ".join(f"{name} {version}" for name, version in card.software.items())
    benchmark = f" of the benchmark {card.benchmark}" if card.benchmark else ""
    return Fact((
        f"Protocol {card.protocol_hash}{benchmark}: every setting that can change a number is in "
        f"the scorecard. Cohorts are named by hashes: real {card.real.fingerprint[:12]}, synthetic "
        f"{card.synth.fingerprint[:12]}.",
        f"Software: {software}.",
        "The command: synthbench score --real REAL --synth SYNTH"
        + (f" --benchmark {card.benchmark}" if card.benchmark else "")
        + ". A paragraph for the methods: synthbench cite CARD.",
    ))  # fmt: skip


def extractors(card: Scorecard) -> Fact:
    """Return which networks the features come from."""
    found = tuple(_extractor_words(e) for e in card.protocol.extractors)
    return Fact(found or ("No network was used.",))


def _extractor_words(e: ExtractorRecord) -> str:
    weights = "no weights" if e.weights_sha256 is None else f"weights {e.weights_sha256[:12]}"
    return f"Features: {e.name}, {e.layer}, {e.dim} numbers ({weights})."


def detectable(card: Scorecard) -> Fact:
    """Return the smallest differences that this many volumes show."""
    found = [
        f"{_name(row)} {number(row.floor.minimum_detectable_effect)}"
        for row in ranked_rows(card)
        if row.floor is not None and row.floor.minimum_detectable_effect is not None
    ]
    if not found:
        return Fact(open=("No minimum detectable effect is recorded.",))
    return Fact((
        f"The smallest excess over the floor that is found with 80% power: {', '.join(found)}.",
    ))  # fmt: skip


def limitations(card: Scorecard) -> Fact:
    """Return the limits of the numbers."""
    return Fact(tuple(limits(card)))
