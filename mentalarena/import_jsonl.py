"""Patients from a case file of this project's own format, in whatever encoding it was saved.

Why: ``--cases`` is strict, so that nothing is played by accident: one broken record stops a run.
Importing keeps the good ones, names the others, and leaves a clean UTF-8 file behind.
"""

from pathlib import Path

from mentalarena.case import Patient
from mentalarena.import_report import Remark, Report
from mentalarena.roster import read_patients
from mentalarena.text_files import read_any


def import_jsonl(path: Path) -> tuple[tuple[Patient, ...], Report]:
    """The patients of a ``.json`` or ``.jsonl`` file, and what became of its records.

    Raises:
        CaseError: it cannot be read.
    """
    decoded = read_any(path)
    found = read_patients(path, decoded.text)
    remarks = tuple(
        Remark("dropped", one.record, one.field, f"({one.where}) {one.message}")
        for one in found.complaints
    )
    kept = len(found.patients)
    return found.patients, Report(str(path), decoded.encoding, kept + len(remarks), kept, remarks)
