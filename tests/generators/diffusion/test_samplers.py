"""The table of samplers."""

from __future__ import annotations

from typing import get_args

from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.diffusion.samplers import SAMPLERS, samplers_in_words
from synthbench.generators.diffusion.schedule import Sampler
from tests.generators.diffusion.examples import diffusion


def test_choices_help_and_steps_come_from_the_table():
    assert get_args(Sampler) == tuple(SAMPLERS)
    assert samplers_in_words() == "ddpm (all steps), ddim, dpm++, unipc, heun"
    process = diffusion()
    default = {name: process.sampling(name)["steps"] for name in SAMPLERS}
    assert default == {"ddpm": 1000, "ddim": 25, "dpm++": 25, "unipc": 10, "heun": 13}
    calls = {name: Diffusion.network_calls(name, 10) for name in SAMPLERS}
    assert calls == {"ddpm": 10, "ddim": 10, "dpm++": 10, "unipc": 10, "heun": 19}
