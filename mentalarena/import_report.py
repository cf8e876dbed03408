"""What an import kept, what it dropped, and why.

Why: whoever brings a hundred records has to know which three were left behind, and what was made of
the others that is not in the file; a count alone hides both.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple


class Remark(NamedTuple):
    """Something about one record of the source."""

    kind: Literal["dropped", "changed", "ignored"]
    """The record was left out; it was kept with something added or merged; a part of it was not
    used."""
    record: int
    """Position in the source, from 1; 0 for the source as a whole."""
    field: str
    message: str

    def __str__(self) -> str:
        """One line that names record and field."""
        place = f"record {self.record}" if self.record else "file"
        field = f", field {self.field}" if self.field else ""
        return f"{self.kind}: {place}{field}: {self.message}"


class Report(NamedTuple):
    """An import as a whole."""

    source: str
    encoding: str
    records: int
    kept: int
    """Records of the source that something was made of."""
    remarks: tuple[Remark, ...]

    def of(self, kind: str) -> tuple[Remark, ...]:
        """The remarks of one kind, in the order of the source."""
        return tuple(remark for remark in self.remarks if remark.kind == kind)

    def lines(self, most: int = 20) -> Iterator[str]:
        """As text; of each kind of remark ``most`` at most, but every dropped record."""
        for kind in ("dropped", "changed", "ignored"):
            found = self.of(kind)
            shown = found if kind == "dropped" else found[:most]
            yield from map(str, shown)
            if len(found) > len(shown):
                yield f"{kind}: and {len(found) - len(shown)} more (--json shows all)"

    def plain(self) -> dict[str, object]:
        """As JSON."""
        return {
            "source": self.source,
            "encoding": self.encoding,
            "records": self.records,
            "kept": self.kept,
            "remarks": [remark._asdict() for remark in self.remarks],
        }
