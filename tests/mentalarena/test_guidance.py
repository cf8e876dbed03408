"""Topic guidance carries nothing of the record; the leak meter says what the others carry."""

import pytest

from mentalarena.case import COMPONENTS, Component
from mentalarena.config import ArenaConfig
from mentalarena.guidance import guidance_text, leak
from mentalarena.roster import builtin_cases

RECORD = ["If I ask for help, people will see that I am weak.", "Rest must be earned."]


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("mode", ["revisit", "explore"])
def test_topic_guidance_depends_on_the_name_alone(component: Component, mode: str) -> None:
    told = guidance_text("topic", component, mode, RECORD)  # type: ignore[arg-type]
    assert told == guidance_text("topic", component, mode, ["something else"])  # type: ignore[arg-type]
    assert component.label in told
    assert leak(told, RECORD) == 0


def test_topic_guidance_leaks_no_built_in_record() -> None:
    for case in builtin_cases().values():
        for component in COMPONENTS[:-1]:
            record = [clause.text for clause in case.cognitive_model.clauses(component)]
            assert leak(guidance_text("topic", component, "revisit", record), record) == 0


def test_oracle_guidance_is_measured_as_a_leak() -> None:
    assert (
        leak(guidance_text("oracle", Component.COPING_STRATEGIES, "explore", RECORD), RECORD) == 1
    )
    half = guidance_text("oracle", Component.COPING_STRATEGIES, "explore", RECORD[:1])
    assert 0 < leak(half, RECORD) < 1


def test_none_tells_nothing() -> None:
    assert guidance_text("none", Component.EMOTIONS, "explore", RECORD) == ""
    assert leak("", RECORD) == 0
    assert ArenaConfig().guidance == "topic"


def test_words_that_guidance_has_anyway_are_no_leak() -> None:
    record = ["If you do not know enough, people laugh", "They keep quiet"]
    topic = guidance_text("topic", Component.BEHAVIORS, "explore")
    assert leak(topic, record) > 0, "by chance, the record uses words of the fixed text"
    assert leak(topic, record, topic) == 0
    oracle = guidance_text("oracle", Component.BEHAVIORS, "explore", record)
    assert leak(oracle, record, topic) == 1
    assert leak(topic + " They keep quiet.", record, topic) > 0
