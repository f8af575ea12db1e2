"""Values that papers report of their own volumes, under their own protocols.

None of them can be compared with a number of synthbench: the real cohort, its size, the features,
the kernel and the estimator differ, and papers do not state all of them. A leaderboard shows them
only where its benchmark asks for them (`literature: true` in benchmark.yaml), in a section of their
own, which says this.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """A row of a paper's table.

    Attributes
    ----------
    model
        The generator, or "real".
    source
        The paper and its table.
    fid, mmd, ms_ssim, g4r_ssim
        As printed, with the brackets that the paper gives; empty where it has none.
    protocol
        What the paper states about the cohort and the measure, and what it does not state.
    seconds_a_volume
        Seconds per volume of sampling, on the paper's hardware.
    """

    model: str
    source: str
    fid: str
    mmd: str
    ms_ssim: str
    g4r_ssim: str
    protocol: str
    seconds_a_volume: str = ""


_DDPM = "3-D DDPM of T1-weighted brain MRI, Table 2"
_DDPM_PROTOCOL = (
    "86 against 86 volumes, 84 x 128 x 84; FID on a MedicalNet; brackets of 1000 bootstrap "
    "resamples, for MS-SSIM the dispersion over pairs; the kernel of MMD is not stated"
)
_LDM = (
    "Pinaya et al., Brain imaging generation with latent diffusion models, 2022 "
    "(arXiv:2209.07162), Table 1"
)
_LDM_PROTOCOL = "UK Biobank, 31,740 training images, 160 x 224 x 160 at 1 mm; no intervals"

REPORTED: tuple[Reported, ...] = (
    Reported(
        "3-D DDPM", _DDPM, "19.39 [16.8, 22.5]", "0.036 [0.028, 0.045]", "0.58 [0.51, 0.64]", "",
        _DDPM_PROTOCOL,
    ),
    Reported("real", _DDPM, "", "", "0.74 [0.68, 0.79]", "", _DDPM_PROTOCOL),
    Reported("LSGAN", _LDM, "0.0231", "", "0.9997", "0.9969", _LDM_PROTOCOL),
    Reported("VAE-GAN", _LDM, "0.1576", "", "0.9671", "0.8719", _LDM_PROTOCOL),
    Reported("LDM", _LDM, "0.0076", "", "0.6555", "0.3883", _LDM_PROTOCOL, "142.3 (TITAN RTX)"),
    Reported("LDM, DDIM", _LDM, "0.0080", "", "0.6704", "0.3957", _LDM_PROTOCOL,
             "7.6 (TITAN RTX)"),
    Reported("real", _LDM, "0.0005", "", "0.6536", "0.3909", _LDM_PROTOCOL),
)  # fmt: skip
