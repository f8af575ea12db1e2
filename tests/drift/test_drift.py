from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.drift.causes import ROUNDING, SMALL
from synthbench.drift.drift import change, drift
from synthbench.drift.two_samples import NO_CHANGE, MetricDrift
from synthbench.errors import ScorecardError, UsageError
from synthbench.records.scorecard import Origin, Scorecard
from synthbench.records.values import Missing, Value
from synthbench.scoring import scoring
from synthbench.scoring.benchmark import Benchmark
from tests.command_line import run
from tests.drift.cards import (
    EXTRACTOR,
    METRICS,
    D,
    N,
    card_of,
    features,
    row_of,
    sample_data_of,
    statuses,
    two_cards,
    with_bandwidth,
    with_mask,
    with_protocol,
    with_software,
    with_values,
    with_weights,
)
from tests.drift.conftest import scored

pytestmark = pytest.mark.slow


def widths(found) -> list[float]:
    return [row.high - row.low for row in found.metrics]


# ---------------------------------------------------------------- the same images


def test_the_same_volumes_scored_twice_do_not_drift(root, card):
    found = drift(card, scored(root))
    assert (found.kind, found.outcome, found.exit_code) == ("rescore", "pass", 0)
    assert "the same images scored again (8 real, 6 synthetic)" in found.statement
    assert [row.relative for row in found.metrics] == [0.0] * 3
    assert found.causes == ()


@pytest.mark.parametrize(
    ("factor", "outcome", "code"),
    [(0.9 * ROUNDING, "pass", 0), (1.1 * ROUNDING, "warn", 0), (0.9 * SMALL, "warn", 0),
     (1.1 * SMALL, "drift", 1)],
)  # fmt: skip
def test_a_rescored_change_is_judged_beside_the_terms(card, factor, outcome, code):
    found = drift(card, with_values(card, factor))
    assert (found.outcome, found.exit_code) == (outcome, code)
    assert all(row.relative == pytest.approx(factor, rel=1e-6) for row in found.metrics)


def test_a_value_near_zero_is_judged_by_its_terms_and_zero_by_its_change():
    """An MMD^2 of 1e-9 made of terms that sum to 2 may double; a share of 0 may not become 1/86."""
    row = Value(metric="mmd2", label="", direction="lower", value=1e-9, magnitude=2.0)
    assert change(row, row.model_copy(update={"value": 2e-9})).status == "pass"
    share = Value(metric="precision", label="", direction="higher", value=0.0, magnitude=0.0)
    one = share.model_copy(update={"value": 1 / 86, "magnitude": 1 / 86})
    assert change(share, one).status == "fail"
    assert change(share, share).status == "pass"
    old = Value(metric="fid", label="", direction="lower", value=10.0)
    assert change(old, old.model_copy(update={"value": 10.1})).relative == pytest.approx(0.1 / 10.1)


def test_another_library_is_named_as_what_moved_the_numbers(card):
    """Same images, same protocol: by elimination. Where no number moved, it is no drift."""
    other = with_software(card, torch="9.9")
    found = drift(card, other)
    assert (found.outcome, found.exit_code) == ("pass", 0)
    assert [(c.kind, c.field, c.current) for c in found.causes] == [("software", "torch", "9.9")]
    found = drift(card, with_values(other, 0.01))
    assert found.exit_code == 1
    assert f"what differs is the software: torch {card.software['torch']} -> 9.9" in found.verdict
    silent = drift(card, with_values(card, 0.01))
    assert "a library whose version is not recorded" in silent.verdict


@pytest.mark.parametrize(
    ("alter", "field", "untouched"),
    [
        (lambda card: with_weights(card, "f" * 64), "extractors / voxels / weights_sha256",
         {"intensity"}),
        (with_mask, "mask / sha256", {"mmd2", "fid"}),
        (lambda card: with_bandwidth(card, 1.2), "settings / mmd2 | voxels / bandwidth",
         {"fid", "intensity"}),
    ],
    ids=["weights", "mask", "bandwidth"],
)  # fmt: skip
def test_a_changed_protocol_is_named_and_touches_its_own_metrics(card, alter, field, untouched):
    found = drift(card, alter(card))
    assert (found.outcome, found.exit_code) == ("not comparable", 2)
    assert field in [cause.field for cause in found.causes if cause.kind == "protocol"]
    refused = {row.metric: row.words for row in found.metrics if row.status == "not compared"}
    assert set(refused) == set(METRICS) - untouched
    assert all("another quantity: " in words and field in words for words in refused.values())
    # What the message says to type does compare.
    for name in untouched:
        assert f"--metric {name}" in found.verdict
    assert drift(card, alter(card), metrics=sorted(untouched)).exit_code == 0


def test_a_bandwidth_that_moved_by_rounding_is_the_same_protocol(card):
    """It is a result, computed from the real features: 1e-8 is nothing, 1e-4 is said."""
    assert drift(card, with_bandwidth(card, 1 + 1e-8)).outcome == "pass"
    assert drift(card, with_bandwidth(card, 1 + 1e-8)).causes == ()
    found = drift(card, with_bandwidth(card, 1 + 1e-4))
    assert (found.outcome, found.exit_code, found.causes[0].small) == ("warn", 0, True)


def test_settings_of_intervals_do_not_touch_values(card):
    found = drift(card, with_protocol(card, resamples=300, level=0.9, seed=3))
    assert found.exit_code == 0
    assert {c.field for c in found.causes} == {"resamples", "level", "seed"}


def test_one_other_real_volume_means_nothing_can_be_compared(root, card):
    found = drift(card, scored(root, real="real-one-other"))
    assert (found.kind, found.exit_code) == ("not comparable", 2)
    assert found.causes[0].words.startswith("images: real: ")
    assert "7 of 8 real volumes are in both scorings, to the bit; 1 changed" in found.notes
    assert found.metrics == ()


@pytest.mark.parametrize("folder", ["synth-one-other", "synth-one-flipped"])
def test_one_other_synthetic_volume_is_neither_a_rescoring_nor_a_sample(root, card, folder):
    """A volume whose voxels were mirrored is another volume; the rest are the same to the bit."""
    found = drift(card, scored(root, synth=folder))
    assert (found.kind, found.outcome, found.exit_code) == ("changed images", "drift", 1)
    assert "1 of 6 synthetic volumes are other images" in found.verdict
    assert [c.field for c in found.causes if c.kind == "images"] == ["synth"]


def test_a_flip_that_the_affine_undoes_is_the_same_image(root, card, tmp_path):
    """Stored the other way round with the affine that says so, in RAS+ it is the same volume."""
    import nibabel as nib

    shutil.copytree(root / "synth", tmp_path / "synth")
    file = tmp_path / "synth" / "synth-0.nii.gz"
    image = nib.load(file)
    turned = image.as_reoriented([[0, -1], [1, 1], [2, 1]])
    nib.save(turned, tmp_path / "turned.nii.gz")
    shutil.move(tmp_path / "turned.nii.gz", file)
    again = scoring.score(
        root / "real", tmp_path / "synth", extractors=[EXTRACTOR], metrics=METRICS, resamples=100
    )
    assert drift(card, again).outcome == "pass"


# ---------------------------------------------------------------- new samples


def test_new_samples_of_one_generator_are_no_drift(card):
    found = drift(*two_cards(card, features(1), features(2)))
    assert (found.kind, found.outcome, found.exit_code) == ("resample", "pass", 0)
    assert found.generator[0].words == "no change shown"
    assert any("up to 7 times smaller" in note for note in found.notes)
    assert "no proof that nothing changed" in found.verdict


def test_a_changed_generator_is_found_by_each_question(card):
    found = drift(*two_cards(card, features(1), features(2, shift=1.0)))
    assert found.exit_code == 1
    assert found.generator[0].p == pytest.approx(1 / 401)
    assert statuses(found) == {"mmd2": "fail", "fid": "fail"}
    assert "the generator changed (voxels" in found.verdict


def test_differences_and_holm_by_direct_sums(card):
    """MMD^2 by its three sums over pairs; Holm: the smaller p doubled, then the larger of both."""
    first, second, real = features(1), features(2, shift=0.25), features(0)
    found = drift(*two_cards(card, first, second))

    def mmd2(y):
        def k(a, b):
            return np.exp(-((a[:, None] - b[None]) ** 2).sum(2) / (2 * 4.0**2))

        within = [(k(a, a).sum() - len(a)) / (len(a) * (len(a) - 1)) for a in (real, y)]
        return sum(within) - 2 * k(real, y).mean()

    row = row_of(found, "mmd2")
    assert row.difference == pytest.approx(mmd2(second) - mmd2(first), rel=1e-9)
    assert row.low < row.difference < row.high
    (p, adjusted), (q, of_larger) = sorted(
        (row.p, row.p_adjusted) for row in (row_of(found, "mmd2"), row_of(found, "fid"))
    )
    assert adjusted == pytest.approx(min(1, 2 * p))
    assert of_larger == pytest.approx(max(q, adjusted))


def test_the_interval_is_that_of_repeated_rows(card):
    """Real rows redrawn once for both, synthetic rows apart: the sd of the difference."""
    first, second, real = features(1), features(2, shift=0.6), features(0)
    rng = np.random.default_rng(5)
    pooled = np.concatenate([real, first, second])
    kernel = np.exp(-((pooled[:, None] - pooled[None]) ** 2).sum(2) / (2 * 4.0**2))

    def mmd2(x, y):
        def within(i):
            other = i[:, None] != i[None]
            return kernel[np.ix_(i, i)][other].mean()

        return within(x) + within(y) - 2 * kernel[np.ix_(x, y)].mean()

    draws = []
    for _ in range(300):
        x, y, z = (rng.integers(N, size=N) + k * N for k in range(3))
        draws.append(mmd2(x, z) - mmd2(x, y))
    found = drift(*two_cards(card, first, second))
    row = row_of(found, "mmd2")
    assert (row.high - row.low) / (2 * 1.96) == pytest.approx(np.std(draws), rel=0.2)


def test_volumes_of_one_seed_are_compared_with_each_other(card):
    """A shift of 0.02 of a standard deviation is far below what samples of 40 can tell apart.

    Of the same seeds, in whatever order, every volume has moved the same way: swapping a pair's
    labels never brings a larger discrepancy, so p is the smallest there is.
    """
    first = features(1)
    order = np.random.default_rng(3).permutation(N)
    second = (first + 0.02)[order]
    seeds = tuple(range(N)), tuple(order.tolist())
    found = drift(*two_cards(card, first, second, seeds))
    assert "of the same seeds" in found.statement
    assert found.generator[0].paired
    assert found.generator[0].moved == pytest.approx(0.02 * np.sqrt(D) / 4.0)
    assert found.generator[0].p == pytest.approx(1 / 401)
    assert found.exit_code == 1
    assert not any("7 times" in note for note in found.notes)
    unpaired = drift(*two_cards(card, first, second))
    assert unpaired.exit_code == 0
    for one, other in zip(widths(found), widths(unpaired), strict=True):
        assert one < other / 5


def test_volumes_of_one_seed_that_moved_by_rounding_are_no_drift(card):
    """A move of 1e-5 is as systematic as one of 0.02, and is none all the same."""
    seeds = (tuple(range(N)),) * 2
    found = drift(*two_cards(card, features(1), features(1) + 1e-5, seeds))
    assert found.generator[0].p == pytest.approx(1 / 401)
    assert found.exit_code == 0
    assert "rounding" in found.generator[0].words


@pytest.mark.parametrize(
    ("seeds", "statement", "note"),
    [
        ((None, None), "seeds not named", "not every volume has a sidecar that names its seed"),
        ((range(N), None), "seeds not named", "not every volume has a sidecar"),
        ((range(N), range(N)), "of the same seeds", None),
        ((range(N), range(N, 2 * N)), "of other seeds", "the seeds differ"),
        ((range(N), range(5, N + 5)), f"{N - 5} seeds in both", f"{N - 5} seeds are in both"),
    ],
    ids=["none", "one side", "same", "other", "some"],
)
def test_statement_and_notes_say_one_thing_of_the_seeds(card, seeds, statement, note):
    named = tuple(None if one is None else tuple(one) for one in seeds)
    found = drift(*two_cards(card, features(1), features(2), named))
    assert f", {statement})" in found.statement
    notes = [line for line in found.notes if "seed" in line]
    assert [line.startswith(note) for line in notes] == ([] if note is None else [True])


def test_nothing_is_said_of_the_seeds_of_two_generators(card):
    """Two networks draw other volumes of one seed: it makes no difference more certain."""
    origins = [{"origin": Origin(generator=name)} for name in ("a", "b")]
    found = drift(*two_cards(card, features(1), features(2), updates=origins))
    assert found.kind == "side by side"
    assert not any("seed" in line for line in found.notes)


def test_a_difference_that_only_the_correction_hides_is_named(card, monkeypatch):
    """Of 3 metrics, one has p = 0.02 alone: Holm makes it 0.06, above 0.025 or 0.05."""

    def compared(one, other, requested, terms):
        rows = [
            MetricDrift(
                metric=r.metric, extractor=r.extractor, label=r.label, status="pass",
                words=NO_CHANGE, baseline=1, current=2, difference=1, low=low, high=2, level=0.95,
                p=p, p_adjusted=adjusted,
            )
            for r, (low, p, adjusted) in zip(
                requested, ((0.1, 0.02, 0.06), (-1, 0.5, 1)), strict=True
            )
        ]  # fmt: skip
        return [], rows

    monkeypatch.setattr("synthbench.drift.drift.compare_samples", compared)
    found = drift(*two_cards(card, features(1), features(2)), metrics=["mmd2", "fid"])
    first, second = found.metrics
    assert found.verdict == (
        "no drift shown at this n, which is no proof that nothing changed. Taken alone, the "
        f"interval of {first.name} (p 0.020 alone, 0.060 corrected) excludes zero; among 2 metrics "
        "chance gives such a one, which Holm's correction accounts for"
    )
    assert second.name not in found.verdict
    assert any(line.startswith("p is corrected for 2 metrics (Holm)") for line in found.notes)


def test_a_margin_that_is_given_decides_and_the_floors_is_shown(card):
    cards = two_cards(card, features(1), features(2), detectable=9.0)
    found = drift(*cards, deltas={"mmd2": 1e-4})
    rows = {row.metric: row for row in found.metrics}
    assert (rows["mmd2"].delta_source, rows["mmd2"].equivalent) == ("given", False)
    assert (rows["mmd2"].status, found.exit_code) == ("fail", 1)
    assert (rows["fid"].delta_source, rows["fid"].equivalent) == ("minimum detectable effect", True)
    assert rows["fid"].status == "pass"
    assert drift(*cards, deltas={"mmd2": 0.5}).exit_code == 0


def test_a_library_that_moves_the_real_features_is_told_from_the_samples(card):
    """The same real volumes give features 1% larger: no question about the samples is answered."""
    first = card_of(card, sample_data_of(card, features(0), features(1), fingerprint="b"))
    second = sample_data_of(card, 1.01 * features(0), 1.01 * features(2), fingerprint="c")
    found = drift(first, with_software(card_of(card, second), torch="9.9"))
    assert found.exit_code == 2
    assert found.generator == ()
    words = [c.words for c in found.causes if c.kind == "software"]
    assert any(w.startswith("software: voxels of the same real volumes: 0 -> moved") for w in words)
    assert set(statuses(found).values()) == {"not compared"}


def test_another_number_of_samples_is_refused_for_what_depends_on_it(card):
    found = drift(*two_cards(card, features(1), features(2, n=30)))
    assert statuses(found) == {"mmd2": "pass", "fid": "not compared"}
    assert found.exit_code == 2


def test_samples_that_were_scored_elsewhere_are_explained(card, tmp_path):
    """A re-scoring needs the scorecards only; samples need what was kept of them."""
    first, second = two_cards(card, features(1), features(2))
    absent = second.model_copy(
        update={"synth": second.synth.model_copy(update={"fingerprint": "d" * 64})}
    )
    absent.save(tmp_path / "c.json")
    with pytest.raises(ScorecardError, match=r"c\.json were not scored on this machine: score the"):
        drift(first, tmp_path / "c.json")


# ---------------------------------------------------------------- two generators


def origins(*names):
    return [{"origin": Origin(generator=name), "name": name} for name in names]


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_generators_the_closer_one_is_named(card, order):
    """The one whose mean is the real one's, whichever is given first; a difference is no drift."""
    pairs = [("near", features(1)), ("far", features(2, shift=1.0))][::order]
    cards = two_cards(card, pairs[0][1], pairs[1][1], updates=origins(pairs[0][0], pairs[1][0]))
    found = drift(*cards)
    assert (found.kind, found.exit_code) == ("side by side", 0)
    assert found.generator == ()
    assert found.verdict == "near is closer in MMD² (RBF) (voxels), FID (voxels)"
    assert {row.closer for row in found.metrics} == {"near"}
    assert drift(*cards, gate=True).exit_code == 1


def test_two_generators_that_cannot_be_told_apart(card):
    found = drift(*two_cards(card, features(1), features(2), updates=origins("a", "b")), gate=True)
    assert found.exit_code == 0
    assert "no proof of equality" in found.verdict


# ---------------------------------------------------------------- what is refused, what is read


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metrics": ["mmd"]}, "no such row; did you mean 'mmd2'"),
        ({"deltas": {"mmd2": 0.1}}, "a margin is for new samples"),
        ({"alpha": 1.5}, "--alpha"),
    ],
)
def test_what_cannot_be_asked_is_said(card, options, words):
    with pytest.raises(UsageError, match=words):
        drift(card, card, **options)


@pytest.mark.parametrize("deltas", [{"mmd": 0.1}, {"mmd2": 0.0}, {"mmd2": float("nan")}])
def test_margins_are_checked(card, deltas):
    with pytest.raises(UsageError, match="--delta mmd"):
        drift(*two_cards(card, features(1), features(2)), deltas=deltas)


def test_a_metric_that_one_side_lacks_is_not_passed_over(card):
    less = card.model_copy(update={"values": card.values[:2]})
    found = drift(card, less)
    assert statuses(found)["intensity"] == "not compared"
    assert found.exit_code == 2
    why = Missing(reason="weights", text="fetch it")
    missing = card.values[0].model_copy(update={"value": None, "missing": why})
    found = drift(card, card.model_copy(update={"values": (missing, *card.values[1:])}))
    assert "no value in current: missing: fetch it" in found.metrics[0].words


def test_the_command(card, tmp_path):
    card.save(tmp_path / "a.json")
    with_values(card, 0.01).save(tmp_path / "b.json")
    result = run(
        "drift", tmp_path / "a.json", tmp_path / "b.json", "--json",
        "--junit", tmp_path / "out" / "d.xml", GITHUB_ACTIONS="true",
    )  # fmt: skip
    assert result.returncode == 1
    record = json.loads(result.stdout)
    assert (record["kind"], record["outcome"], record["exit_code"]) == ("rescore", "drift", 1)
    assert "::error title=synthbench drift::" in result.stderr
    assert ET.parse(tmp_path / "out" / "d.xml").getroot().get("failures") == "4"
    wrong = run("drift", tmp_path / "a.json", tmp_path / "b.json", "--delta", "mmd2")
    assert wrong.returncode == 2
    assert "write it as METRIC=VALUE" in wrong.stderr
    assert Scorecard.load(tmp_path / "a.json") == card


def test_the_committed_volumes_are_those_of_the_committed_baseline():
    """`make rescore` compares scorings of the same images only while both stay as they are."""
    frozen = Path(__file__).parents[1] / "data" / "rescored"
    card, benchmark = Scorecard.load(frozen / "baseline.json"), Benchmark.load(frozen)
    for side in ("real", "synth"):
        assert read_cohort(frozen / side).fingerprint == getattr(card, side).fingerprint
    assert card.protocol_hash == benchmark.protocol.hash
    assert all(value.value is not None for value in card.values)
