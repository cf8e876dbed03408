"""Rule-based seats: an instrument that plays without a model, a key or a network.

Why: what the arena does (rerouting, storing, scoring, training) has to be shown, tested and timed
without anybody's language model. The seats speak from sentences that were written for a case, by
rules that can be read here; they are not language models and say nothing about people.

How: ``RulesPatient()`` and its three companions satisfy the protocols of :mod:`agents.seats`; every
choice they make is drawn from ``at.random(purpose)`` or, where it must outlast a visit, from
``at.seed``.
"""

from agents.rules.judge import RulesJudge
from agents.rules.manager import RulesManager
from agents.rules.patient import RulesPatient
from agents.rules.therapist import RulesTherapist

__all__ = ["RulesJudge", "RulesManager", "RulesPatient", "RulesTherapist"]
