"""Spoken turns: plain text in every mode, checked for the right speaker.

Why: patient and therapist share it; a model's habit of writing a whole script must not reach the
transcript, where the other seat would read its own invented lines.
"""

from agents.ask import Ask, Reask
from agents.prompting import Prompt
from agents.role_flip import is_flipped, other, own_words
from agents.seats import Answered, Place, Speaker, Utterance


async def check_spoken(
    ask: Ask, prompt: Prompt, at: Place, purpose: str, speaker: Speaker
) -> Answered[Utterance]:
    """One spoken turn, asked again once when it is the other speaker's.

    Raises:
        ParseError: only empty answers came.
        ProviderError: the model could not be reached or refused.
    """

    def check(said: Utterance) -> None:
        words, scripted = own_words(said.text, speaker)
        if not words:
            raise Reask("parse", "the answer held no words")
        kept = Utterance(text=words)
        flipped = is_flipped(words, speaker)
        if flipped:
            raise Reask(
                "role_flip",
                f"you are the {speaker}, but “{flipped}” is what the {other(speaker)} would say",
                use=kept,
            )
        if scripted:
            raise Reask(
                "role_flip",
                f"you also wrote lines for the {other(speaker)}",
                use=kept,
                again=False,
            )

    answered = await ask(prompt, Utterance, at, purpose, check=check)
    # Labels and quotes around a good answer are dropped without a fuss.
    words, _ = own_words(answered.value.text, speaker)
    return answered._replace(value=Utterance(text=words or answered.value.text))
