"""Labels as models write them land on the right ICD-10-CM code, or on none."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import get_args

import pytest

from mentalarena.errors import CaseError
from mentalarena.nosology import (
    NEAREST_CUTOFF,
    Family,
    block,
    family,
    map_label,
    map_labels,
    name_of,
    same_diagnosis,
)

# Written before the synonyms; None is a label that no code may be made of.
LABELLED: tuple[tuple[str, str | None], ...] = (
    # codes
    ("Doctor's diagnosis: Major Depressive Disorder, moderate (F32.1)", "F32.1"),
    ("F41.1", "F41.1"),
    ("f43.10 - PTSD", "F43.10"),
    ("ICD-10: F600", "F60.0"),
    ("F42: obsessive thoughts about contamination", "F42"),
    ("Z63.0 relationship distress", "Z63.0"),
    ("Burnout (Z73.0)", "Z73.0"),
    ("Emotionally unstable personality (F60.31)", "F60.3"),
    # a code that contradicts the words it stands beside
    ("Panic disorder (F32.1)", "F41.0"),
    # official names, with the usual noise
    ("Generalized anxiety disorder", "F41.1"),
    ("Generalised Anxiety Disorder.", "F41.1"),
    ("**Dysthymic disorder**", "F34.1"),
    ("Diagnosis 1: Cyclothymic Disorder", "F34.0"),
    ("Social phobia, generalized", "F40.11"),
    ("Major depressive disorder, recurrent, moderate", "F33.1"),
    ("Recurrent major depressive disorder, moderate", "F33.1"),
    ("Adjustment disorder with mixed anxiety and depressed mood", "F43.23"),
    ("Adjustment Disorder, With Anxiety", "F43.22"),
    ("Antisocial personality disorder", "F60.2"),
    ("Bulimia nervosa", "F50.20"),
    ("Schizophrenia", "F20.9"),
    ("Nightmare disorder", "F51.5"),
    ("Tourette's disorder", "F95.2"),
    ("Intermittent explosive disorder", "F63.81"),
    ("Schizoaffective disorder, bipolar type", "F25.0"),
    ("Alcohol dependence, uncomplicated", "F10.20"),
    # DSM-5-TR names
    ("Major Depressive Disorder", "F32.9"),
    ("Major depressive disorder, single episode, severe without psychotic features", "F32.2"),
    ("Major Depressive Disorder, severe, with psychotic features", "F32.3"),
    ("Major depressive disorder, recurrent, severe, with anxious distress", "F33.2"),
    ("Persistent depressive disorder (dysthymia)", "F34.1"),
    ("Social Anxiety Disorder", "F40.10"),
    ("Insomnia disorder", "F51.01"),
    ("Posttraumatic stress disorder", "F43.10"),
    ("Acute stress disorder", "F43.0"),
    ("Prolonged Grief Disorder", "F43.81"),
    ("Bipolar I disorder, current episode manic, severe with psychotic features", "F31.2"),
    ("Bipolar II disorder, current episode depressed", "F31.81"),
    ("Illness anxiety disorder", "F45.21"),
    ("Somatic symptom disorder", "F45.1"),
    ("Autism spectrum disorder", "F84.0"),
    ("Attention-Deficit/Hyperactivity Disorder, predominantly inattentive presentation", "F90.0"),
    ("Alcohol use disorder, severe", "F10.20"),
    ("Opioid Use Disorder, mild", "F11.10"),
    ("Cannabis use disorder, moderate", "F12.20"),
    ("Gender dysphoria in adults", "F64.0"),
    ("Gambling disorder", "F63.0"),
    ("Specific phobia, animal type", "F40.218"),
    ("Depersonalization/Derealization Disorder", "F48.1"),
    ("Functional neurological symptom disorder", "F44.9"),
    ("Avoidant/Restrictive Food Intake Disorder (ARFID)", "F50.82"),
    # abbreviations
    ("GAD", "F41.1"),
    ("PTSD", "F43.10"),
    ("MDD", "F32.9"),
    ("MDD, recurrent, severe", "F33.2"),
    ("BPD", "F60.3"),
    ("OCD", "F42.9"),
    ("OCPD", "F60.5"),
    ("ADHD, combined type", "F90.2"),
    ("PMDD", "F32.81"),
    ("AUD", "F10.20"),
    ("DID", "F44.81"),
    # lay names and short forms
    ("Social Phobia", "F40.10"),
    ("Borderline personality", "F60.3"),
    ("Clinical depression", "F32.9"),
    ("Depression", "F32.A"),
    ("Severe depression", "F32.2"),
    ("Postnatal depression", "F53.0"),
    ("Panic attacks", "F41.0"),
    ("Manic depression", "F31.9"),
    ("Bipolar type 2", "F31.81"),
    ("Anorexia", "F50.00"),
    ("Binge eating", "F50.819"),
    ("Alcoholism", "F10.20"),
    ("Hoarding", "F42.3"),
    ("Skin picking", "F42.4"),
    ("Hair-pulling disorder", "F63.3"),
    ("Fear of flying", "F40.243"),
    ("Hypochondria", "F45.21"),
    ("Sleepwalking", "F51.3"),
    ("Asperger syndrome", "F84.5"),
    ("Complex PTSD", "F43.10"),
    # sentences and several diagnoses: the first counts
    ("The patient most likely meets criteria for Generalized Anxiety Disorder.", "F41.1"),
    ("I would diagnose you with Panic Disorder.", "F41.0"),
    ("Probable bipolar disorder", "F31.9"),
    ("Major Depressive Disorder with comorbid Generalized Anxiety Disorder", "F32.9"),
    ("Panic disorder; agoraphobia", "F41.0"),
    ("Not PTSD but adjustment disorder", "F43.20"),
    ("Obsessive-Compulsive Disorder, with good insight", "F42.9"),
    # below threshold
    ("No diagnosis", "Z03.89"),
    ("No mental disorder", "Z03.89"),
    ("Uncomplicated bereavement", "Z63.4"),
    ("Occupational burnout", "Z73.0"),
    ("Relationship distress with spouse or intimate partner", "Z63.0"),
    ("Phase of life problem", "Z60.0"),
    # nothing that a code may be made of
    ("", None),
    ("N/A", None),
    ("I need more information before I can say.", None),
    ("The patient feels sad about exams", None),
    ("Type 2 diabetes", None),
    ("Hypothyroidism", None),
    ("Rule out bipolar disorder", None),
    ("Not PTSD", None),
    ("Family history of schizophrenia", None),
    ("Low self-esteem and perfectionism", None),
    ("Difficulty with anxiety about work", None),
    ("No evidence of major depressive disorder", None),
    ("F99.77 unknowable", None),
    ("Plan F16 take-off stress", None),
    # written after the tables, and used to widen them
    ("Major Depressive Disorder, single episode, moderate, with anxious distress", "F32.1"),
    ("Diagnosis: Generalized Anxiety Disorder (GAD)", "F41.1"),
    ("Primary diagnosis: Posttraumatic Stress Disorder (PTSD), chronic", "F43.12"),
    ("Depressive episode with anxious distress", "F32.9"),
    ("Social Anxiety Disorder (Social Phobia)", "F40.10"),
    ("Adjustment Disorder with Mixed Disturbance of Emotions and Conduct", "F43.25"),
    ("Anxious depression", "F41.8"),
    ("Binge-eating disorder, moderate", "F50.811"),
    ("Anorexia nervosa, restricting type", "F50.019"),
    ("Bulimia Nervosa (F50.2)", "F50.2"),
    ("Bipolar Disorder Type I, most recent episode manic", "F31.10"),
    ("Bipolar 1", "F31.9"),
    ("Bipolar II", "F31.81"),
    ("Bipolar I disorder, current episode depressed, moderate", "F31.32"),
    ("Alcohol Use Disorder, Moderate (F10.20)", "F10.20"),
    ("Cannabis dependence", "F12.20"),
    ("Cocaine use disorder", "F14.20"),
    ("Stimulant use disorder, amphetamine-type", "F15.20"),
    ("Nicotine dependence", "F17.200"),
    ("Insomnia disorder, persistent", "F51.01"),
    ("Chronic insomnia due to stress", "F51.01"),
    ("Perfectionism with obsessive-compulsive personality traits", None),
    ("Borderline Personality Disorder (BPD)", "F60.3"),
    ("Avoidant PD", "F60.6"),
    ("Schizophrenia, paranoid type", "F20.0"),
    ("Brief psychotic disorder", "F23"),
    ("Delusional disorder, persecutory type", "F22"),
    ("Unspecified psychosis", "F29"),
    ("ADHD", "F90.9"),
    ("ADHD, predominantly inattentive type", "F90.0"),
    ("Adult ADHD", "F90.9"),
    ("Autism", "F84.0"),
    ("Prolonged grief", "F43.81"),
    ("Normal grief reaction", "Z63.4"),
    ("Burn-out syndrome", "Z73.0"),
    ("Work-related stress", "Z56.3"),
    ("Persistent Depressive Disorder with late onset", "F34.1"),
    ("Treatment-resistant depression", "F32.A"),
    ("High-functioning depression", None),
    ("Panic Disorder with Agoraphobia", "F40.01"),
    ("Agoraphobia", "F40.00"),
    ("Claustrophobia", "F40.240"),
    ("Obsessive compulsive disorder (contamination subtype)", "F42.9"),
    ("Body Dysmorphic Disorder", "F45.22"),
    ("Separation Anxiety Disorder", "F93.0"),
    ("Major depression, recurrent", "F33.9"),
    (
        "The client presents with symptoms consistent with Major Depressive Disorder, "
        "recurrent, severe without psychotic features.",
        "F33.2",
    ),
    ("You may be experiencing depression", "F32.A"),
    ("It sounds like social anxiety to me", "F40.10"),
    ("I am not a doctor, but this looks like PTSD", "F43.10"),
    ("Seasonal affective disorder", "F33.9"),
    ("Postpartum anxiety", None),
    ("Hypertension", None),
    ("Healthy, no concerns", None),
    ("Stress", "Z73.3"),
    ("None", None),
    ("Unknown", None),
    ("Imposter syndrome", None),
    ("Low mood", None),
    ("Grief", "Z63.4"),
    ("Substance-Induced Depressive Disorder", None),
    ("Depressive disorder due to hypothyroidism (F06.31)", "F06.31"),
    ("Dysthymia with intermittent major depressive episodes", "F34.1"),
    ("Impulse control problems", None),
    ("PTSD, ruled out", None),
    ("Patient denies depression, likely GAD", "F41.1"),
    ("Anxiety/depression", "F41.8"),
    ("Anxiety Disorder NOS", "F41.9"),
    ("Without further information no diagnosis can be made", None),
    ("Generalized Anxiety Disorder (GAD) or Panic Disorder", "F41.1"),
    ("Relationship problems", "Z63.0"),
    ("Schizoaffective", "F25.9"),
    ("Eating disorder not otherwise specified (EDNOS)", "F50.9"),
    ("Trauma response", None),
    ("Attachment issues", None),
    ("Moderate recurrent depression", "F33.1"),
    ("Depression (moderate)", "F32.1"),
    ("MDD (recurrent)", "F33.9"),
    ("Unspecified anxiety disorder", "F41.9"),
    ("Other Specified Anxiety Disorder", "F41.8"),
    ("Drug addiction", "F19.20"),
    ("Selective mutism", "F94.0"),
    ("Major Depressive Disorder: recurrent; severe", "F33.2"),
    ("Narcissistic traits", None),
    ("Cyclothymia", "F34.0"),
    ("Major Depressive Disorder F33.1", "F33.1"),
    ("F32.9 Major Depressive Disorder", "F32.9"),
    ("Diagnosis: F41.1", "F41.1"),
    ("Diagnosis 2: Unspecified Depressive Disorder", "F32.A"),
    ("Major depressive disorder (severe, recurrent)", "F33.2"),
    ("Late-onset dysthymia", "F34.1"),
    ("Persistent complex bereavement disorder", "F43.81"),
    ("Complicated grief", "F43.81"),
    ("Adjustment disorder with depressed mood (F43.21)", "F43.21"),
    ("Acute adjustment disorder with anxiety", "F43.22"),
    ("Delayed expression PTSD", "F43.10"),
    ("Panic disorder with frequent panic attacks", "F41.0"),
    ("Phobia of heights", "F40.241"),
    ("Test anxiety", None),
    ("Generalized social phobia", "F40.11"),
    ("Bipolar disorder, hypomanic episode", "F31.0"),
    ("Rapid cycling bipolar disorder", "F31.9"),
    ("Postpartum depression, moderate", "F53.0"),
    ("Alcohol dependence syndrome", "F10.20"),
    ("Alcohol use disorder in early remission", "F10.21"),
    ("Heroin addiction", "F11.20"),
    ("Internet gaming disorder", "F63.89"),
    ("Schizotypal personality disorder", "F21"),
    ("Mixed personality disorder", None),
    ("Cluster B personality traits", None),
    ("Catatonic schizophrenia", "F20.2"),
    ("Psychotic depression", "F32.3"),
    ("Anorexia nervosa, binge-eating/purging type", "F50.029"),
    ("Orthorexia", "F50.89"),
    ("Psychophysiological insomnia", "F51.04"),
    ("Circadian rhythm sleep disorder", None),
    ("Trichotillomania", "F63.3"),
    ("Hoarding disorder with excessive acquisition", "F42.3"),
    ("Tic disorder", "F95.9"),
    ("Oppositional Defiant Disorder (ODD)", "F91.3"),
    ("Dyslexia", "F81.0"),
    ("Dissociative amnesia", "F44.0"),
    ("Somatization disorder", "F45.0"),
    ("Conversion disorder with seizures", "F44.5"),
    ("Marital conflict", "Z63.0"),
    ("Caregiver burnout", "Z73.0"),
    ("Codependency", None),
    ("Low motivation", None),
    ("Chronic pain", None),
    ("ADHD and anxiety", "F90.9"),
    ("Undiagnosed", None),
    ("Possible early Alzheimer's disease", None),
    ("Existential crisis", None),
    ("Exhaustion", None),
    ("Major depressive disorder, in partial remission", "F32.4"),
)
# Labels that the tables get wrong, kept here so that nobody takes the figures for perfect.
KNOWN_ERRORS: frozenset[str] = frozenset(
    {
        "Insomnia disorder, persistent",
        "Eating disorder not otherwise specified (EDNOS)",
        "Major Depressive Disorder: recurrent; severe",
        "Hoarding disorder with excessive acquisition",
    }
)


def test_enough_labels_of_every_kind() -> None:
    assert len(LABELLED) >= 60
    assert len({text for text, _ in LABELLED}) == len(LABELLED)
    assert sum(code is None for _, code in LABELLED) >= 10


@pytest.mark.parametrize(("text", "code"), LABELLED, ids=[text[:40] for text, _ in LABELLED])
def test_label_is_mapped(text: str, code: str | None) -> None:
    right = map_label(text).code == code
    assert right == (text not in KNOWN_ERRORS), map_label(text)


def test_how_a_label_was_found_is_told() -> None:
    assert map_label("F41.1") == ("Generalized anxiety disorder", "F41.1", "code")
    assert map_label("Generalised anxiety disorder").matched_by == "name"
    assert map_label("GAD").matched_by == "synonym"
    assert map_label("nothing of the kind") == (None, None, None)


def test_nearest_is_asked_last_and_obeyed_only_above_the_cutoff() -> None:
    asked: list[str] = []

    def near(cosine: float) -> Callable[[str, Sequence[str]], tuple[int, float]]:
        def nearest(text: str, phrases: Sequence[str]) -> tuple[int, float]:
            asked.append(text)
            return phrases.index("generalized anxiety"), cosine

        return nearest

    assert map_label("GAD", near(1.0)).matched_by == "synonym"
    assert asked == []
    found = map_label("worrying all the time", near(NEAREST_CUTOFF))
    assert found == ("Generalized anxiety disorder", "F41.1", "embedding")
    assert map_label("worrying all the time", near(NEAREST_CUTOFF - 0.01)).code is None
    assert len(asked) == 2
    assert map_label("not PTSD", near(1.0)).code is None
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("code", "in_block", "in_family"),
    [
        ("F32.1", "F30-F39", "depressive"),
        ("F31.81", "F30-F39", "bipolar"),
        ("F34.0", "F30-F39", "bipolar"),
        ("F34.1", "F30-F39", "depressive"),
        ("F41.1", "F40-F48", "anxiety"),
        ("F42.9", "F40-F48", "obsessive-compulsive"),
        ("F43.10", "F40-F48", "trauma"),
        ("F43.21", "F40-F48", "adjustment"),
        ("F45.22", "F40-F48", "obsessive-compulsive"),
        ("F50.20", "F50-F59", "eating"),
        ("F51.01", "F50-F59", "sleep"),
        ("F20.9", "F20-F29", "psychotic"),
        ("F10.20", "F10-F19", "substance-use"),
        ("F60.3", "F60-F69", "personality"),
        ("F84.0", "F80-F89", "neurodevelopmental"),
        ("F90.0", "F90-F98", "neurodevelopmental"),
        ("F44.81", "F40-F48", "other"),
        ("F99", "F99", "other"),
        ("Z63.0", "Z55-Z65", "other"),
        ("Z73.0", "Z69-Z76", "other"),
    ],
)
def test_block_and_family(code: str, in_block: str, in_family: str) -> None:
    assert name_of(code)
    assert block(code) == in_block
    assert family(code) == in_family
    assert in_family in get_args(Family)


def test_same_diagnosis() -> None:
    assert same_diagnosis("F32.1", "f32.1") == "exact"
    assert same_diagnosis("F32.1", "F32.9") == "category"
    assert same_diagnosis("F32.1", "F33.1") == "block"
    assert same_diagnosis("F32.1", "F41.1") == "different"
    assert same_diagnosis("Z63.0", "F60.3") == "different"


@pytest.mark.parametrize("wrong", ["G47.00", "", "X"])
def test_a_code_of_another_chapter_is_refused(wrong: str) -> None:
    with pytest.raises(CaseError, match="ICD-10-CM"):
        block(wrong)
    with pytest.raises(CaseError):
        same_diagnosis("F32.1", wrong)
    with pytest.raises(CaseError):
        name_of(wrong)


def test_a_lookup_is_fast_and_so_is_loading() -> None:
    map_label("warm")
    longest = max((text for text, _ in LABELLED), key=len) + " and then some" * 40
    start = time.perf_counter()
    for _ in range(20):
        map_label(longest)
    assert (time.perf_counter() - start) / 20 < 0.02  # 1 ms on a quiet core
    code = (
        "import json, time\nfrom mentalarena import nosology\nstart = time.perf_counter()\n"
        "nosology.map_label('x')\nprint(json.dumps(time.perf_counter() - start))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) < 0.5  # 50 ms on a quiet core


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Major depressive disorder, recurrent, moderate and GAD", ["F33.1", "F41.1"]),
        ("1. PTSD 2. Alcohol use disorder, severe", ["F43.10", "F10.20"]),
        ("Bulimia nervosa, mild; borderline personality disorder", ["F50.21", "F60.3"]),
        ("OCD with comorbid social anxiety disorder", ["F42.9", "F40.10"]),
        ("F33.1, F41.1", ["F33.1", "F41.1"]),
        ("Panic disorder and agoraphobia", ["F40.01"]),
        # one diagnosis, whatever its qualifiers
        ("Adjustment disorder with mixed anxiety and depressed mood", ["F43.23"]),
        ("Major depressive disorder, recurrent, severe, with psychotic features", ["F33.3"]),
        ("Doctor 2's diagnosis: Panic disorder, severe", ["F41.0"]),
        # alternatives, rule-outs, negations
        ("GAD vs. panic disorder", ["F41.1"]),
        ("R/O bipolar disorder vs. borderline personality disorder", []),
        ("MDD, recurrent, severe; r/o bipolar II disorder", ["F33.2"]),
        ("No evidence of psychosis. Generalized anxiety disorder.", ["F41.1"]),
        ("the client is doing well", []),
    ],
)
def test_a_comorbid_answer_is_read_code_by_code(text: str, codes: list[str]) -> None:
    assert [label.code for label in map_labels(text)] == codes


def test_a_name_that_says_more_outweighs_an_unspecified_code() -> None:
    assert map_label("Bipolar II disorder (F31.9)").code == "F31.81"
    assert map_label("Bipolar disorder (F31.81)").code == "F31.81"
