"""Hypothesis strategies that damage a file: its bytes, its fields, its cells."""

from __future__ import annotations

import gzip
import json
from copy import deepcopy
from typing import Any

import yaml
from hypothesis import strategies as st

NUMBERS = (0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 348, 540, 32767, 32768, 65535, 65536,
           2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)  # fmt: skip
FLOATS = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff", b"\xff\xff\x7f\x7f",
          b"\x01\x00\x00\x00", b"\x00\x00\x80\x3f")  # fmt: skip

SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 10**400, 0.5, -0.0, 1e-300, 1e308,
    float("nan"), float("inf"), "", "x", "n/a", "\u0000", "\u202e", "\ud800", "../../x", "/tmp/x",
    "1e999", "a" * 5000, "::error::x", "[/]", [], {}, [[]], [None], {"": None}, {"a": {"b": []}},
)  # fmt: skip
"""Values that no field expects."""

CELLS = ("", "n/a", "-1", "1e400", "nan", "inf", "10" * 200, "../../x", "/tmp/x", '"', "'", "\t",
         ",", ";", "\r", "\x00", "\x1b[31m", "é", "\ufeff", "=1+1", "sub-x", " ",
         "2001-13-45")  # fmt: skip


@st.composite
def damaged_bytes(draw: st.DrawFn, seeds: tuple[bytes, ...], head: int = 600) -> bytes:
    """Bytes of a seed with some changes; most of them in its first `head` bytes."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.integers(0, 9))
        near = draw(st.booleans()) or draw(st.booleans())
        last = max(0, min(len(content), head if near else len(content)) - 1)
        place = draw(st.integers(0, last))
        if kind <= 1:
            content[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == 2 and content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif kind <= 4:
            width, order = (
                draw(st.sampled_from((2, 4, 8))),
                draw(st.sampled_from(("little", "big"))),
            )
            number = draw(st.sampled_from(NUMBERS)) % 2 ** (8 * width)
            content[place : place + width] = number.to_bytes(width, order)
        elif kind == 5:
            content[place : place + 4] = draw(st.sampled_from(FLOATS))
        elif kind == 6:
            del content[place:]
        elif kind == 7:
            del content[place : place + draw(st.integers(1, 64))]
        elif kind == 8:
            content[place:place] = draw(st.binary(max_size=40))
        else:
            content += draw(st.sampled_from((b"x", bytes(100), b"\x1f\x8b", bytes(content[:200]))))
    return bytes(content)


@st.composite
def damaged_gzip(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A compressed file that is damaged, or the good compression of a damaged file."""
    if draw(st.booleans()):
        return gzip.compress(draw(damaged_bytes(seeds)), compresslevel=1, mtime=0)
    packed = tuple(gzip.compress(seed, compresslevel=1, mtime=0) for seed in seeds)
    return draw(damaged_bytes(packed, head=20))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if len(path) > 8:
        return found
    items = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(
        value, list) else ()  # fmt: skip
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


@st.composite
def damaged_fields(draw: st.DrawFn, seeds: tuple[Any, ...]) -> Any:
    """Fields in which some are replaced, removed, added, repeated or nested deeply."""
    found = json.loads(json.dumps(draw(st.sampled_from(seeds))))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_places(found)))
        # A copy: a later change may reach into it.
        value: Any = deepcopy(draw(st.sampled_from(SCALARS)))
        if draw(st.integers(0, 30)) == 0:
            value = _nested(draw(st.sampled_from((30, 3000))))
        if not path:
            if draw(st.integers(0, 3)) == 0:
                found = value
            continue
        holder = found
        for key in path[:-1]:
            holder = holder[key]
        change = draw(st.integers(0, 9))
        if change >= 6:
            holder[path[-1]] = draw(st.sampled_from(_alike(holder[path[-1]])))
        elif change <= 3:
            holder[path[-1]] = value
        elif isinstance(holder, dict) and change == 4:
            del holder[path[-1]]
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(("x", "schema_version", "", "__class__")))] = value
        else:
            holder.append(value)
    return found


def _alike(value: Any) -> list[Any]:
    """Return other values of the same kind, which a check of kinds lets through."""
    if isinstance(value, bool) or value is None:
        return [not value, None]
    if isinstance(value, int):
        return [0, 1, -1, value + 1, 2 * value, 10**6, 2**31 - 1, 2**53]
    if isinstance(value, float):
        return [0.0, -value, value + 1.0, 1e-300, 1e308, -1e308, float("nan"), float("inf")]
    if isinstance(value, str):
        odd = ["é" * 40, "a|b`[x](y)<b>", "\u202e\x1b[31m", "x" * 3000]
        return ["", value + "x", value.upper(), *odd]
    if isinstance(value, list):
        return [[], value[:1], value + value[:1], value[::-1], value[:-1], [value[:1]]]
    items = list(value.items())
    return [dict(items[:1]), dict(items[1:]), {**value, "x": 0}, {f"{k}x": v for k, v in items}]


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b"[" * 100_000


@st.composite
def damaged_json(draw: st.DrawFn, seeds: tuple[Any, ...]) -> bytes:
    """JSON with damaged fields, or a text with damaged bytes."""
    if draw(st.integers(0, 4)):
        return _json(draw(damaged_fields(seeds)))
    texts = tuple(_json(seed) for seed in seeds)
    return draw(st.one_of(damaged_bytes(texts), st.sampled_from(_TEXTS), st.binary(max_size=60)))


_TEXTS = (
    b"", b"[" * 100_000, b'{"a":' * 5000, b"\xff\xfe\x00", b"\xef\xbb\xbf{}", b"NaN", b"1" * 6000,
    b"null", b'"\\ud800"', b"{}", b"[]",
)  # fmt: skip
_YAML = (
    b"a: &a [x, x]\nb: *a\n", b"!!python/object/apply:os.system [x]", b"a: 2001-99-99\n",
    b"? [a]\n: b\n",
    b"1: 2\n", b"!!timestamp x", b"!!int x", b"!!float x", b"!!binary x", b"!!set {a, b}", b"<<: 1",
    b"<<: [{a: 1}]", b"a: 1\na: 2", b"a: 1:2:3:4:5", b"- " * 3000, b"{" * 3000, b"a: |\n\x00",
    b"generator: !!null x", b"%YAML 9.9\n---\n", b"--- \n--- \n", b"a: 0o9\nb: 0x\nc: 1_\n",
    b"yes: no\n",
    b"&a [*a]", b"a: !x 3", b"!!omap [a]", b"!!pairs [[a]]", b"'\\", b'"\\xZZ"', b"\t", b"@", b"`",
)  # fmt: skip


@st.composite
def damaged_yaml(draw: st.DrawFn, seeds: tuple[Any, ...]) -> bytes:
    """YAML with damaged fields, or a text with damaged bytes."""
    if draw(st.integers(0, 4)):
        fields = draw(damaged_fields(seeds))
        try:
            return yaml.safe_dump(fields, sort_keys=False, allow_unicode=False).encode()
        except (RecursionError, UnicodeError, yaml.YAMLError):
            return _json(fields)
    texts = tuple(yaml.safe_dump(seed).encode() for seed in seeds)
    special = st.sampled_from(_YAML + _TEXTS)
    return draw(st.one_of(damaged_bytes(texts), special, st.binary(max_size=60)))


@st.composite
def damaged_table(draw: st.DrawFn, seeds: tuple[str, ...]) -> bytes:
    """A table with other cells, rows or columns, in some encoding; or one with damaged bytes."""
    text = draw(st.sampled_from(seeds))
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged_bytes((text.encode(),)))
    mark = "\t" if "\t" in text else ","
    rows = [line.split(mark) for line in text.splitlines()]
    for _ in range(draw(st.integers(1, 4))):
        row = draw(st.integers(0, len(rows) - 1))
        column = draw(st.integers(0, len(rows[row]) - 1))
        kind = draw(st.integers(0, 7))
        if kind <= 3:
            rows[row][column] = draw(st.sampled_from(CELLS))
        elif kind == 4:
            rows.append(list(rows[row]))
        elif kind == 5 and len(rows[row]) > 1:
            del rows[row][column]
        elif kind == 6:
            for cells in rows:
                cells.append(draw(st.sampled_from(CELLS)))
        elif len(rows) > 1:
            del rows[row]
    written = "\n".join(mark.join(cells) for cells in rows)
    encoding = draw(
        st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le"))
    )
    return written.encode(encoding, errors="replace")
