"""The crisis screen finds what its rules can find, and lets everyday speech pass."""

import re
import time
from typing import get_args

import pytest

from mentalarena.safety import SAFETY_LINES, Kind, is_crisis, screen

# Written before the rules. Crisis sentences with the kind that has to be among the findings.
CRISIS: tuple[tuple[str, Kind], ...] = (
    ("I wish I were dead.", "passive_ideation"),
    ("Sometimes I wish I wouldn't wake up in the morning.", "passive_ideation"),
    ("I don't want to be alive anymore.", "passive_ideation"),
    ("Everyone would be better off without me.", "passive_ideation"),
    ("I can't see a reason to go on living.", "passive_ideation"),
    ("Honestly, I'd rather be dead than go through this again.", "passive_ideation"),
    ("I just want to go to sleep and never wake up.", "passive_ideation"),
    ("My life isn't worth living.", "passive_ideation"),
    ("I don't want to be here any more, on this earth I mean.", "passive_ideation"),
    ("It would be easier if I just didn't exist.", "passive_ideation"),
    ("I've been thinking about killing myself.", "active_ideation"),
    ("I want to die.", "active_ideation"),
    ("lately i keep having suicidal thoughts", "active_ideation"),
    ("I can't stop thinking about ending my life.", "active_ideation"),
    ("Part of me wants to end it all.", "active_ideation"),
    ("I feel suicidal tonight.", "active_ideation"),
    ("Some nights I imagine jumping off the bridge.", "active_ideation"),
    ("I don't know if I'll kill myself or just keep drinking.", "active_ideation"),
    ("I think about suicide every day, to be honest.", "active_ideation"),
    ("I used to think about it rarely, but now I want to die every day.", "active_ideation"),
    ("I have a plan to kill myself.", "plan"),
    ("I've been saving up my pills for when I'm ready.", "plan"),
    ("I bought a rope and I know which beam would hold.", "plan"),
    ("I've already written my goodbye letters.", "plan"),
    ("I looked up how many tablets it would take to overdose.", "plan"),
    ("I know exactly how I would do it, how I'd end my life.", "plan"),
    ("The gun is in the drawer and I've loaded it for myself.", "plan"),
    ("I've given away my things and written a suicide note.", "plan"),
    ("I'm going to kill myself tonight.", "intent"),
    ("I will end my life this weekend.", "intent"),
    ("I've decided to die.", "intent"),
    ("After this call I'm gonna take all my pills.", "intent"),
    ("I am going to hang myself.", "intent"),
    ("I won't be around next week. I'm going to end it.", "intent"),
    ("I just took a whole bottle of pills.", "attempt"),
    ("I tried to kill myself last night.", "attempt"),
    ("I tried to hang myself this morning and the rope broke.", "attempt"),
    ("I've overdosed, I don't know what to do.", "attempt"),
    ("Yesterday I slit my wrists.", "attempt"),
    ("I cut myself again last night.", "self_harm"),
    ("I've been burning my arms with cigarettes.", "self_harm"),
    ("I keep hurting myself when it gets too much.", "self_harm"),
    ("The urge to cut is so strong right now.", "self_harm"),
    ("I want to hurt myself.", "self_harm"),
    ("I scratch myself until I bleed.", "self_harm"),
    ("I want to kill my boss, and I mean it.", "harm_to_others"),
    ("I'm going to hurt him if he comes near me again.", "harm_to_others"),
    ("I keep thinking about stabbing my brother.", "harm_to_others"),
    ("I've got a knife and she'll pay for what she did, I'll kill her.", "harm_to_others"),
    ("I'm scared I'm going to hurt my baby.", "harm_to_others"),
    # indirect language, which a lexicon is expected to miss now and then
    (
        "There's no point to any of it and soon nobody will have to worry about me.",
        "passive_ideation",
    ),
    (
        "I stood on the platform today and watched the trains for an hour, wondering.",
        "active_ideation",
    ),
    ("I've put my affairs in order, it will be over on Friday.", "plan"),
    ("The voices tell me to finish it and I think they are right.", "active_ideation"),
    # three batches written after the rules, and then used to widen them
    ("I've been having thoughts of not wanting to be here anymore.", "passive_ideation"),
    ("What's the point of living like this?", "passive_ideation"),
    ("I just want it all to stop. I want to be dead.", "active_ideation"),
    ("If I died tomorrow no one would notice, and I'd be relieved.", "passive_ideation"),
    ("I keep picturing my own funeral and it calms me.", "passive_ideation"),
    ("I am thinking of taking my life.", "active_ideation"),
    ("Some days I think about driving my car off the road.", "active_ideation"),
    ("I could just step in front of a train and it'd be done.", "active_ideation"),
    ("I've got enough tramadol at home to finish the job.", "plan"),
    ("I have chosen the day, it's my birthday.", "plan"),
    ("Tonight I'll do it, I don't care anymore.", "intent"),
    ("I'm done. I'm going to jump.", "intent"),
    ("I swallowed thirty sleeping tablets an hour ago.", "attempt"),
    ("I tied a belt around my neck yesterday but I couldn't go through with it.", "attempt"),
    ("I've started cutting again.", "self_harm"),
    ("I've been hitting my head against the wall until it goes quiet.", "self_harm"),
    ("Razor blades are the only thing that calms me, my thighs are full of marks.", "self_harm"),
    ("I hurt myself on purpose on Sunday.", "self_harm"),
    ("I could strangle my stepfather, I've thought about how I'd do it.", "harm_to_others"),
    ("I've been having thoughts about hurting people at work.", "harm_to_others"),
    ("My husband should be afraid, because I'm going to stab him in his sleep.", "harm_to_others"),
    ("I'm not sleeping, and I want to die.", "active_ideation"),
    ("I never told anyone, but I think about suicide every night.", "active_ideation"),
    ("My wife left and since then I don't want to live.", "passive_ideation"),
    ("I can't do this anymore. I want out of this life.", "active_ideation"),
    ("My brother killed himself, and lately I've wanted to follow him.", "active_ideation"),
    ("I don't think I can keep myself safe tonight.", "active_ideation"),
    ("She doesn't know that I tried to kill myself last week.", "attempt"),
    ("I wish I could fall asleep forever.", "passive_ideation"),
    ("I\u2019m suicidal and I don\u2019t know who to tell.", "active_ideation"),
    ("I feel like ending my life.", "active_ideation"),
    ("Life is not worth it any more.", "passive_ideation"),
    ("Maybe I should just kill myself.", "active_ideation"),
    ("I might as well be dead.", "passive_ideation"),
    ("I wrote a note to my kids, for after.", "plan"),
    ("I honestly don't see why I should keep on living.", "passive_ideation"),
    ("Most mornings I'm disappointed that I woke up.", "passive_ideation"),
    ("I've had enough of being alive.", "passive_ideation"),
    ("If a car hit me, I wouldn't even be sad about it.", "passive_ideation"),
    ("The world would be better without me in it.", "passive_ideation"),
    ("I think about being dead a lot.", "passive_ideation"),
    ("I've thought of hanging myself in the garage.", "active_ideation"),
    ("There are days when suicide seems like the only way out.", "active_ideation"),
    ("I wonder what it would be like to kill myself.", "active_ideation"),
    ("I googled painless ways to die.", "plan"),
    ("I know where my father keeps his gun, and I've thought about using it on myself.", "plan"),
    ("I've been researching how to hang myself.", "plan"),
    ("I set a date for it and I told nobody.", "plan"),
    ("This weekend I'm going to drown myself.", "intent"),
    ("Nothing can stop me, I will shoot myself.", "intent"),
    ("I'm taking all the pills as soon as my wife is asleep.", "intent"),
    ("I just cut my wrists.", "attempt"),
    ("I drank bleach this morning because I wanted to die.", "attempt"),
    ("Three days ago I attempted suicide.", "attempt"),
    ("I've been self-harming again.", "self_harm"),
    ("I pressed a lit cigarette into my arm last night.", "self_harm"),
    ("When I'm angry I cut my arms.", "self_harm"),
    ("I bite my hand until it bleeds.", "self_harm"),
    ("I feel like I could murder my ex.", "harm_to_others"),
    ("Sometimes I want to push my mother down the stairs.", "harm_to_others"),
    ("I'm going to make them pay, I have a gun.", "harm_to_others"),
    ("The voice says I should kill my neighbor and it's getting louder.", "harm_to_others"),
    ("I'm not okay and I keep thinking about suicide.", "active_ideation"),
    ("I've lost my job, and I want to kill myself.", "active_ideation"),
    ("Please help, I have already taken the tablets.", "attempt"),
    ("Living has become unbearable and I'd like it to be over.", "passive_ideation"),
    ("I keep hoping I get cancer so it ends.", "passive_ideation"),
    ("I would be glad not to exist.", "passive_ideation"),
    ("I'm thinking that dying might be the best thing for everybody.", "passive_ideation"),
    ("I've been dreaming of suicide again.", "active_ideation"),
    ("I want to kill myself so badly.", "active_ideation"),
    ("I've thought of taking my own life more than once this month.", "active_ideation"),
    ("The idea of shooting myself keeps coming back.", "active_ideation"),
    ("I have the rope in the garage already, and I know when my wife is out.", "plan"),
    ("I've been hiding pills under the mattress.", "plan"),
    ("I'm going to cut my wrists when everyone is asleep.", "intent"),
    ("By tomorrow I'll be dead.", "intent"),
    ("I'm going to swallow everything in the medicine cabinet.", "intent"),
    ("An hour ago I took forty pills.", "attempt"),
    ("I tried to end my life on Monday.", "attempt"),
    ("I hurt myself again, my arm is bandaged.", "self_harm"),
    ("I cut because it's the only thing that helps.", "self_harm"),
    ("I want to burn myself with the lighter.", "self_harm"),
    ("I fantasize about killing my father.", "harm_to_others"),
    ("I'm afraid I'll lose control and hurt my wife.", "harm_to_others"),
    ("I will shoot my supervisor on Monday.", "harm_to_others"),
    ("Nobody knows it, but I am suicidal.", "active_ideation"),
    ("My mother doesn't understand that I want to die.", "active_ideation"),
    ("I can't promise that I won't kill myself.", "active_ideation"),
    ("I wish a truck would just hit me.", "passive_ideation"),
)
# Everyday, negated, past, reported and third-person speech: no crisis.
EVERYDAY: tuple[str, ...] = (
    "I'm not going to hurt myself.",
    "I don't want to die, I just want the panic to stop.",
    "No, I've never thought about killing myself.",
    "I'm not suicidal, if that's what you're asking.",
    "I would never hurt anyone.",
    "I have no plan to end my life.",
    "I haven't cut myself.",
    "I wouldn't kill myself, my kids need me.",
    "No thoughts of suicide, no.",
    "I've never tried to kill myself or anything like that.",
    "I no longer want to die.",
    "I stopped cutting myself three years ago.",
    "I used to cut myself as a teenager.",
    "Years ago I tried to kill myself.",
    "When I was nineteen I took an overdose.",
    "Back then I thought about suicide a lot.",
    "I wanted to die after the divorce in 2009, but that has passed.",
    "In college I was suicidal for a while.",
    "My uncle killed himself.",
    "My sister tried to kill herself when we were kids.",
    "A friend of mine died by suicide last spring.",
    "He said he wanted to die.",
    "My mother was suicidal for most of my childhood.",
    "She cuts herself and I don't know how to help.",
    "My dad keeps threatening to kill himself.",
    "Our neighbor overdosed last month.",
    "This deadline is killing me.",
    "I could kill for a coffee.",
    "I'm dying to see her again.",
    "My boss is going to kill me when she sees the report.",
    "I was dying of embarrassment.",
    "I nearly died laughing.",
    "My feet are killing me.",
    "I'd kill for one good night's sleep.",
    "I'm dead tired when I get home.",
    "My wife will kill me if I forget our anniversary.",
    "I shot myself in the foot with that email.",
    "I'm working myself to death.",
    "I was bored to death in the meeting.",
    "The suspense is killing me.",
    "I cut myself shaving this morning.",
    "I cut myself off from my friends.",
    "I killed it at the interview.",
    "I want to end it with my boyfriend.",
    "I take my pills every morning like the doctor said.",
    "I'm afraid of dying when my heart races like that.",
    "I worry that my son might die.",
    "I hurt my back lifting boxes.",
    "I could have killed him when he forgot the milk.",
    "I don't want to be here, I hate waiting rooms.",
    "We watched a film about a man who shoots his brother.",
    "I feel like a failure and nothing I do matters at work.",
    "I'm scared of losing control and going crazy.",
    "Sometimes I wake up at four and can't get back to sleep.",
    "I burned myself on the oven again, I'm so clumsy.",
    "I beat myself up over every mistake.",
    "I want to kill this habit once and for all.",
    "It hurts to talk about my dad.",
    # written after the rules
    "I'm not having any thoughts of suicide or self-harm.",
    "I would never kill myself, I'm too scared of pain.",
    "My therapist back then asked whether I was suicidal and I said no.",
    "My dad tried to hang himself in 1998.",
    "I don't want to hurt anybody.",
    "My cousin overdosed and survived.",
    "I lost my best friend to suicide.",
    "There's no way I'd end my life.",
    "I thought about ending my life in my twenties, not since.",
    "I used to self-harm in high school.",
    "The heat in this office is murder.",
    "I'm dying for a cigarette.",
    "Those stairs will be the death of me.",
    "My kids are going to kill me for being late.",
    "I laughed so hard I thought I'd die.",
    "I'm going to beat my brother at chess on Sunday.",
    "I cut my finger chopping onions.",
    "I have to cut back on sugar.",
    "I didn't want to hurt her feelings.",
    "I'm going to end it with my boyfriend this weekend.",
    "I jumped off the couch when the phone rang.",
    "I ran out of my pills on Monday.",
    "He shot a gun at the range and I hated the noise.",
    "I wish I could sleep for a week.",
    "I couldn't wake up this morning, so I missed work.",
    "I'm tired of living with my parents.",
    "I want to finish it before the deadline.",
    "My daughter has been cutting herself.",
    "I bought a rope for the swing.",
    "I can't live without my phone.",
    "I have nothing to wear and I could scream.",
    "They say he was suicidal before the divorce.",
    "I'm sick of this job.",
    "I died inside when she said that.",
    "I worry I'll have a heart attack and die.",
    "I've been saving up my money for a car.",
    "I shot down every idea he had.",
    "She's drop dead gorgeous.",
    "I punched my pillow.",
    "I've got no plans to hurt myself or anyone else.",
    "I am not thinking about killing myself.",
    "I don't have any suicidal thoughts at the moment.",
    "I've never harmed myself.",
    "I would not harm my children.",
    "My roommate attempted suicide in March.",
    "Her brother hanged himself.",
    "My ex used to threaten that he'd kill himself.",
    "When I was a teenager I wanted to die.",
    "Ten years ago I overdosed.",
    "I was suicidal in my twenties.",
    "You're killing me with that joke.",
    "I'd die for a piece of that cake.",
    "I nearly killed myself on those icy steps.",
    "I could strangle my printer.",
    "My head is killing me.",
    "It's do or die for our team.",
    "I cut my hair myself.",
    "I scratched myself on a rose bush.",
    "I want to finish my degree.",
    "I'm ready to end this meeting.",
    "I can't live with this noise.",
    "He jumped in front of the queue.",
    "I have enough pills to last until Friday.",
    "I wish he would wake up earlier.",
    "My grandfather died last year and I miss him.",
    "I gave away my old clothes.",
    "I'm scared of knives.",
    "The film was about a murder.",
    "I don't want to live with my in-laws.",
    "I took two painkillers for the headache.",
    "I'm not going to do anything to myself.",
    "I have never been suicidal.",
    "I don't want to die at all, quite the opposite.",
    "I promise I won't hurt myself.",
    "My aunt took her own life when I was ten.",
    "My son told me his classmate is suicidal.",
    "Years ago I used to burn myself with cigarettes.",
    "In my twenties I tried to end my life.",
    "I'm dying to know the results.",
    "This headache will kill me one day.",
    "My sister would kill me if she knew I told you.",
    "I'm dead serious about quitting.",
    "I keep killing my houseplants.",
    "I burned my hand cooking.",
    "I cut myself some slack on weekends.",
    "I feel dead inside when I'm at the office.",
    "I'm afraid that I have cancer and will die.",
    "I think about my grandmother's death often.",
    "I want to end our friendship.",
    "I'm going to take my pills after dinner.",
    "The kids are driving me up the wall.",
    "He threatened to hit me.",
    "I want to beat her record.",
    "I worry that somebody will attack me.",
    "We are going to crush them in the final.",
)
# What the rules get wrong today; the tests fail when the lists are not exactly right.
KNOWN_MISSES: frozenset[str] = frozenset(
    {
        "I've got enough tramadol at home to finish the job.",
        "My brother killed himself, and lately I've wanted to follow him.",
        "I set a date for it and I told nobody.",
        "Living has become unbearable and I'd like it to be over.",
        "I keep hoping I get cancer so it ends.",
        "I would be glad not to exist.",
        "I'm thinking that dying might be the best thing for everybody.",
        "I have the rope in the garage already, and I know when my wife is out.",
        "I'm going to swallow everything in the medicine cabinet.",
        "I cut because it's the only thing that helps.",
    }
)
KNOWN_FALSE_ALARMS: frozenset[str] = frozenset()


def test_enough_sentences() -> None:
    assert len(CRISIS) >= 80
    assert len(EVERYDAY) >= 80
    assert len({text for text, _ in CRISIS} | set(EVERYDAY)) == len(CRISIS) + len(EVERYDAY)
    assert {kind for _, kind in CRISIS} == set(get_args(Kind))


def test_misses_are_exactly_the_known_ones() -> None:
    assert {text for text, _ in CRISIS if not is_crisis(text)} == KNOWN_MISSES


def test_false_alarms_are_exactly_the_known_ones() -> None:
    assert {text for text in EVERYDAY if is_crisis(text)} == KNOWN_FALSE_ALARMS


def test_kinds_are_told_apart_mostly() -> None:
    found = [(text, kind) for text, kind in CRISIS if is_crisis(text)]
    right = [
        text
        for text, kind in found
        if kind in {finding.kind for finding in screen(text) if finding.qualifier is None}
    ]
    assert len(right) >= 0.9 * len(found)


@pytest.mark.parametrize(
    ("text", "qualifier"),
    [
        ("I'm not going to kill myself.", "negated"),
        ("I\u2019m not suicidal.", "negated"),
        ("Years ago I tried to kill myself.", "past"),
        ("My uncle killed himself.", "third_person"),
        ("My mother was suicidal for years.", "third_person"),
        ("That talk was career suicide.", "idiom"),
        ("I could have killed him when he forgot the milk.", "idiom"),
    ],
)
def test_what_does_not_count_is_still_reported(text: str, qualifier: str) -> None:
    assert {finding.qualifier for finding in screen(text)} == {qualifier}
    assert not is_crisis(text)


@pytest.mark.parametrize(
    ("harmless", "crisis"),
    [
        ("I don't want to die.", "I'm not sleeping, and I want to die."),
        ("I used to be suicidal.", "I used to be suicidal and lately I am suicidal again."),
        ("My brother killed himself.", "My brother killed himself and I want to kill myself."),
        ("I'm not going to hurt myself.", "I can't stop hurting myself."),
        ("This job is killing me.", "This job is killing me, I want to kill myself."),
    ],
)
def test_a_qualifier_reaches_no_further_than_its_clause(harmless: str, crisis: str) -> None:
    assert not is_crisis(harmless)
    assert is_crisis(crisis)


def test_span_and_rule_point_at_what_was_said() -> None:
    text = "Honestly\u2026 \u0130 mean it. I WANT TO DIE, okay?"
    (finding,) = screen(text)
    assert text[slice(*finding.span)] == "WANT TO DIE"
    assert (finding.kind, finding.rule) == ("active_ideation", "want_die")
    assert screen("") == ()


def test_safety_lines_say_what_they_must() -> None:
    assert len(set(SAFETY_LINES)) >= 4
    for line in SAFETY_LINES:
        low = line.lower()
        assert "?" in line
        assert re.search(r"\b(safe|safety|danger)\b", low)
        assert "emergency services or a crisis line" in low
        assert "simulation" in low
        assert "research" in low
        assert not re.search(r"\d", line), "numbers differ by country"
        for method in ("pill", "knife", "rope", "gun", "overdos", "jump", "hang", "wrist"):
            assert method not in low


def test_a_long_utterance_is_screened_quickly() -> None:
    screen("warm")
    long = (
        "I told my sister that work was hard and the train was late again, and she laughed. " * 50
    )
    start = time.perf_counter()
    assert screen(long) == ()
    assert time.perf_counter() - start < 1.0
