"""Rows that say the same again: to the letter, or nearly.

Why: repeated play of one case repeats itself, and a row that stands in a set ten times is trained
on ten times. Exact duplicates share prompt and answer. Near duplicates share most of what a row is
about: the answer, and what it answers (a turn's last line, a formulation's dialogue), whatever
else stands in the prompt.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from training.overlap import runs, words

SHINGLE = 3
"""Words."""
PERMUTATIONS = 128


def near_duplicates(gists: Iterable[str], threshold: float) -> Iterator[bool]:
    """Of each text, whether one before it that was kept is nearly the same.

    MinHash finds who may be alike, and the Jaccard similarity of their three-word shingles, counted
    exactly, decides. Texts that were found to be duplicates are not compared with.

    Args:
        gists: Texts, in order; the first of several stays.
        threshold: Similarity from which on a text is a duplicate; above 0, up to 1.
    """
    from datasketch import MinHash, MinHashLSH

    # More candidates than duplicates: what is missed stays missed, what is not alike is counted.
    bound = min(max(threshold, 0.1), 0.9)
    index = MinHashLSH(threshold=bound, num_perm=PERMUTATIONS, weights=(0.02, 0.98))
    kept: dict[int, frozenset[tuple[str, ...]]] = {}
    for number, gist in enumerate(gists):
        found = shingles(gist)
        sketch: Any = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([" ".join(shingle).encode() for shingle in sorted(found)])
        alike = any(jaccard(found, kept[other]) >= threshold for other in index.query(sketch))
        if not alike:
            kept[number] = found
            index.insert(number, sketch)
        yield alike


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """The runs of three words of a text; all of it where it is shorter."""
    found = words(text)
    return frozenset(runs(found, min(SHINGLE, len(found)))) if found else frozenset({()})


def jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    """Shared shingles by all shingles of two texts."""
    return len(one & other) / len(one | other)
