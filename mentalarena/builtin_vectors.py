"""Vectors of the built-in texts, shipped so that an episode starts before the encoder is loaded.

Why: importing the encoder takes seconds, and what an episode needs first (coping strategies against
principles) and most often (the ranking against other patients) is known in advance. The file is
content-addressed like the store's cache; texts it lacks are simply embedded.

Run it after built-in cases, principles or closed lists change: ``python -m
mentalarena.builtin_vectors``. A test fails while the file is stale.
"""

from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from mentalarena.case import CLOSED_LISTS
from mentalarena.closed_lists import label_phrase
from mentalarena.comparison import case_wordings
from mentalarena.encoder_process import ENCODER_HASH, Vectors
from mentalarena.roster import builtin_cases, principle_groups
from mentalarena.similarity import SentenceEncoder, text_hash

_FILE = "builtin_vectors.npz"


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


def main() -> None:
    """Embed the built-in texts and write the file."""
    texts = builtin_texts()
    np.savez(
        Path(__file__).parent / "data" / _FILE,
        encoder_hash=np.array(ENCODER_HASH),
        hashes=np.array([text_hash(text) for text in texts]),
        vectors=SentenceEncoder().vectors(texts),
    )


if __name__ == "__main__":
    main()
