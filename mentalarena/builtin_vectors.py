"""Vectors of the built-in texts, shipped so that an episode starts before the encoder is loaded.

Why: importing the encoder takes seconds, and what an episode needs first (coping strategies against
principles) and most often (the ranking against other patients) is known in advance. The file is
content-addressed like the store's cache; texts it lacks are simply embedded.

Beside them are the signatures of the built-in cases (:mod:`mentalarena.likeness`), by which others
are told apart from them, in half precision.

Run it after built-in cases, principles or closed lists change: ``python -m
mentalarena.builtin_vectors``. A test fails while a file is stale.
"""

from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from mentalarena.case import CLOSED_LISTS
from mentalarena.closed_lists import label_phrase
from mentalarena.comparison import case_wordings
from mentalarena.encoder_process import ENCODER_HASH, Vectors
from mentalarena.likeness import signatures
from mentalarena.roster import builtin_cases, principle_groups
from mentalarena.similarity import SentenceEncoder, text_hash

_FILE = "builtin_vectors.npz"
_SIGNATURES = "builtin_signatures.npz"


def builtin_texts() -> tuple[str, ...]:
    """Every built-in text whose vector an episode may need, sorted."""
    texts: set[str] = set()
    for group in principle_groups():
        for principle in group.principles:
            texts.update((principle.text, *principle.utterances))
    # Test patients are played too: their records are compared, though never compared against.
    for case in builtin_cases().values():
        for wordings in case_wordings(case).values():
            texts.update(text for words in wordings for text in words)
    for labels in CLOSED_LISTS.values():
        texts.update(label_phrase(label) for label in labels)
    return tuple(sorted(texts))


@cache
def builtin_vectors() -> dict[str, Vectors]:
    """Text hash → unit vector, shape (384,); empty when the file is for another encoder."""
    with (resources.files("mentalarena") / "data" / _FILE).open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        if str(stored["encoder_hash"]) != ENCODER_HASH:
            return {}
        return dict(zip(stored["hashes"].tolist(), stored["vectors"], strict=True))


@cache
def builtin_signatures() -> dict[str, Vectors]:
    """Case hash → signature; empty when the file is for another encoder."""
    with (resources.files("mentalarena") / "data" / _SIGNATURES).open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        if str(stored["encoder_hash"]) != ENCODER_HASH:
            return {}
        found = stored["signatures"].astype(np.float32)
        return dict(zip(stored["hashes"].tolist(), found, strict=True))


def main() -> None:
    """Embed the built-in texts and write the files."""
    folder = Path(__file__).parent / "data"
    texts = builtin_texts()
    encoder = SentenceEncoder()
    np.savez(
        folder / _FILE,
        encoder_hash=np.array(ENCODER_HASH),
        hashes=np.array([text_hash(text) for text in texts]),
        vectors=encoder.vectors(texts),
    )
    cases = tuple(builtin_cases().values())
    np.savez(
        folder / _SIGNATURES,
        encoder_hash=np.array(ENCODER_HASH),
        hashes=np.array([case.hash for case in cases]),
        signatures=signatures(cases, encoder).astype(np.float16),
    )


if __name__ == "__main__":
    main()
