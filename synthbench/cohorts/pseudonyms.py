"""Names of real volumes in outputs: pseudonyms, unless the real names are asked for."""

from __future__ import annotations


class Pseudonyms:
    """The names of the volumes of one output.

    A pseudonym is the role of the volume's cohort and a number, by the order in which the output
    names volumes. It is computed from no name, so nobody can calculate a name from it: a hash of
    an identifier could be found by trying all identifiers.

    Parameters
    ----------
    identifiers
        True: volumes are named by their files.
    """

    def __init__(self, identifiers: bool = False) -> None:
        self.identifiers = identifiers
        self._given: dict[str, dict[str, str]] = {}

    def of(self, role: str, name: str) -> str:
        """Return what a volume is called; the same volume is always called the same.

        Parameters
        ----------
        role
            The role of its cohort. Synthetic volumes ("synth") keep their names.
        name
            The name of its file.

        Examples
        --------
        >>> names = Pseudonyms()
        >>> [names.of("train", file) for file in ("sub-7.nii", "sub-2.nii", "sub-7.nii")]
        ['train-1', 'train-2', 'train-1']
        """
        if self.identifiers or role == "synth":
            return name
        given = self._given.setdefault(role, {})
        return given.setdefault(name, f"{role}-{len(given) + 1}")
