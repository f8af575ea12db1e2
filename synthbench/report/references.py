r"""The works that a methods paragraph cites, as BibTeX writes them.

Text is ASCII with LaTeX's accents, which every version of BibTeX reads.
"""

from __future__ import annotations

from collections.abc import Iterable

from synthbench.render.latex import escaped

OWN = "synthbench"
"""The key of this program."""

# By key: the kind of entry, and its fields in the order in which they are written.
WORKS: dict[str, tuple[str, dict[str, str]]] = {
    "alaa2022": ("inproceedings", {
        "author": "Alaa, Ahmed M. and van Breugel, Boris and Saveliev, Evgeny and "
        "van der Schaar, Mihaela",
        "title": "How faithful is your synthetic data? {S}ample-level metrics for evaluating and "
        "auditing generative models",
        "booktitle": "International Conference on Machine Learning",
        "year": "2022",
    }),
    "binkowski2018": ("inproceedings", {
        "author": r"Bi{\'n}kowski, Miko{\l}aj and Sutherland, Danica J. and Arbel, Michael and "
        "Gretton, Arthur",
        "title": "Demystifying {MMD} {GANs}",
        "booktitle": "International Conference on Learning Representations",
        "year": "2018",
    }),
    "chen2006": ("inproceedings", {
        "author": "Chen, Guan-Hao and Yang, Chun-Ling and Xie, Sheng-Li",
        "title": "Gradient-based structural similarity for image quality assessment",
        "booktitle": "International Conference on Image Processing",
        "year": "2006",
    }),
    "chen2019": ("misc", {
        "author": "Chen, Sihong and Ma, Kai and Zheng, Yefeng",
        "title": "{Med3D}: Transfer learning for {3D} medical image analysis",
        "howpublished": "arXiv:1904.00625",
        "year": "2019",
    }),
    "chung2013": ("article", {
        "author": "Chung, EunYi and Romano, Joseph P.",
        "title": "Exact and asymptotically robust permutation tests",
        "journal": "Annals of Statistics",
        "volume": "41",
        "year": "2013",
    }),
    "dowson1982": ("article", {
        "author": "Dowson, D. C. and Landau, B. V.",
        "title": r"The {F}r{\'e}chet distance between multivariate normal distributions",
        "journal": "Journal of Multivariate Analysis",
        "volume": "12",
        "year": "1982",
    }),
    "durall2020": ("inproceedings", {
        "author": "Durall, Ricard and Keuper, Margret and Keuper, Janis",
        "title": "Watch your up-convolution: {CNN} based generative deep neural networks are "
        "failing to reproduce spectral distributions",
        "booktitle": "Conference on Computer Vision and Pattern Recognition",
        "year": "2020",
    }),
    "esteban2017": ("article", {
        "author": "Esteban, Oscar and others",
        "title": "{MRIQC}: advancing the automatic prediction of image quality in {MRI} from "
        "unseen sites",
        "journal": "PLOS ONE",
        "volume": "12",
        "number": "9",
        "year": "2017",
    }),
    "gretton2012": ("article", {
        "author": r"Gretton, Arthur and Borgwardt, Karsten M. and Rasch, Malte J. and "
        r"Sch{\"o}lkopf, Bernhard and Smola, Alexander",
        "title": "A kernel two-sample test",
        "journal": "Journal of Machine Learning Research",
        "volume": "13",
        "year": "2012",
    }),
    "heusel2017": ("inproceedings", {
        "author": "Heusel, Martin and Ramsauer, Hubert and Unterthiner, Thomas and "
        "Nessler, Bernhard and Hochreiter, Sepp",
        "title": "{GANs} trained by a two time-scale update rule converge to a local {N}ash "
        "equilibrium",
        "booktitle": "Advances in Neural Information Processing Systems",
        "year": "2017",
    }),
    "jalali2023": ("inproceedings", {
        "author": "Jalali, Mohammad and Li, Cheuk Ting and Farnia, Farzan",
        "title": "An information-theoretic evaluation of generative models in learning multi-modal "
        "distributions",
        "booktitle": "Advances in Neural Information Processing Systems",
        "year": "2023",
    }),
    "jiralerspong2023": ("inproceedings", {
        "author": "Jiralerspong, Marco and others",
        "title": "Feature likelihood divergence: evaluating the generalization of generative "
        "models using samples",
        "booktitle": "Advances in Neural Information Processing Systems",
        "year": "2023",
    }),
    "kamb2025": ("inproceedings", {
        "author": "Kamb, Mason and Ganguli, Surya",
        "title": "An analytic theory of creativity in convolutional diffusion models",
        "booktitle": "International Conference on Machine Learning",
        "year": "2025",
    }),
    "kynkaanniemi2019": ("inproceedings", {
        "author": r"Kynk{\"a}{\"a}nniemi, Tuomas and Karras, Tero and Laine, Samuli and "
        "Lehtinen, Jaakko and Aila, Timo",
        "title": "Improved precision and recall metric for assessing generative models",
        "booktitle": "Advances in Neural Information Processing Systems",
        "year": "2019",
    }),
    "li2010": ("article", {
        "author": "Li, Chaofeng and Bovik, Alan C.",
        "title": "Content-partitioned structural similarity index for image quality assessment",
        "journal": "Signal Processing: Image Communication",
        "volume": "25",
        "year": "2010",
    }),
    "meehan2020": ("inproceedings", {
        "author": "Meehan, Casey and Chaudhuri, Kamalika and Dasgupta, Sanjoy",
        "title": "A non-parametric test to detect data-copying in generative models",
        "booktitle": "International Conference on Artificial Intelligence and Statistics",
        "year": "2020",
    }),
    "naeem2020": ("inproceedings", {
        "author": "Naeem, Muhammad Ferjad and Oh, Seong Joon and Uh, Youngjung and "
        "Choi, Yunjey and Yoo, Jaejun",
        "title": "Reliable fidelity and diversity metrics for generative models",
        "booktitle": "International Conference on Machine Learning",
        "year": "2020",
    }),
    "pinaya2022": ("inproceedings", {
        "author": "Pinaya, Walter H. L. and others",
        "title": "Brain imaging generation with latent diffusion models",
        "booktitle": "Deep Generative Models, MICCAI Workshop",
        "year": "2022",
    }),
    "qiu2022": ("article", {
        "author": "Qiu, Shangran and others",
        "title": "Multimodal deep learning for {A}lzheimer's disease dementia assessment",
        "journal": "Nature Communications",
        "volume": "13",
        "year": "2022",
    }),
    "rouse2008": ("inproceedings", {
        "author": "Rouse, David M. and Hemami, Sheila S.",
        "title": "Analyzing the role of visual structure in the recognition of natural image "
        "content with multi-scale {SSIM}",
        "booktitle": "Proceedings of SPIE 6806",
        "year": "2008",
    }),
    "salvy2026": ("inproceedings", {
        "author": "Salvy, Nicolas and Talbot, Hugues and Thirion, Bertrand",
        "title": "Enhanced generative model evaluation with clipped density and coverage",
        "booktitle": "International Conference on Learning Representations",
        "year": "2026",
    }),
    "vanbreugel2023": ("inproceedings", {
        "author": "van Breugel, Boris and Sun, Hao and Qian, Zhaozhi and van der Schaar, Mihaela",
        "title": "Membership inference attacks against synthetic data through overfitting "
        "detection",
        "booktitle": "International Conference on Artificial Intelligence and Statistics",
        "year": "2023",
    }),
    "villani2009": ("book", {
        "author": r"Villani, C{\'e}dric",
        "title": "Optimal Transport: Old and New",
        "publisher": "Springer",
        "year": "2009",
    }),
    "wang2003": ("inproceedings", {
        "author": "Wang, Zhou and Simoncelli, Eero P. and Bovik, Alan C.",
        "title": "Multiscale structural similarity for image quality assessment",
        "booktitle": "Asilomar Conference on Signals, Systems and Computers",
        "year": "2003",
    }),
}  # fmt: skip


def bibtex(keys: Iterable[str], version: str) -> str:
    """Return the entries of these works, sorted by key, with this program among them.

    Parameters
    ----------
    keys
        Keys of `WORKS`, or `OWN`.
    version
        The version of synthbench that scored.
    """
    own = ("misc", {
        "author": "{The synthbench developers}",
        "title": "synthbench: how good are these synthetic {3-D} brain {MRI}, and how sure are we?",
        "note": f"Version {escaped(version)}",
    })  # fmt: skip
    entries = [
        _entry(key, *(own if key == OWN else WORKS[key])) for key in sorted({*keys, OWN})
    ]  # fmt: skip
    return "\n\n".join(entries)


def _entry(key: str, kind: str, fields: dict[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
