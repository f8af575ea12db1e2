"""What a generator can do beyond the contract: asked with isinstance, checked, never dropped."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import Field

from synthbench import registry
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import UsageError
from synthbench.generators import generator
from synthbench.generators.generator import Frame, Settings, one_step
from synthbench.generators.loop.settings import LoopSettings, StepSettings
from synthbench.generators.noise import Noise
from synthbench.runs.sidecar import sidecar_file
from synthbench.sampling import sampling
from synthbench.sampling.sweep import sweep
from synthbench.testing import check_generator
from synthbench.training import training

AGES = [20.0, 35.0, 50.0, 65.0, 80.0]
CAPABILITIES = (
    generator.TrainedBySteps, generator.HasTrajectory, generator.Conditional, generator.Guided,
    generator.TrainedWithPerceptual,
)  # fmt: skip


class AgeSettings(Settings):
    conditions: tuple[str, ...] = Field(default=("age",), description="covariates")


class Linear:
    """Fits each voxel as a line in the first condition, by least squares."""

    name = "linear"
    summary = "closed form, conditional"
    needs = "nothing"
    settings: Any = AgeSettings

    def fit(
        self, volumes, settings, run, *, resume=False, init=None, progress=None, conditions=None
    ):
        x = np.array([[1.0, next(iter(row.values()))] for row in conditions])
        stacked = np.stack([volume.astype(np.float64) for volume in volumes])
        slopes = np.linalg.lstsq(x, stacked.reshape(len(x), -1), rcond=None)[0]
        run.save_weights({"slopes": slopes.reshape(2, *stacked.shape[1:]), "x": x})
        if progress:
            progress(1, 1, "")

    def sampling(self, run, sampler, steps):
        return one_step(self.name, sampler, steps)

    def sample(self, run, seeds, *, sampler=None, steps=None, conditions=None):
        weights = run.load_weights()
        intercept, slope = weights["slopes"]
        for place, seed in enumerate(seeds):
            value = weights["x"][:, 1].mean()
            if conditions is not None:
                value = next(iter(conditions[place].values()))
            noise = 0.01 * np.random.default_rng(seed).standard_normal(slope.shape)
            yield np.clip(intercept + slope * value + noise, 0, 1).astype(np.float32)


@pytest.fixture
def install(monkeypatch):
    """Return a function that makes a class a generator with a name."""

    def put(kind, name="linear"):
        monkeypatch.setitem(globals(), "Installed", kind)
        monkeypatch.setitem(registry.BUILT_IN["generators"], name, f"{__name__}:Installed")
        return name

    return put


@pytest.fixture
def aged(make_cohort):
    """Five volumes whose subjects are 20, 35, 50, 65 and 80 years old."""
    real = make_cohort("real", n=5, shape=(16, 16, 16))
    people = [f"sub-{i:03d}" for i in range(5)]
    table = pd.DataFrame({"participant_id": people, "age": AGES})
    table.to_csv(real / "participants.tsv", sep="\t", index=False)
    return real


# ---------------------------------------------------------------- isinstance


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("noise", [False, False, False, False, False]),
        ("memorizer", [False, False, False, False, False]),
        ("mixup", [False, False, False, False, False]),
        ("local3d", [False, False, True, False, False]),
        ("pca-gaussian", [False, False, False, False, False]),
        ("ddpm3d", [True, True, False, False, False]),
        ("rflow3d", [True, True, False, False, False]),
        ("dit-tiles", [True, True, True, True, False]),
        ("ldm3d", [True, True, True, True, True]),
        ("lsgan3d", [True, False, False, False, False]),
        ("vaegan3d", [True, False, False, False, False]),
    ],
)
def test_built_in_generators_have_the_capabilities_that_their_methods_say(name, expected):
    plugin = registry.load("generators", name)()
    assert [isinstance(plugin, capability) for capability in CAPABILITIES] == expected
    by_steps = expected[0]
    assert issubclass(plugin.settings, LoopSettings) is by_steps
    ruled = name in ("ddpm3d", "dit-tiles", "ldm3d", "rflow3d")  # the others take any grid
    assert isinstance(plugin.settings.model_construct(), generator.GridRule) is ruled


def test_a_keyword_makes_the_capability_and_not_the_method_alone():
    class Half(Noise):
        def sample(self, run, seeds, *, sampler=None, steps=None, conditions=None):
            return super().sample(run, seeds)

    class Anything(Linear):
        def sample(self, run, seeds, **options):
            return super().sample(run, seeds)

    assert isinstance(Linear(), generator.Conditional)
    assert not isinstance(Half(), generator.Conditional)
    assert not isinstance(Anything(), generator.Conditional)


# ---------------------------------------------------------------- a closed form with conditions


def test_a_closed_form_generator_is_given_its_covariates(install, aged, tmp_path):
    """With each volume's own age a, of mean 50, the slope is sum (a - 50) v / sum (a - 50)^2."""
    run = training.train(install(Linear), out=tmp_path / "run", real=aged)
    cohort = read_cohort(aged)
    ages = np.array([AGES[int(entry.subject.removeprefix("sub-"))] for entry in cohort.entries])
    assert run.load_weights()["x"][:, 1].tolist() == ages.tolist()
    assert [c["name"] for c in run.record["conditions"]] == ["age"]
    stacked = np.stack([volume.astype(np.float64) for volume in cohort.volumes()])
    slope = np.tensordot(ages - 50, stacked, 1) / np.sum((ages - 50) ** 2)
    assert np.allclose(run.load_weights()["slopes"][1], slope, atol=1e-9)
    files = sampling.sample(run, 1, tmp_path / "s", choices=["age=30"])
    assert json.loads(sidecar_file(files[0]).read_text(encoding="utf-8"))["conditions"] == {
        "age": 30.0
    }


def test_conditions_are_recorded_only_where_they_were_handed_over(install, aged, tmp_path):
    install(Linear)
    run = training.train("noise", out=tmp_path / "noise", real=aged)
    assert run.record["conditions"] is None
    with pytest.raises(UsageError, match="trained without conditions"):
        sampling.sample(run, 1, tmp_path / "s", choices=["age=30"])


# ---------------------------------------------------------------- nothing is dropped in silence


class Unconditional(Noise):
    name = "unconditional"
    settings: Any = AgeSettings


class ClosedForm(Noise):
    name = "closed"
    settings: Any = type("PerceptualSettings", (Settings,), {
        "__annotations__": {"perceptual": "str | None"}, "perceptual": "random-resnet10",
    })  # fmt: skip


class NoStages(Noise):
    name = "no-stages"
    settings: Any = type("Steps", (LoopSettings,), {"__annotations__": {}})


class NoLoop(Noise):
    name = "no-loop"

    def stages(self, settings):
        return []


@pytest.mark.parametrize(
    ("kind", "overrides", "message"),
    [
        (Unconditional, [], "^conditions: .* cannot be trained on age: its fit and sample do not"),
        (ClosedForm, [], "^perceptual: .* cannot be trained with random-resnet10"),
        (NoStages, ["steps=1"], r"settings of a training by steps, but no method stages\(\)"),
        (NoLoop, [], r"has a method stages\(\), so its settings must be"),
        (Noise, ["score_extractor=voxels"], "^score_extractor: .* is not trained by steps"),
    ],
)
def test_a_setting_that_would_be_dropped_is_refused_before_anything_is_written(
    kind, overrides, message, install, aged, tmp_path
):
    name = install(kind)
    with pytest.raises(UsageError, match=message):
        training.train(name, out=tmp_path / "run", real=aged, overrides=overrides)
    assert not (tmp_path / "run").exists()


def test_a_record_of_conditions_that_nothing_learnt_is_not_sampled(install, aged, tmp_path):
    """What an earlier version wrote: conditions in the record, of a generator that takes none."""
    run = training.train(install(Linear), out=tmp_path / "run", real=aged)
    install(Unconditional)
    for draw in (
        lambda: sampling.sample(run, 1, tmp_path / "s", choices=["age=30"]),
        lambda: sampling.sample(run, 1, tmp_path / "s"),
        lambda: sweep(run, ["age=0:1:3"], tmp_path / "s"),
    ):
        with pytest.raises(UsageError, match="its record holds the conditions age, but linear"):
            draw()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda out: training.train("noise", out=out, validaton=None), "train.*'validation'"),
        (lambda out: sampling.sample("run", 1, out, sead=3), "sample.*'seed'"),
        (lambda out: sweep("run", ["age=0:1:3"], out, naturall=True), "sweep.*'natural'"),
    ],
)
def test_a_wrong_option_names_the_nearest(call, words, tmp_path):
    with pytest.raises(TypeError, match=words):
        call(tmp_path / "out")


# ---------------------------------------------------------------- the check


def checked(kind, aged, folder, settings=None):
    folder.mkdir()
    check_generator(kind(), read_cohort(aged).volumes(), folder, settings)


def test_a_sound_conditional_generator_passes(aged, tmp_path):
    checked(Linear, aged, tmp_path / "run")


class Deaf(Linear):
    def sample(self, run, seeds, *, sampler=None, steps=None, conditions=None):
        return super().sample(run, seeds)


class Unread(Linear):
    def fit(self, volumes, settings, run, *, progress=None, conditions=None, **options):
        rows = [{"age": float(i)} for i in range(len(conditions))]
        super().fit(volumes, settings, run, progress=progress, conditions=rows)


class NoField(Linear):
    settings: Any = Settings


class FitAlone(Linear):
    def sample(self, run, seeds, *, sampler=None, steps=None):  # type: ignore[override]
        return super().sample(run, seeds)


class Neighbours(Linear):
    def sample(self, run, seeds, *, sampler=None, steps=None, conditions=None):
        same = None if conditions is None else [conditions[-1]] * len(seeds)
        return super().sample(run, seeds, conditions=same)


class NeedsRows(Linear):
    def sample(self, run, seeds, *, sampler=None, steps=None, conditions=None):
        return super().sample(run, seeds, conditions=conditions) if conditions else iter(())


class Unrecorded(Linear):
    def sampling(self, run, sampler, steps, *, guidance=None):
        return super().sampling(run, sampler, steps)

    def sample(self, run, seeds, *, sampler=None, steps=None, conditions=None, guidance=None):
        return super().sample(run, seeds, conditions=conditions)


class GuidedAlone(Linear):
    def sample(self, run, seeds, *, sampler=None, steps=None, conditions=None, guidance=None):
        return super().sample(run, seeds, conditions=conditions)


class UnnamedPrecision(Linear):
    def sampling(self, run, sampler, steps, *, precision="fp32"):
        return super().sampling(run, sampler, steps)

    def sample(
        self, run, seeds, *, sampler=None, steps=None, conditions=None, precision="fp32"
    ):  # fmt: skip
        return super().sample(run, seeds, conditions=conditions)


class OtherVolumes(UnnamedPrecision):
    def sample(
        self, run, seeds, *, sampler=None, steps=None, conditions=None, precision="fp32"
    ):  # fmt: skip
        for volume in super().sample(run, seeds, conditions=conditions):
            yield volume if precision == "fp32" else 1 - volume


class PrecisionAlone(Linear):
    def sampling(self, run, sampler, steps, *, precision="fp32"):
        return super().sampling(run, sampler, steps)


class Elsewhere(Noise):
    def trajectory(self, run, seed, *, sampler, steps, frames):
        volume = next(self.sample(run, [seed + 1]))
        yield Frame(0, 0, volume, volume)


class NoFrame(Noise):
    def trajectory(self, run, seed, *, sampler, steps, frames):
        yield from ()


class OneSide(Noise):
    settings: Any = type(
        "OneSide", (Settings,), {"check_grid": lambda self, shape: None, "__annotations__": {}}
    )


class WrongNearest(Noise):
    class WrongSettings(Settings):
        def check_grid(self, shape):
            if any(side % 8 for side in shape):
                raise UsageError(f"{shape}: every side must be divisible by 8")

        def nearest_grid(self, shape):
            return shape

    settings: Any = WrongSettings


class Unwatched(Noise):
    """It claims to be trained by steps, and calls no monitor."""

    settings: Any = type("Steps", (LoopSettings,), {"__annotations__": {}})

    def stages(self, settings):
        return [generator.Stage(lambda: None, None, settings)]  # type: ignore[arg-type,return-value]

    def fit(self, volumes, settings, run, *, resume=False, init=None, progress=None, monitor=None):
        run.save_weights({"shape": np.array(volumes.space.shape)})
        run.update(noise=True)
        progress(1, 1, "")


class NoMonitor(Unwatched):
    def fit(  # type: ignore[override]
        self, volumes, settings, run, *, resume=False, init=None, progress=None
    ):
        super().fit(volumes, settings, run, progress=progress)


class StepsAlone(Noise):
    settings: Any = type("Steps", (StepSettings,), {"__annotations__": {}})


STEPS = {"steps": 1}
BROKEN: dict[str, tuple[Any, dict[str, Any], str]] = {
    "conditions not used": (Deaf, {}, "sample does not use them"),
    "conditions not read": (Unread, {}, "fit was given conditions and did not read them"),
    "no field": (NoField, {}, "fit.. takes `conditions`, but its settings have no field"),
    "field alone": (Unconditional, {}, "a field `conditions`, but fit.. does not take it"),
    "fit alone": (FitAlone, {}, r"fit\(\) takes `conditions`, so fit and sample must both"),
    "another's conditions": (Neighbours, {}, "depends on the other seeds of the call"),
    "rows needed": (NeedsRows, {}, "sample without conditions gave 0 volumes for 1"),
    "guidance not recorded": (Unrecorded, {}, "a guidance of 1 and does not return it"),
    "guidance in sample alone": (GuidedAlone, {}, "sampling and sample must both take it"),
    "precision not recorded": (UnnamedPrecision, {}, "of bf16 and does not return it"),
    "another volume in bf16": (OtherVolumes, {}, "further from its own in fp32 than another seed"),
    "precision in sampling alone": (PrecisionAlone, {}, r"sampling\(\) takes `precision`, so"),
    "another trajectory": (Elsewhere, {}, "last frame of .* is not the volume of its seed"),
    "no frame": (NoFrame, {}, r"trajectory\(\) yields no frame"),
    "half a grid rule": (OneSide, {}, r"both check_grid\(\) and nearest_grid\(\)"),
    "wrong nearest": (WrongNearest, {}, r"nearest_grid\(\) gives .*17.* refuses"),
    "not watched": (Unwatched, STEPS, "given a monitor and called its log for no step"),
    "no monitor": (NoMonitor, STEPS, r"fit\(\) must take `monitor`"),
    "no stages": (StepsAlone, STEPS, r"stages\(\) is missing"),
    "stages without a loop": (NoLoop, {}, "settings must be a .*LoopSettings"),
}


@pytest.mark.parametrize(("kind", "settings", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_claim_is_named(kind, settings, message, aged, tmp_path):
    with pytest.raises(AssertionError, match=message) as refusal:
        checked(kind, aged, tmp_path / "run", settings)
    assert str(refusal.value).startswith(f"{kind.name}: ")
