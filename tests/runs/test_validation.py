"""Wrong settings are refused in words of ours, with an example that can be typed."""

from __future__ import annotations

import pytest

from synthbench.errors import RunError, UsageError
from synthbench.runs import configuration
from synthbench.training import training

SHAPE = r"space.shape: a list of 3 whole numbers.* is needed; found {}. .*space.shape=\[48,56,48\]"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("space.shape=[16,16]", SHAPE.format(r"\[16,16\]")),
        ("space.shape=[16,16,16,16]", SHAPE.format(r"\[16,16,16,16\]")),
        ("space.shape=16", SHAPE.format("16")),
        ("space.shape=[a,b,c]", SHAPE.format(r"\[a,b,c\]")),
        ("space.shape=[16,16,0]", r"\(above 0\)"),
        ("space.spacing=two", r"a number is needed; found two. For example: --set space.spacing=2"),
        ("space=3", "space: a group of settings is needed, such as space.shape; found 3"),
        ("space.shap=[16,16,16]", "ldm3d has no setting 'space.shap': did you mean 'space.shape'"),
        ("autoencoder.chanels=[8]", "did you mean 'autoencoder.channels'"),
        ("batch_size=true", r"batch_size: a whole number is needed; found true.*batch_size=1"),
        ("learning_rate=false", "learning_rate: a number is needed; found false"),
        ("channels=[8,true]", r"channels: a list of whole numbers is needed; found \[8,true\]"),
        ("space.spacing=true", "space.spacing: a number is needed; found true"),
        ("autoencoder.batch_size=true", "autoencoder.batch_size: a whole number is needed"),
        ("sampler_steps=true", "sampler_steps: a whole number is needed"),
        ("batch_size=1.5", "a whole number is needed; found 1.5"),
        ("timesteps=1", r"a whole number \(at least 2\) is needed; found 1"),
        ("precision=fp64", "one of fp32, bf16 is needed; found fp64"),
        ("flip=3", "true or false is needed; found 3"),
        ("freeze=unet", r"freeze: a list of texts is needed; found unet.*freeze=\[unet"),
        ("autoencoder.channels=[3]", "3 is not divisible by norm_groups"),
    ],
)
def test_a_wrong_setting_is_refused_in_plain_words(override, words):
    with pytest.raises(UsageError, match=words) as refused:
        configuration.resolve("ldm3d", preset="tiny", overrides=[override])
    for jargon in ("Settings", "Input should", "Field required", "tuple", "dictionary"):
        assert jargon not in str(refused.value)


@pytest.mark.parametrize(
    "override",
    ["batch_size=2", "flip=true", "learning_rate=1e-4", "learning_rate=1", "attention=[true,true]"],
)
def test_what_can_be_is_taken(override):
    configuration.resolve("ldm3d", preset="tiny", overrides=[override])


def test_a_configuration_that_was_edited_is_refused_likewise(make_cohort, tmp_path):
    run = training.train("noise", out=tmp_path / "run", real=make_cohort("real", n=2))
    run.update(finished=False)
    run.write_config({**run.config, "seed": True})
    with pytest.raises(RunError, match=r"config\.yaml: seed: Input should be a valid integer"):
        training.train(out=run.folder, resume=True)
