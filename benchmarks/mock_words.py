"""The words of the mock server's answers: names to choose from, and sentences with slots.

Why: what is said and how it is chosen change for different reasons; these are plain tables. They
are plausible in form only.
"""

DISORDERS = (
    "Major depressive disorder",
    "Persistent depressive disorder",
    "Generalized anxiety disorder",
    "Social anxiety disorder",
    "Panic disorder",
    "Agoraphobia",
    "Specific phobia",
    "Obsessive-compulsive disorder",
    "Body dysmorphic disorder",
    "Post-traumatic stress disorder",
    "Adjustment disorder",
    "Bipolar II disorder",
    "Cyclothymic disorder",
    "Borderline personality disorder",
    "Avoidant personality disorder",
    "Dependent personality disorder",
    "Attention-deficit/hyperactivity disorder",
    "Bulimia nervosa",
    "Insomnia disorder",
    "Alcohol use disorder",
)
TREATMENTS = (
    "Cognitive behavioral therapy",
    "Behavioral activation",
    "Interpersonal therapy",
    "Acceptance and commitment therapy",
    "Exposure and response prevention",
    "Problem-solving therapy",
    "Mindfulness-based cognitive therapy",
    "Dialectical behavior therapy skills group",
    "Sleep restriction with stimulus control",
    "Compassion-focused therapy",
)
MEDICATIONS = (
    "Selective serotonin reuptake inhibitor",
    "Serotonin-norepinephrine reuptake inhibitor",
    "Noradrenergic and specific serotonergic antidepressant",
    "Norepinephrine-dopamine reuptake inhibitor",
    "Tricyclic antidepressant",
    "Mood stabilizer",
    "Beta blocker as needed",
    "Serotonin partial agonist anxiolytic",
    "Second-generation antipsychotic, low dose",
    "No medication for now, review in four weeks",
)

SLOTS: dict[str, tuple[str, ...]] = {
    "when": ("most evenings", "on Sundays", "after work", "in the mornings", "before meetings",
             "at family dinners", "when the house is quiet", "since the spring"),
    "who": ("my sister", "my manager", "my mother", "an old friend", "my neighbor", "my brother",
            "a colleague", "my partner"),
    "feel": ("tense", "flat", "ashamed", "worn out", "uneasy", "sad", "irritable", "lonely"),
    "act": ("cancel the plan", "say that all is fine", "check everything twice", "stay in my room",
            "put the letter away", "work through lunch", "leave early", "keep the phone off"),
    "area": ("work", "sleep", "family", "friends", "money", "health", "mornings", "weekends"),
    "far": ("a few weeks", "about a year", "some months", "longer than I can say"),
}  # fmt: skip
PATIENT = (
    "{when} I feel {feel} and I cannot name a reason for it.",
    "It started with {area}, and it has gone on for {far} now.",
    "When {who} asks how I am, I usually {act}.",
    "I tell myself that other people manage {area} without any trouble.",
    "Then I {act}, and for an hour or so it is easier.",
    "I have not talked about this with {who} yet.",
    "{who} says that I have changed, and I think that is true.",
    "Part of me wants to do something about {area}, and part of me would rather {act}.",
    "I go over the same conversation with {who} again and again.",
    "{when} it is worse, and I end up {feel} and tired.",
    "I used to look forward to {area}, and now I mostly feel {feel}.",
    "If I get {area} wrong once more, I expect that {who} will notice.",
    "My stomach tightens {when}, and I find it hard to think.",
    "I know it sounds small, but I {act} nearly every time.",
)
THERAPIST = (
    "It sounds as if {area} has been hard on you for a while.",
    "You noticed that you feel {feel} {when}, and you said so plainly.",
    "I would like to understand that moment a little better.",
    "Thank you for telling me about {area}.",
    "That way of getting through {area} has cost you something as well.",
    "We can take this slowly and stay with one situation.",
    "So there is a wish for things to change, and a worry about what might follow.",
    "Being {feel} for so long would tire anyone.",
)
QUESTIONS = (
    "What went through your mind just before you felt {feel}?",
    "What do you usually do when {area} gets like that?",
    "What would it mean about you if {area} went badly?",
    "When did you first notice this about {area}?",
    "How do you feel in your body {when}?",
    "What rule do you hold yourself to when it comes to {area}?",
)
CLINICAL = (
    "Feeling {feel} {when} goes together with a wish to withdraw from {area}.",
    "The person expects to fail in {area} and prepares for it in advance.",
    "Avoiding {area} brings short relief and keeps the worry in place.",
    "The course over time and the effect on {area} point in this direction.",
    "What was said about {area} supports this, though not every sign was mentioned.",
    "There is a strict rule about {area} and harsh judgment when it is broken.",
    "Trouble with {area} came first, and being {feel} followed.",
    "The fit with the wishes that were voiced about {area} is fair.",
)
