"""The plan of a study: which volumes, in which pairs, in which order for which reader.

Nothing here reads volumes. A volume is shown in one pair only (and rated by itself): a brain that
comes twice beside two others would tell which one is real. Repeats show the same pair again, with
its sides exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from synthbench.errors import UsageError

Design = Literal["2afc", "rating", "both"]

REAL, BLURRED, MEMORIZER = "real", "blurred", "memorizer"
CONTROLS = (BLURRED, MEMORIZER, REAL)
"""Names of the controls: real against a blurred real, a memorizer's volume, and another real."""

REPEATS = 0.15
MAX_READERS = 100

One = TypeVar("One")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a plan.

    Attributes
    ----------
    design
        "2afc": which of two is real; "rating": one volume on scales; "both": ratings first.
    readers
        Number of readers, at least 1.
    cases
        Pairs per generator; None: as many as the volumes allow.
    controls
        Pairs per control.
    practice
        Trials before the first one that counts.
    repeats
        The share of trials that come again.
    """

    design: Design = "both"
    readers: int = 5
    cases: int | None = None
    controls: int = 4
    practice: int = 2
    repeats: float = REPEATS

    def __post_init__(self) -> None:
        """Raise a UsageError where a setting is outside its range."""
        if self.design not in ("2afc", "rating", "both"):
            raise UsageError(f"--design: 2afc, rating or both; found '{self.design}'.")
        if not 1 <= self.readers <= MAX_READERS:
            raise UsageError(f"--readers: 1 to {MAX_READERS}; found {self.readers}.")
        if self.cases is not None and self.cases < 2:
            raise UsageError(f"--cases: at least 2 per generator; found {self.cases}.")
        if min(self.controls, self.practice) < 0:
            raise UsageError("--controls and --practice: 0 or more.")
        if not 0 <= self.repeats <= 0.5:
            raise UsageError(f"--repeats: 0 to 0.5, a share of the trials; found {self.repeats}.")


@dataclass(frozen=True)
class Shown:
    """A volume that is shown: the set it comes from, and its number there.

    `source` is "real", "blurred" (a real volume, blurred), "memorizer" or a generator's name.
    """

    source: str
    index: int


@dataclass(frozen=True)
class Plan:
    """What is shown.

    Attributes
    ----------
    pairs
        By group (a generator's name or a control): the right answer, which is real, and the other.
        In the group "real" both are real, and the "right answer" is drawn by lot.
    practice
        Pairs for practice.
    """

    pairs: dict[str, tuple[tuple[Shown, Shown], ...]]
    practice: tuple[tuple[Shown, Shown], ...]

    @property
    def rated(self) -> dict[str, tuple[Shown, ...]]:
        """The volumes that are rated, by group: "real", "blurred", "memorizer", generators.

        The real ones are as many as of one generator, taken from all generators' pairs in turn.
        """
        generators = [pairs for group, pairs in self.pairs.items() if group not in CONTROLS]
        cases = len(generators[0])
        real = [generators[i % len(generators)][i][0] for i in range(cases)]
        others = {
            group: tuple(other for _, other in pairs)
            for group, pairs in self.pairs.items()
            if group != REAL and pairs
        }
        return {REAL: tuple(real), **others}

    @property
    def shown(self) -> list[Shown]:
        """Every volume that is shown, each once."""
        pairs = [*self.practice, *(pair for pairs in self.pairs.values() for pair in pairs)]
        return list(dict.fromkeys(one for pair in pairs for one in pair))


def draw(
    real: int,
    synth: Mapping[str, int],
    memorizer: int,
    settings: Settings,
    rng: np.random.Generator,
) -> Plan:
    """Return which volumes are shown, and in which pairs.

    Parameters
    ----------
    real
        Number of real volumes.
    synth
        Number of volumes of each generator.
    memorizer
        Number of volumes of a memorizer; 0: there is none.

    Raises
    ------
    UsageError
        There are too few volumes, or a generator has the name of a control.
    """
    _check_names(synth)
    controls = {BLURRED: settings.controls, MEMORIZER: settings.controls if memorizer else 0,
                REAL: settings.controls if settings.design != "rating" else 0}  # fmt: skip
    taken = 2 * settings.practice + sum(
        n * (1 if name == MEMORIZER else 2) for name, n in controls.items()
    )
    cases = settings.cases
    if cases is None:
        cases = min(*synth.values(), (real - taken) // len(synth))
    needed = {REAL: (taken + max(2, cases) * len(synth), real),
              MEMORIZER: (controls[MEMORIZER], memorizer),
              **{name: (max(2, cases), n) for name, n in synth.items()}}  # fmt: skip
    for name, (wanted, there) in needed.items():
        if wanted > there:
            raise UsageError(
                f"{name}: {wanted} volumes are needed, and {there} are there. Each is shown in one "
                "pair only. Give fewer --cases, --controls or --practice, or more volumes."
            )
    reals = (Shown(REAL, int(i)) for i in rng.permutation(real))

    def blurred() -> Shown:
        return Shown(BLURRED, next(reals).index)

    def of(name: str, n: int) -> Iterator[Shown]:
        return (Shown(name, int(i)) for i in rng.permutation(n))

    practice = tuple((next(reals), blurred()) for _ in range(settings.practice))
    others: dict[str, Iterator[Shown]] = {name: of(name, n) for name, n in synth.items()}
    pairs = {
        name: tuple((next(reals), next(volumes)) for _ in range(cases))
        for name, volumes in others.items()
    }
    copies = of(MEMORIZER, memorizer)
    made: dict[str, Callable[[], Shown]] = {
        BLURRED: blurred,
        MEMORIZER: lambda: next(copies),
        REAL: lambda: next(reals),
    }
    for name, n in controls.items():
        if n:
            pairs[name] = tuple((next(reals), made[name]()) for _ in range(n))
    return Plan(pairs, practice)


def _check_names(synth: Mapping[str, int]) -> None:
    if not synth:
        raise UsageError("--synth: name at least one folder of synthetic volumes.")
    for name in synth:
        if name in CONTROLS:
            raise UsageError(f"--synth: a generator cannot be called '{name}', as a control is.")


def order(
    groups: Mapping[str, Sequence[One]], repeats: float, rng: np.random.Generator
) -> list[tuple[str, One, bool]]:
    """Return one reader's order of trials: group, item, and whether it is shown again.

    The items of each group are spread evenly over the session, in a random order. Repeats are drawn
    from the first half of it, and come in the last third.

    Parameters
    ----------
    groups
        The items by group.
    repeats
        The share of items that come again.
    """
    first: list[tuple[float, str, One, bool]] = []
    for group, items in groups.items():
        for place, i in enumerate(rng.permutation(len(items))):
            first.append(((place + rng.random()) / len(items), group, items[i], False))
    first.sort(key=lambda trial: trial[0])
    number = int(np.ceil(repeats * len(first)))
    early = first[: max(number, (len(first) + 1) // 2)]
    again = []
    for i in rng.permutation(len(early))[:number]:
        place, group, item, _ = early[i]
        # Of few trials, the first half can reach into the last third.
        again.append((max(2 / 3 + rng.random() / 3, place + 0.1), group, item, True))
    session = [*first, *again]
    session.sort(key=lambda trial: trial[0])
    return [(group, item, second) for _, group, item, second in session]


def sides(
    sizes: Mapping[str, int], readers: int, rng: np.random.Generator
) -> list[dict[str, list[bool]]]:
    """Return for each reader, group and pair whether the right answer is on the left.

    It is on the left in half of a group's pairs, to one; and the second of two readers has every
    pair with its sides exchanged.
    """
    found: list[dict[str, list[bool]]] = []
    for reader in range(readers):
        if reader % 2:
            found.append({group: [not left for left in of] for group, of in found[-1].items()})
            continue
        found.append({group: _half(n, rng) for group, n in sizes.items()})
    return found


def _half(n: int, rng: np.random.Generator) -> list[bool]:
    """Return n values in random order, half of them true; of an odd number, one more of either."""
    turned = bool(rng.integers(2))
    return [bool(i % 2) != turned for i in rng.permutation(n)]
