"""Role-flip rules against labelled lines: how many flips they find, how many good lines they hit.

The lines were written for this test, the harmless ones on purpose close to the rules. Run with
``-s`` to see the counts and what was missed.
"""

import sys

import pytest

from agents.role_flip import is_flipped, other, own_words
from agents.seats import Speaker
from mentalarena.case import CognitiveModel
from mentalarena.roster import builtin_cases, principles

PATIENT_FLIPPED = """
As your therapist, I want to understand you better.
How does that make you feel?
How did that make you feel when she left?
Thank you for sharing that with me, it sounds like you are under a lot of pressure.
Thanks for opening up about your father.
It sounds like you're carrying a lot on your own.
That sounds as if you have lost all hope.
What brings you here today?
Hello Robin, what brought you in?
How can I help you today?
Can you tell me a little more about your job?
Could you please tell me more about what your mother said?
I'd like you to explore your thoughts about that.
I would like to understand your situation better.
Let's explore your feelings about the divorce.
Let's talk about your sleep.
I'm here to listen and support you.
I am here to help you.
I hear that you're feeling overwhelmed.
I understand that you are going through a difficult time.
How long have you been feeling this way?
How long have you had these headaches?
What went through your mind at that moment?
Have you been having thoughts of harming yourself?
Are you having thoughts of ending your life?
Your feelings are completely valid.
Your emotions are valid, and it is good that you came.
On a scale from 1 to 10, how sad are you today?
I am a therapist and I can assure you that this is common.
As a counselor I see that often.
As an experienced clinician, I think this is depression.
Thank you for trusting me with this.
I\u2019m your therapist, and we have fifty minutes.
I understand you're struggling, and we will find a way.
What do you think triggers these thoughts in you?
Have you ever tried to challenge that belief?
It must be hard for you to talk about this.
One technique that may help you is to breathe slowly for four counts.
I'd recommend that you keep a mood diary this week.
When you notice the thought, try to write it down.
Tell me about a recent time when you felt that way.
Let us look at your thought record together.
That sounds like you have been very lonely.
""".strip().splitlines()

PATIENT_FINE = """
I am so tired of everything.
I don't know, it just feels heavy all the time.
My therapist before you said that I should write things down.
She asked me how long have you been like this, and I had no answer.
My wife says, "How does that make you feel?" as if she were a doctor.
Thank you. That is kind of you.
Thank you for seeing me so quickly.
Thanks for asking. Nobody else does.
It sounds like a small thing, I know.
It sounds stupid when I say it out loud.
How long do you think this will take?
Can you help me?
Do you think I am crazy?
Can you tell me what is wrong with me?
Could you tell me more about how this works?
What brings me here is my sleep.
What goes through my mind? That they all know.
My mind goes blank.
I hear what you're saying, but it does not help.
I understand that you are trying to help me.
I feel ashamed when people look at me.
People ask how can I help you, and I send them away.
When my boss said let's talk about your report, I froze.
My feelings are not important.
I work as a nurse, so I should know better.
I am a teacher.
I'm a counselor at a summer camp, so people expect me to cope.
As a child I was always alone.
On a scale from one to ten? A three, I guess.
You are the first therapist I've talked to.
I wanted to be a therapist myself once.
I sit in the car and tell myself, you are a failure.
I keep thinking that you must be bored by me.
Sometimes I think of not being here anymore.
I am here because my sister made me come.
I'm here, am I not?
You sound like my mother.
Whatever you say, doctor.
I would like to sleep again.
Let's not talk about my father.
Let's just get this over with.
How do you know that?
It makes me feel small.
He told me, your feelings are normal, get over it.
I guess I understand you're only doing your job.
""".strip().splitlines()

THERAPIST_FLIPPED = """
I feel so depressed lately, doctor.
I've been feeling really hopeless since the divorce.
I just feel empty.
I feel worthless all the time.
I am so depressed that nothing matters.
I'm a failure and everybody knows it.
I am a burden to my family.
My therapist said that I should go out more.
My psychiatrist prescribed something, but it did not help.
My doctor told me to rest.
I don't know what to tell you, doc.
I can't sleep at night.
I can't cope with this.
I cannot stop crying.
I can't get out of bed in the morning.
I've been struggling with my sleep.
I have been drinking more than I should.
I have been having trouble at work.
I don't know what to do anymore.
I do not know how to cope any more.
I lost my job in March.
I hate my life.
As a patient, I expected something else.
I'm your patient and you should listen to me.
I need your help with my anxiety.
I want some advice with my marriage.
Sometimes I want to die.
Sometimes I wish I was dead.
My panic attacks have come back.
My anxiety is getting worse.
My depression makes it impossible to work.
My nightmares started last year.
I keep having the same dream.
I keep replaying what I said to her.
I feel lonely even with my friends.
I\u2019ve felt numb since my mother died.
My husband doesn't understand me.
I yelled at my kids again and I hate it.
I am scared that I will lose everything.
I drink a bottle of wine every evening to calm down.
Nobody wants me around.
I feel anxious whenever the phone rings.
I'm so exhausted all the time, I can hardly stand.
""".strip().splitlines()

THERAPIST_FINE = """
What brings you here today?
How does that make you feel?
Thank you for telling me. When did it start?
It sounds like you feel so depressed that nothing matters.
You said, "I am a burden to my family." What makes you think so?
When you tell yourself I am a failure, what happens next?
So the thought was something like I can't cope with this?
What does your doctor say about the medication?
What did your psychiatrist prescribe?
Did the doctor explain it to you?
Have you talked about this with your doctor?
I feel that something important just came up.
I feel moved by what you say.
I'm sorry that you lost your job.
I am glad that you came.
I wonder what went through your mind then.
I'd like to understand how you sleep.
I can hear how exhausted you are.
I can't promise that, but I can promise to listen.
I don't know yet what to make of it; can you say more?
What would it mean if you failed?
Some people say I feel numb when they mean that they are sad; how is it for you?
It can be hard to say "I hate my life" out loud.
How do you cope when your panic attacks come?
When your anxiety gets worse, what do you do first?
Do you sometimes want to die?
Do you sometimes wish you were dead?
I take that seriously. Are you safe right now?
Who could be with you tonight?
As your therapist I want to understand that.
I keep wondering what your father would say.
I have been listening to how hard you are on yourself.
You keep having the same dream; what happens in it?
What do you need from your wife in such a moment?
Tell me about your depression: when is it lighter?
I am not sure that I understood; was that before the move?
What is it like to sit here with me?
I see. And then?
Mm. Take your time.
I need a moment to think about that.
I want to ask about your drinking, if that is all right.
What did you feel when they said you were useless?
You think of yourself as worthless; since when?
Is there a picture that comes with it, like I feel empty inside?
""".strip().splitlines()

# Written after the rules were settled and never used to change them: the honest figure.
LATER: dict[Speaker, tuple[list[str], list[str]]] = {
    "patient": (
        """
I appreciate you telling me how you feel. Can you tell me more about your nights?
It sounds like you are blaming yourself for what he did.
What do you feel when you lie awake?
How does this make you feel about yourself?
I'm here to support you through this difficult time.
Let's work on your breathing together.
Thank you for sharing. That took courage.
How long have you been avoiding the subway?
That must have been painful for you.
As your therapist, I would never judge you.
I want you to know that your feelings are valid.
Have you considered talking to your husband about it?
""".strip().splitlines(),
        """
I lie awake and count the hours.
You asked how long, and honestly I lost track.
I feel like a burden when my sister drives me here.
How does anyone live like this?
Thank you for not laughing.
It sounds better in my head than it is.
I talk to my cat more than to people.
What do you want me to say?
I work with patients all day and then I have nothing left.
My old therapist always asked what went through my mind.
Could you tell me more slowly?
I'm here to get a sick note, nothing else.
""".strip().splitlines(),
    ),
    "therapist": (
        """
I feel really anxious when I leave the house.
I have been crying every day since May.
My mother never loved me.
I can't concentrate on anything.
I don't know how to go on anymore.
My doctor thinks that it is my nerves.
Sometimes I think about dying.
I keep having these thoughts about the stove.
I'm just so worthless.
My drinking has got out of hand.
I stopped seeing my friends a while ago.
I'm not sleeping, doctor.
""".strip().splitlines(),
        """
What is it that keeps you awake?
I notice that you smile when you talk about it.
When you say I am just so worthless, whose voice is that?
I feel I should check something with you first.
What did your doctor tell you about your sleep?
I have been thinking about what you told me.
You say the drinking has got out of hand; what happened?
I can't know what that was like. Tell me.
So sometimes you think about dying. Are you safe today?
What keeps you from calling your friends?
It makes sense that you feel anxious there.
Who noticed first that you had changed?
""".strip().splitlines(),
    ),
}

SETS: dict[Speaker, tuple[list[str], list[str]]] = {
    "patient": (PATIENT_FLIPPED, PATIENT_FINE),
    "therapist": (THERAPIST_FLIPPED, THERAPIST_FINE),
}


@pytest.mark.parametrize("speaker", ["patient", "therapist"])
def test_flips_are_found_and_good_lines_left_alone(speaker: Speaker) -> None:
    flipped, fine = SETS[speaker]
    assert len(flipped) >= 40
    assert len(fine) >= 40
    missed = [line for line in flipped if is_flipped(line, speaker) is None]
    alarms = [line for line in fine if is_flipped(line, speaker) is not None]
    sys.stdout.write(
        f"\n{speaker}: found {len(flipped) - len(missed)} of {len(flipped)} flips, "
        f"{len(alarms)} false alarms in {len(fine)} good lines\n"
        + "".join(f"  missed: {line}\n" for line in missed)
        + "".join(f"  false alarm: {line}\n" for line in alarms)
    )
    assert len(missed) <= 0.25 * len(flipped), missed
    assert len(alarms) <= 1, alarms


@pytest.mark.parametrize("speaker", ["patient", "therapist"])
def test_lines_written_later(speaker: Speaker) -> None:
    flipped, fine = LATER[speaker]
    found = [line for line in flipped if is_flipped(line, speaker)]
    alarms = [line for line in fine if is_flipped(line, speaker)]
    sys.stdout.write(
        f"\n{speaker}, written later: found {len(found)} of {len(flipped)} flips, "
        f"{len(alarms)} false alarms in {len(fine)} good lines\n"
    )
    assert len(found) >= 0.5 * len(flipped), found
    assert len(alarms) <= 1, alarms


@pytest.mark.parametrize("speaker", ["patient", "therapist"])
def test_the_other_speakers_lines_are_no_flip_there(speaker: Speaker) -> None:
    """What gives one speaker away is ordinary for the other."""
    lines = SETS[other(speaker)][0]
    alarms = [line for line in lines if is_flipped(line, speaker)]
    assert alarms == []


def test_built_in_patients_never_sound_like_a_therapist() -> None:
    cases = list(builtin_cases().values())
    lines = [text for case in cases for text in case.openings]
    lines += [text for principle in principles().values() for text in principle.utterances]
    for case in cases:
        groups = [case.history, case.situation]
        groups += [getattr(case.cognitive_model, name) for name in CognitiveModel.model_fields]
        lines += [text for group in groups for clause in group for text in clause.utterances]
    alarms = {line: is_flipped(line, "patient") for line in lines if is_flipped(line, "patient")}
    assert len(lines) > 500
    assert len(alarms) <= 0.002 * len(lines), alarms


@pytest.mark.parametrize(
    ("text", "speaker", "words", "scripted"),
    [
        ("I am tired.", "patient", "I am tired.", False),
        ("Patient: I am tired.", "patient", "I am tired.", False),
        ("**Patient:** “I am tired.”", "patient", "I am tired.", False),
        ('"I am tired."', "patient", "I am tired.", False),
        ('"Tired," he said, "and sad"', "patient", '"Tired," he said, "and sad"', False),
        ("I am tired.\nTherapist: Since when?", "patient", "I am tired.", True),
        ("Patient: Hm.\n\n**Therapist**: Yes?\nPatient: No.", "patient", "Hm.", True),
        ("Hm.\nPatient: Well.", "patient", "Hm.", False),
        ("Since when?\nPatient: Long.", "therapist", "Since when?", True),
        ("Counselor: Since when?", "therapist", "Since when?", False),
        ("Therapist: Since when?", "patient", "Since when?", True),
        ("My patient: a saint.", "patient", "My patient: a saint.", False),
    ],
)
def test_own_words(text: str, speaker: Speaker, words: str, scripted: bool) -> None:
    assert own_words(text, speaker) == (words, scripted)


def test_own_words_of_nothing() -> None:
    assert own_words("  ", "patient") == ("", False)
    assert own_words("Patient:", "patient") == ("", False)
