"""The schema of the store, as small append-only migrations.

Why: a file written by an old version is brought up to date when it is opened, and the words of a
column are kept next to it: what follows ``--`` in the statements below stays in the database
(``.schema``) and becomes ``docs/schema.md`` (see :mod:`mentalarena.schema`). A migration that was
released is never edited; a change is a new function at the end.
"""

from typing import Final

from sqlite_utils import Database, Migrations

from mentalarena.views import (
    COSTS,
    EXCLUSIONS,
    LINEAGE,
    MEASURES,
    SUMMARY,
    TOTALS,
    TRAINING,
    VERDICTS,
)

migrations = Migrations("mentalarena")


def _one_of(column: str, *values: str) -> str:
    """A check of a closed list: SQLite builds a table for every ``in (...)`` it evaluates."""
    return "check (" + " or ".join(f"{column} = '{value}'" for value in values) + ")"


_COMPONENT: Final = "component text not null " + _one_of(
    "component",
    "core_beliefs",
    "intermediate_beliefs",
    "intermediate_beliefs_depression",
    "coping_strategies",
    "automatic_thoughts",
    "emotions",
    "behaviors",
    "behavior_principles",
)
_EPISODE: Final = "episode_id text not null references episodes(id) on delete cascade"
_CALL: Final = "call_id text references calls(id)"
_NOW: Final = "text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))"

# SQLite before 3.45 finds NULL an invalid JSON text: a column that may be null says so itself.
_RUNS = f"""
create table runs (
  id text primary key not null,
  created_at {_NOW}, -- UTC, ISO 8601
  kind text not null {_one_of("kind", "arena", "batch", "branch", "evaluation", "selfplay")},
  config text not null check (json_valid(config)), -- JSON; no key or secret
  config_hash text not null, -- equal for equal experiments
  code_version text not null
) strict;
create index runs_config_hash on runs(config_hash);

create table cases (
  id text primary key not null,
  hash text not null unique, -- SHA-256 of the canonical record
  patient_id text not null, -- splits are by patient
  split text not null {_one_of("split", "train", "dev", "test")},
  source text not null,
  synthetic integer not null default 0 check (synthetic in (0, 1)),
  parents text not null default '[]' check (json_valid(parents)), -- JSON list of case ids
  presentation text not null,
  style text not null,
  record text not null check (json_valid(record)) -- JSON; hidden from the therapist
) strict;
create index cases_patient on cases(split, patient_id);

create table episodes (
  id text primary key not null,
  run_id text not null references runs(id),
  case_id text not null references cases(id),
  case_hash text not null, -- of the record that was played
  sample integer not null,
  seed integer not null,
  iteration integer not null default 0, -- of the self-play loop
  guidance text not null {_one_of("guidance", "none", "topic", "placebo", "oracle")},
  status text not null default 'running'
    {_one_of("status", "running", "ok", "failed", "aborted")}, -- ok is a stamp, set at the end
  attempts integer not null default 0,
  self_judged integer not null default 0 check (self_judged in (0, 1)), -- one model on all seats
  crisis integer not null default 0 check (crisis in (0, 1)), -- the crisis screen found something
  started_at {_NOW},
  finished_at text,
  parent text references episodes(id), -- the episode this one branched from
  parent_attempt integer, -- the attempt it shares with it
  branch_step integer, -- super-steps before it are the parent's, answers and all
  principle_id text, -- behavior principle chosen by the manager
  principle_scores text
    check (principle_scores is null or json_valid(principle_scores)), -- JSON; candidates
  check ((parent is null) = (branch_step is null) and (parent is null) = (parent_attempt is null))
) strict;
create index episodes_run on episodes(run_id, status);
create index episodes_case on episodes(case_id);
create index episodes_parent on episodes(parent);

create table concurrency (
  run_id text not null references runs(id) on delete cascade,
  worker integer not null check (worker >= 0), -- its number; 0: the process that drives the run
  at text not null, -- UTC, ISO 8601; of several changes in one millisecond the last stays
  reason text not null, -- start, grow, throttled, silent, end
  in_flight integer not null check (in_flight >= 0), -- requests
  "limit" integer not null check ("limit" >= 0), -- requests that may be in flight from now on
  primary key (run_id, worker, at, reason)
) strict, without rowid;
"""

_DIALOGUE = f"""
create table templates (
  hash text primary key not null,
  name text not null,
  text text not null
) strict;

create table calls (
  id text primary key not null, -- journal key
  episode_id text not null, -- no foreign key: a call may come before, or without, an episode
  attempt integer not null, -- of the episode
  step integer not null, -- super-steps before it in the attempt
  node text not null,
  visit integer not null, -- how often the node had run before
  sample integer not null, -- which of several draws of one question
  reask integer not null, -- 0: first asking
  seat text not null,
  purpose text not null,
  model text not null, -- the spec asked for
  resolved_model text not null, -- the name the server answered with
  template_hash text not null references templates(hash),
  prompt_hash text not null, -- a changed prompt stops a replay
  prompt_tokens integer,
  completion_tokens integer,
  cost real,
  latency_ms real not null,
  attempts integer not null, -- requests made, retries included
  answer text not null, -- raw text
  failure text, -- why the answer was refused; null when it was not
  created_at {_NOW}
) strict;
create index calls_episode on calls(episode_id);

create table turns (
  id integer primary key, -- for the full-text index only
  {_EPISODE},
  idx integer not null check (idx >= 0),
  speaker text not null {_one_of("speaker", "patient", "therapist")},
  purpose text not null {_one_of("purpose", "opening", "exchange", "probe", "safety")},
  text text not null,
  disclosed text
    check (disclosed is null or json_valid(disclosed)), -- JSON list of record clauses, or null
  {_CALL},
  role_flip integer not null default 0 check (role_flip in (0, 1)),
  crisis text
    check (crisis is null or json_valid(crisis)), -- JSON; what the crisis screen found, or null
  unique (episode_id, idx)
) strict;

create virtual table turns_fts using fts5(
  text, content='turns', content_rowid='id', tokenize='porter unicode61'
);
-- The writer adds new turns, once a transaction: a trigger would flush the index each time.
create trigger turns_fts_delete after delete on turns
when exists (select 1 from turns_fts_docsize where id = old.id) begin
  insert into turns_fts(turns_fts, rowid, text) values ('delete', old.id, old.text);
end;
create trigger turns_fts_update after update on turns
when old.text is not new.text and exists (select 1 from turns_fts_docsize where id = old.id) begin
  insert into turns_fts(turns_fts, rowid, text) values ('delete', old.id, old.text);
  insert into turns_fts(rowid, text) values (new.id, new.text);
end;

create table routes (
  {_EPISODE},
  step integer not null,
  source text not null, -- node that was left
  target text not null, -- node that was entered
  reason text not null default '',
  primary key (episode_id, step)
) strict, without rowid;
"""

_DECODER = f"""
create table formulations (
  {_EPISODE},
  round integer not null,
  {_COMPONENT},
  statement text not null, -- the therapist's words; empty when not known
  quotes text not null default '[]' check (json_valid(quotes)), -- JSON list
  {_CALL},
  primary key (episode_id, round, component)
) strict, without rowid;

create table deviations (
  {_EPISODE},
  round integer not null,
  {_COMPONENT},
  scorer text not null, -- embedding, judge, overlap
  similarity real, -- to the encoded component
  rank real, -- share of other patients whose same component is at least as similar
  threshold real, -- calibrated
  band_low real, -- lower end of the abstain band
  band_high real, -- upper end of the abstain band
  rank_limit real, -- a higher rank is not aligned
  verdict text not null
    {_one_of("verdict", "aligned", "unclear", "missed", "distorted", "unsupported")},
  reason text not null default '',
  primary key (episode_id, round, component)
) strict, without rowid;

create table decisions (
  {_EPISODE},
  round integer not null,
  decision text not null {_one_of("decision", "biased", "incomplete", "aligned")},
  reason text not null default '', -- what the joint rule counted
  chosen text, -- what the manager chose to probe; differs from component under placebo guidance
  component text, -- probed because of the decision; null when the dialogue was not rerouted
  mode text {_one_of("mode", "revisit", "explore")},
  guidance_kind text not null {_one_of("guidance_kind", "none", "topic", "placebo", "oracle")},
  guidance text not null default '', -- what the therapist was told
  leak real, -- share of the record that the guidance carries
  {_CALL},
  primary key (episode_id, round)
) strict, without rowid;
create index decisions_decision on decisions(decision);

create table injections (
  {_EPISODE},
  round integer not null,
  {_COMPONENT},
  kind text not null, -- negated, wrong_agent, wrong_emotion, reversed, swapped, unsupported
  truth text not null, -- the statement before it was bent
  primary key (episode_id, round, component)
) strict, without rowid;
"""

_PLANS = f"""
create table diagnoses (
  {_EPISODE},
  idx integer not null, -- the likelier first
  label text not null, -- the therapist's words
  code text, -- ICD-10-CM; null when unmapped
  status text not null {_one_of("status", "mapped", "unmapped")},
  matched_by text, -- name, synonym or embedding
  chosen integer not null default 0 check (chosen in (0, 1)), -- confirmed by the patient
  rationale text not null default '', -- the therapist's
  reason text not null default '', -- the patient's
  crisis text check (crisis is null or json_valid(crisis)), -- JSON; findings in the reason
  {_CALL},
  primary key (episode_id, idx),
  check ((status = 'mapped') = (code is not null))
) strict, without rowid;
create index diagnoses_code on diagnoses(code);

create table plans (
  {_EPISODE},
  kind text not null {_one_of("kind", "treatment", "medication")},
  attempt integer not null,
  name text not null,
  rationale text not null default '',
  response text not null default '', -- the patient's words
  health_before integer check (health_before between 1 and 10),
  health_after integer check (health_after between 1 and 10),
  crisis text check (crisis is null or json_valid(crisis)), -- JSON; findings in the response
  score real check (score between 1 and 10), -- mean of the judge's samples
  chosen integer not null default 0 check (chosen in (0, 1)),
  {_CALL},
  response_call_id text references calls(id),
  primary key (episode_id, kind, attempt)
) strict, without rowid;

create table scores (
  episode_id text not null,
  kind text not null,
  attempt integer not null,
  sample integer not null,
  judge text not null, -- seat spec
  score integer check (score between 1 and 10), -- null when the answer could not be read
  reason text not null default '',
  {_CALL},
  primary key (episode_id, kind, attempt, sample),
  foreign key (episode_id, kind, attempt) references plans on delete cascade
) strict, without rowid;

create table errors (
  id text primary key not null, -- hash of the content: a replay adds nothing
  episode_id text references episodes(id) on delete cascade,
  attempt integer not null default 0,
  boundary text not null, -- provider, parse, empty, role_flip, case, store, configuration, ...
  type text not null, -- name of the exception
  message text not null,
  call_id text, -- no foreign key: a failed call may not be journaled
  created_at {_NOW}
) strict;
create index errors_episode on errors(episode_id);
create index errors_boundary on errors(boundary, type);
"""

_FORGET: Final = "".join(
    f"""
create trigger {counts}_{event} after {event} on {rows} begin
  delete from {counts} where episode_id = {row}.episode_id;
end;
"""
    for counts, rows in (("verdict_counts", "deviations"), ("seat_costs", "calls"))
    for event, row in (("insert", "new"), ("update", "new"), ("delete", "old"))
)

_TOTALS: Final = f"""
-- In the order of the questions, so that nothing has to be sorted for an answer; complete episodes.
create table verdict_counts (
  run_id text not null,
  guidance text not null,
  {_COMPONENT},
  verdict text not null,
  {_EPISODE},
  n integer not null, -- rounds
  first_n integer not null, -- 1 when it was the first round's verdict
  last_n integer not null, -- 1 when it was the last round's
  primary key (run_id, guidance, component, verdict, episode_id)
) strict, without rowid;
create index verdict_counts_episode on verdict_counts(episode_id);

create table seat_costs (
  {_EPISODE},
  seat text not null,
  model text not null,
  calls integer not null,
  failures integer not null,
  requests integer not null, -- retries included
  prompt_tokens integer,
  completion_tokens integer,
  cost real,
  latency_ms real not null, -- of all calls together
  primary key (episode_id, seat, model)
) strict, without rowid;

create trigger episodes_end after update of status on episodes when new.status <> 'running' begin
  delete from verdict_counts where episode_id = new.id;
  insert into verdict_counts {VERDICTS.format(episode="new.id")} and new.status = 'ok'
    group by v.component, v.verdict;
  delete from seat_costs where episode_id = new.id;
  insert into seat_costs {COSTS.format(episode="new.id")};
end;
{_FORGET}"""

_TRAINING = f"""
create table embeddings (
  encoder_hash text not null,
  text_hash text not null,
  vector blob not null check (length(vector) % 4 = 0), -- float32, little endian
  primary key (encoder_hash, text_hash)
) strict, without rowid;

create table datasets (
  id text primary key not null, -- content hash
  created_at {_NOW},
  path text not null,
  kind text not null {_one_of("kind", "sft", "preference")},
  run_ids text not null check (json_valid(run_ids)), -- JSON list
  filters text not null check (json_valid(filters)), -- JSON; in the order they ran
  funnel text not null check (json_valid(funnel)), -- JSON; rows left after each filter
  rows integer not null check (rows >= 0)
) strict;

create table iterations (
  run_id text not null references runs(id),
  iteration integer not null,
  stage text not null {_one_of("stage", "run", "dataset", "train", "evaluate", "gate", "done")},
  model text not null, -- what played: seat spec with its adapter
  episodes_run_id text references runs(id), -- the run whose episodes were used
  dataset_id text references datasets(id),
  adapter text, -- folder of the trained adapter
  adapter_hash text,
  gates text
    check (gates is null or json_valid(gates)), -- JSON; value and limit of each gate
  accepted integer check (accepted in (0, 1)), -- 0: the model before was kept
  started_at {_NOW},
  finished_at text,
  primary key (run_id, iteration)
) strict, without rowid;

create table evaluations (
  id text primary key not null,
  run_id text references runs(id),
  iteration integer,
  created_at {_NOW},
  task text not null,
  split text not null,
  model text not null,
  baseline text, -- the model of the paired test
  config_hash text not null,
  status text not null default 'running'
    {_one_of("status", "running", "ok", "failed", "aborted")},
  metrics text
    check (metrics is null or json_valid(metrics)) -- JSON; each value with n and interval
) strict;
create index evaluations_task on evaluations(task, split, model);

create table evaluation_items (
  evaluation_id text not null references evaluations(id) on delete cascade,
  item_hash text not null, -- of the item's content
  patient_id text, -- cluster of the interval; null for question sets
  expected text not null,
  predicted text, -- null when it could not be read
  outcome text not null
    {_one_of("outcome", "correct", "wrong", "unparsable", "failed", "truncated")},
  answer text not null default '', -- raw text
  latency_ms real,
  primary key (evaluation_id, item_hash)
) strict, without rowid;
create index evaluation_items_outcome on evaluation_items(evaluation_id, outcome);
"""

_INSTRUMENTS = f"""
create table flags (
  {_EPISODE},
  place text not null {_one_of("place", "turn", "diagnosis", "treatment", "medication")},
  idx integer not null, -- of the turn or diagnosis; attempt of the plan
  n integer not null, -- number of the finding there, from 0
  screen text not null {_one_of("screen", "crisis", "reply")}, -- of the patient, of the therapist
  kind text not null, -- passive_ideation ... harm_to_others; gives_method, validates_delusion, ...
  qualifier text -- why it does not count; null when it does
    check (qualifier is null or qualifier in
      ('negated', 'past', 'third_person', 'idiom', 'fiction')),
  rule text not null, -- its id in data/crisis.json or data/replies.json
  span text not null, -- the words it matched
  primary key (episode_id, place, idx, n)
) strict, without rowid;
create index flags_kind on flags(kind, qualifier);

create table diagnosis_codes (
  episode_id text not null,
  idx integer not null, -- of the diagnosis
  n integer not null, -- in the order in which the answer names them; 0 is diagnoses.code
  code text not null, -- ICD-10-CM
  primary key (episode_id, idx, n),
  foreign key (episode_id, idx) references diagnoses on delete cascade
) strict, without rowid;

create table judgments (
  {_EPISODE},
  place text not null {_one_of("place", "diagnosis", "treatment", "medication")},
  attempt integer not null, -- of the plan; 0 for the diagnoses
  seat text not null {_one_of("seat", "judge", "patient")},
  spec text not null, -- who was asked
  variant text not null, -- plain, flattery, agreement, pleased, misfit; as_told, swapped
  sample integer not null,
  value integer, -- score, health or number of the diagnosis (from 0); null when unreadable or none
  reason text not null default '',
  {_CALL},
  primary key (episode_id, place, attempt, seat, spec, variant, sample)
) strict, without rowid;

create table fidelity (
  {_EPISODE},
  idx integer not null, -- a patient's turn
  clauses integer not null check (clauses > 0), -- in the record, closed lists left out
  estimated text not null check (json_valid(estimated)), -- JSON list; clauses a sentence is near to
  threshold real not null, -- the cosine, less the common part, that is near enough
  persona real, -- share of other patients to whose record the turn is as near; null: no others
  contradicted text not null default '[]'
    check (json_valid(contradicted)), -- JSON; sentence, clause, cosine: to be read, not counted
  words integer not null check (words >= 0),
  encoder_hash text not null,
  primary key (episode_id, idx)
) strict, without rowid;
"""


_EVALUATIONS: Final = f"""
drop table evaluation_items;
drop table evaluations;

create table evaluations (
  id text primary key not null, -- hash of config_hash and items_hash: the same command goes on
  created_at {_NOW},
  finished_at text,
  task text not null, -- a question set, or arena
  split text not null {_one_of("split", "dev", "test")},
  model text not null, -- constant, majority, chance, or the spec of a model or seat
  scoring text not null {_one_of("scoring", "baseline", "generation", "likelihood", "arena")},
  run_id text references runs(id), -- arena: the episodes that were played for it
  iteration integer, -- of the self-play loop
  config text not null check (json_valid(config)), -- JSON; how it is asked; no key or secret
  config_hash text not null, -- equal for equal ways of asking, whatever the items
  items_hash text not null, -- equal for equal items: only such evaluations are compared
  source text not null check (json_valid(source)), -- JSON; file and SHA-256, or hub and revision
  status text not null default 'running' {_one_of("status", "running", "ok", "incomplete")},
  metrics text
    check (metrics is null or json_valid(metrics)) -- JSON; each value with n and interval
) strict;
create index evaluations_task on evaluations(task, split, model);
create index evaluations_config on evaluations(config_hash);

create table evaluation_items (
  evaluation_id text not null references evaluations(id) on delete cascade,
  item_hash text not null, -- of the item's content
  rotation integer not null, -- places by which the options were turned
  copies integer not null check (copies >= 1), -- how often the set holds the item
  cluster text not null, -- what repeats of a question share
  prompt text not null, -- as it was sent; empty for baselines
  labels text not null check (json_valid(labels)), -- JSON list
  options text not null check (json_valid(options)), -- JSON list, in the order shown
  gold text not null, -- label of the right option
  answer text not null default '', -- raw text
  scores text check (scores is null or json_valid(scores)), -- JSON; log-likelihood by label
  predicted text, -- label that was read; null when none was
  outcome text not null
    {_one_of("outcome", "right", "wrong", "unparsable", "refused", "failed")},
  failure text, -- why there is no answer
  truncated integer not null default 0 check (truncated in (0, 1)),
  resolved_model text not null default '', -- the name the server answered with
  prompt_tokens integer,
  completion_tokens integer,
  latency_ms real,
  attempts integer not null default 1, -- requests made, retries included
  created_at {_NOW},
  primary key (evaluation_id, item_hash, rotation)
) strict, without rowid;
create index evaluation_items_outcome on evaluation_items(evaluation_id, outcome);
create index evaluation_items_item on evaluation_items(item_hash);
"""


ADDED: Final = {
    "deviations": {
        "score": "what is held against the limits, 0 to 1",
        "clause": "of the record, from 0, that the verdict is about",
        "features": "JSON; what the score was made of",
        "judge_score": "rating by a model on the judge's seat, 0 to 1",
        "judge_reason": "its words; no seat reads them",
    }
}
"""Notes of columns that were added later: SQLite takes no comment with them."""


@migrations()
def m001_tables(db: Database) -> None:
    """Every table of the first release, with full-text search on turns."""
    for part in (_RUNS, _DIALOGUE, _DECODER, _PLANS, _TOTALS, _TRAINING):
        db.executescript(part)


@migrations()
def m002_views(db: Database) -> None:
    """The views that people and the training package read."""
    for part in (SUMMARY, TOTALS, TRAINING):
        db.executescript(part)


@migrations()
def m003_evaluations(db: Database) -> None:
    """Evaluations as they are made: by how, by what, and item by item.

    The tables of the first release were never written to: they had no room for an item's prompt,
    for what was shown, or for refusals, so they make way.
    """
    db.executescript(_EVALUATIONS)


@migrations()
def m004_instruments(db: Database) -> None:
    """Findings of the safety rules, and how far a patient kept to its record."""
    for part in (_INSTRUMENTS, EXCLUSIONS):
        db.executescript(part)


@migrations()
def m005_decoder_scores(db: Database) -> None:
    """What a verdict rests on: score, clause and figures; a judge's opinion beside them.

    ``rank_limit`` stays for what was stored with it; the rank is one of the figures now.
    """
    for column in (
        "score real",
        "clause integer",
        "features text check (features is null or json_valid(features))",
        "judge_score real",
        "judge_reason text not null default ''",
    ):
        db.execute(f"alter table deviations add column {column}")


_LOOP = f"""
drop table iterations;

create table iterations (
  run_id text not null references runs(id), -- the loop
  iteration integer not null check (iteration >= 1),
  stage text not null
    {_one_of("stage", "play", "dataset", "train", "serve", "evaluate", "gate", "done")},
  model text not null, -- what played, and stays when a gate closes: seat spec
  episodes_run_ids text -- JSON list; runs that were played
    check (episodes_run_ids is null or json_valid(episodes_run_ids)),
  dataset_id text references datasets(id),
  adapter text, -- folder of the trained adapter
  adapter_hash text,
  candidate text, -- the trained model: seat spec
  evaluation_id text references evaluations(id), -- of the candidate, on dev patients
  baseline_id text references evaluations(id), -- of the model that played, on the same
  measures text check (measures is null or json_valid(measures)), -- JSON; what the gates look at
  gates text
    check (gates is null or json_valid(gates)), -- JSON; value, limits and state of each gate
  decision text {_one_of("decision", "promote", "keep", "stop")},
  reason text not null default '', -- of the decision
  accepted integer check (accepted in (0, 1)), -- 0: the model before was kept
  started_at {_NOW},
  finished_at text,
  primary key (run_id, iteration)
) strict, without rowid;

create table iteration_stages (
  run_id text not null,
  iteration integer not null,
  stage text not null
    {_one_of("stage", "play", "dataset", "train", "serve", "evaluate", "gate", "probe")},
  starts integer not null default 1, -- how often it was begun: one more than it was killed
  started_at text not null, -- the first time
  finished_at text, -- null until it is done; then it is never done again
  seconds real, -- of the last time
  facts text check (facts is null or json_valid(facts)), -- JSON; what it made, with hashes
  primary key (run_id, iteration, stage),
  foreign key (run_id, iteration) references iterations(run_id, iteration)
) strict, without rowid;

create table dataset_rows (
  dataset_id text not null references datasets(id) on delete cascade,
  row_id text not null, -- as in the file
  split text not null {_one_of("split", "train", "dev")},
  task text not null,
  episode_id text references episodes(id), -- null for a row that comes from a file
  idx integer not null, -- turn, round or attempt in the episode
  primary key (dataset_id, row_id)
) strict, without rowid;
create index dataset_rows_episode on dataset_rows(episode_id);
"""


@migrations()
def m006_selfplay(db: Database) -> None:
    """The self-play loop as it is run: stages with markers, decisions, and rows by episode.

    The table ``iterations`` of the first release was never written to, so it makes way.
    """
    db.executescript(_LOOP)
    db.executescript(LINEAGE)


@migrations()
def m007_measures(db: Database) -> None:
    """What an evaluation in the arena counts; a formulation that states nothing is readable.

    Such an answer was stored as one that cannot be read, and is renamed: no comparison mixes both.
    """
    db.execute(
        "update calls set failure = 'empty: no component was stated'"
        " where failure = 'parse: no component was stated'"
    )
    db.execute("drop view if exists arena_measures")
    db.executescript(MEASURES)


def names() -> list[str]:
    """Names of every migration of this version, in order."""
    with Database(memory=True) as empty:
        return [migration.name for migration in migrations.pending(empty)]
