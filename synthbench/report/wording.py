r"""What a formula of the protocol says, in words and mathematics for a paper.

A protocol records formulas as lines of text. Each of them that synthbench writes has words here,
by the text itself: a formula of a plugin, or of another version, has none and is quoted as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_BALL = (
    r"the closed ball around a {set} volume that reaches its $k$-th nearest {set} volume "
    "of another subject"
)


class Words(NamedTuple):
    """What a formula says.

    Attributes
    ----------
    text
        LaTeX: a clause that follows "The NAME is". A name between « and » stands for a setting.
    cites
        Keys of `synthbench.report.references.WORKS`.
    """

    text: str
    cites: tuple[str, ...] = ()


WORDS: Mapping[str, Words] = {
    "U-statistic; exp(-|a-b|^2 / (2 l^2)); l^2 = median |a-b|^2 over distinct real pairs": Words(
        r"the U-statistic of the squared maximum mean discrepancy under the kernel "
        r"$\exp(-\|a-b\|^2/(2\ell^2))$, with $\ell^2$ the median of $\|a-b\|^2$ over distinct real "
        r"pairs ($\ell=$ «bandwidth»)",
        ("gretton2012",),
    ),
    "|mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)); divisors n - 1; not clamped": Words(
        r"the Fr\'echet distance $\|\mu_x-\mu_y\|^2+\mathrm{tr}(S_x+S_y-2(S_xS_y)^{1/2})$ between "
        r"Gaussians fitted to the features, whose covariances have the divisor $n-1$; it is not "
        "clamped at zero",
        ("dowson1982", "heusel2017"),
    ),
    "U-statistic; (a.b / d + 1)^3, d features; whole sets, no subsets": Words(
        r"the U-statistic of the squared maximum mean discrepancy under the kernel "
        r"$(a\cdot b/d+1)^3$ of the $d$ features, over whole sets and not over subsets",
        ("binkowski2018",),
    ),
    "share of synth within the k-NN balls (closed) of real; k over other subjects": Words(
        "the share of synthetic volumes that lie in a real ball: "
        + _BALL.format(set="real") + r" ($k=$ «k»)",
        ("kynkaanniemi2019",),
    ),
    "share of real within the k-NN balls (closed) of synth; k over other subjects": Words(
        "the share of real volumes that lie in a synthetic ball: "
        + _BALL.format(set="synthetic") + r" ($k=$ «k»)",
        ("kynkaanniemi2019",),
    ),
    "mean number of k-NN balls (closed) of real that a synth is in, / k; may exceed 1": Words(
        "the mean number of real balls that a synthetic volume lies in, divided by $k$, which may "
        "exceed one ($k=$ «k»)",
        ("naeem2020",),
    ),
    "share of the k-NN balls (closed) of real that hold a synth; k over other subjects": Words(
        "the share of real balls that hold a synthetic volume: "
        + _BALL.format(set="real") + r" ($k=$ «k»)",
        ("naeem2020",),
    ),
    "mean over synth of min(k-NN balls (closed) of real that hold it / k, 1), / the same of real; "
    "radii at most their median; at most 1": Words(
        r"the mean over synthetic volumes of $\min(b/k,1)$, with $b$ the number of real balls that "
        "hold the volume, divided by the same mean over real volumes, and at most one: "
        + _BALL.format(set="real") + r", with a radius of at most the median radius ($k=$ «k»)",
        ("salvy2026",),
    ),
    "m' / m, with m' the number of synth of the real distribution whose expected mean min(images "
    "in a k-NN ball (closed) of real / k, 1) is that found; at most 1": Words(
        "the share of synthetic volumes that, if they followed the real distribution and the rest "
        "lay outside all balls, would be expected to fill the real balls as far as was found: a "
        r"ball that holds $b$ volumes is filled to $\min(b/k,1)$; "
        + _BALL.format(set="real") + r" ($k=$ «k»)",
        ("salvy2026",),
    ),
    "R(real) - R(synth), R = N / (1 + (N - 1) q), q = mean k(a,b)^2 over pairs of distinct "
    "subjects, k(a,b) = exp(-|a-b|^2 / (2 l^2)), N = real subjects; l^2 = median squared distance "
    "between distinct real images * 0.25": Words(
        r"the effective number of real volumes less that of synthetic ones, $N/(1+(N-1)q)$ for "
        r"$N=$ «images», with $q$ the mean of $\exp(-\|a-b\|^2/\ell^2)$ over pairs of distinct "
        r"subjects of the set and $\ell$ half of the median distance between distinct real volumes "
        r"($\ell=$ «bandwidth»)",
        ("jalali2023",),
    ),
    "share of synth with any feature outside the real limits: r-th smallest and largest real "
    "value, r = max(1, floor(0.005 (n + 1)))": Words(
        "the share of synthetic volumes with a measure outside the real limits, which are the "
        r"$r$-th smallest and $r$-th largest of the $n$ real values, with "
        r"$r=\max(1,\lfloor0.005\,(n+1)\rfloor)$",
    ),
    "100 x (mean over real of -log p / dimensions - log(2 pi e) / 2), p = mean over synth of a "
    "Gaussian, variances by EM on the real images of other subjects and one at the real variance "
    "(30 steps); principal components of real, unit variance": Words(
        r"100 times the excess of the mean of $-\log p/D$ over real volumes above "
        r"$\log(2\pi e)/2$, where $p$ is the mean of Gaussians around the synthetic volumes, on "
        r"the first $D=$ «dimensions» principal components of the real ones with unit variance; "
        "the variances are fitted by 30 steps of EM to the real volumes of other subjects and one "
        "at the real variance",
        ("jiralerspong2023",),
    ),
    "mean MS-SSIM over synthetic pairs less that over real pairs, inside the mask": Words(
        "the mean multiscale structural similarity over pairs of synthetic volumes less that over "
        "pairs of real volumes, inside the mask",
        ("wang2003",),
    ),
    "mean MS-SSIM over synthetic pairs less that over real pairs, over the full frame": Words(
        "the mean multiscale structural similarity over pairs of synthetic volumes less that over "
        "pairs of real volumes, over the full frame",
        ("wang2003",),
    ),
    "U-statistic of the squared difference of mean 10 log10(radial power + 8-bit rounding), "
    "averaged over bins of 1/(mask box's shortest side) up to Nyquist; in-mask mean removed, "
    "sin^2 taper of 8 mm into the mask. Seams: likewise of 10 log10 of each slice's mean square "
    "second difference, averaged over 30 mm in-plane patches; less the volume's mean level along "
    "the other axis that rose less from real to synth; slices of at least 0.2 of the largest":
    Words(
        r"the U-statistic of the squared difference of the sets' mean $10\log_{10}$ of the radial "
        "power (to which the power of rounding to 8 bits is added), averaged over bins of one over "
        "the shortest side of the mask's box up to the Nyquist frequency; the mean inside the mask "
        r"is removed, and a $\sin^2$ taper reaches 8~mm into the mask. Seams along an axis are "
        r"compared likewise, by $10\log_{10}$ of each slice's mean square second difference, "
        "averaged over in-plane patches of 30~mm, less the volume's mean level along that other "
        "axis which rose less from real to synthetic; slices count that have at least 0.2 of the "
        "largest slice's area",
        ("durall2020",),
    ),
    "mean over CJV, EFC and WM2MAX of the Wasserstein-1 distance of real and synth / sd of real "
    "(divisor n); inside the mask; tissues: three Gaussians by EM on 256 levels": Words(
        "the mean over three measures of image quality of the Wasserstein-1 distance between the "
        "real and the synthetic volumes, in standard deviations of the real ones (divisor $n$): "
        "the coefficient of joint variation, the entropy focus criterion and the ratio of white "
        "matter to the 99.95th percentile, inside the mask, with the tissues from a mixture of "
        "three Gaussians that is fitted to 256 levels of intensity",
        ("esteban2017",),
    ),
    "mean over features of the Wasserstein-1 distance of real and synth / sd of real (divisor n); "
    "d = difference of means / that sd; share of features with |d| < 0.2; rejects: any feature "
    "beyond 5 sd of the real mean": Words(
        "the mean over regions of the brain of the Wasserstein-1 distance between the real and the "
        "synthetic volumes of the region, in standard deviations of the real ones (divisor $n$); "
        "$d$ is the difference of the means in the same unit, and an image is rejected where a "
        "region lies more than five of them from the real mean",
        ("villani2009",),
    ),
    "Wasserstein-1 distance of the sets' mean in-mask intensity distributions, from cumulative "
    "shares at 255 thresholds (k + 1/2)/255": Words(
        "the Wasserstein-1 distance of the sets' mean distributions of intensities inside the "
        r"mask, from cumulative shares at the 255 thresholds $(k+1/2)/255$",
        ("villani2009",),
    ),
    "mean over synth of log(d_H / d_T), d to the nearest image of the hold-out and of training "
    "(mean over subsets of equal numbers of subjects), floored; permuted labels, one-sided": Words(
        r"the mean over synthetic volumes of $\log(d_H/d_T)$, with $d_H$ and $d_T$ the distances "
        "to the nearest volume of the hold-out and of the training set (means over subsets of "
        "equal numbers of subjects) and a floor below both; the one-sided test permutes the labels",
        ("alaa2022", "meehan2020"),
    ),
    "AUC of log p_G - log p_R of training against hold-out subjects, less that of training "
    "against training subjects; densities by nearest neighbours in whitened principal "
    "components of the reference": Words(
        r"the area under the receiver operating characteristic curve of $\log p_G-\log p_R$, the "
        "densities of the synthetic and of reference volumes, for training against hold-out "
        "subjects, less that for training against other training subjects; densities come from "
        "the «neighbours» nearest neighbours in at most «dimensions» whitened principal components "
        "of the reference",
        ("vanbreugel2023",),
    ),
    "share of cubes with d to one real subject < ratio x d to every other, of training less of "
    "hold-out subjects; cubes inside the mask, real ones as they are or mirrored; permuted "
    "labels, studentized, max over sides": Words(
        r"the share of synthetic cubes of voxels whose distance to one real subject is below the "
        "ratio times that to every other one, of training less that of hold-out subjects; cubes "
        "lie inside the mask, and real ones are taken as they are or mirrored; the studentized "
        "test permutes the labels and takes the largest statistic over the cubes' sides",
        ("chung2013", "kamb2025"),
    ),
    "U-statistic; -|a-b|^2 / 2 over all voxels, which gives the linear kernel's value": Words(
        r"the U-statistic of the squared maximum mean discrepancy under $-\|a-b\|^2/2$ over all "
        "voxels, which gives the linear kernel's value",
        ("gretton2012",),
    ),
    "mean 4-G-R-SSIM over synthetic pairs less that over real pairs, inside the mask; r = "
    "s_xy/(s_x s_y) of 3-D Sobel |gx|+|gy|+|gz|, Gaussian window 11, sigma 1.5; mean over "
    "preserved edges, changed edges, smooth, texture (0.12 and 0.06 of the largest gradient); "
    "mean of both volumes as reference": Words(
        "the mean 4-G-R-SSIM over pairs of synthetic volumes less that over pairs of real volumes, "
        r"inside the mask: $r=s_{xy}/(s_xs_y)$ of Sobel's gradients $|g_x|+|g_y|+|g_z|$, in a "
        r"Gaussian window of 11 voxels with $\sigma=1.5$, averaged over preserved edges, changed "
        "edges, smooth voxels and texture (0.12 and 0.06 of the largest gradient), with each "
        "volume of a pair as the reference once",
        ("chen2006", "li2010", "pinaya2022", "rouse2008"),
    ),
}  # fmt: skip


def in_words(settings: Mapping[str, Any]) -> Words | None:
    """Return what the formula among a metric's settings says; None where it has no words."""
    return WORDS.get(str(settings.get("formula")))
