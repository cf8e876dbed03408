"""The SQL views: what people ask of the store, and what the training package reads.

Why: a question that is asked twice is answered in one place, the same for the terminal, the viewer
and a notebook. They belong to a migration (:mod:`mentalarena.migrations`): once released, a view is
changed by a new migration that drops and creates it.
"""

from typing import Final

SUMMARY: Final = """
create view episode_summary as
select
  e.id as episode_id, e.run_id, e.case_id, c.patient_id, c.split, c.presentation, c.style,
  e.iteration, e.sample, e.guidance, e.status, e.self_judged, e.crisis,
  (select count(*) from decisions d where d.episode_id = e.id) as rounds,
  (select decision from decisions d where d.episode_id = e.id order by round limit 1)
    as first_decision,
  (select decision from decisions d where d.episode_id = e.id order by round desc limit 1)
    as last_decision,
  (select count(*) from deviations v where v.episode_id = e.id and v.verdict = 'aligned'
    and v.round = (select max(round) from deviations w where w.episode_id = e.id))
    as aligned_components,
  (select count(component) from decisions d where d.episode_id = e.id) as reroutes,
  (select code from diagnoses x where x.episode_id = e.id and chosen order by idx limit 1)
    as diagnosis_code,
  (select name from plans p where p.episode_id = e.id and p.kind = 'treatment'
    order by chosen desc, score desc, attempt limit 1) as treatment,
  (select score from plans p where p.episode_id = e.id and p.kind = 'treatment'
    order by chosen desc, score desc, attempt limit 1) as treatment_score,
  (select name from plans p where p.episode_id = e.id and p.kind = 'medication'
    order by chosen desc, score desc, attempt limit 1) as medication,
  (select score from plans p where p.episode_id = e.id and p.kind = 'medication'
    order by chosen desc, score desc, attempt limit 1) as medication_score,
  (select count(*) from turns t where t.episode_id = e.id) as turns,
  (select count(*) from calls k where k.episode_id = e.id) as calls,
  coalesce(
    (select sum(coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0))
      from seat_costs s where s.episode_id = e.id),
    (select sum(coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0))
      from calls k where k.episode_id = e.id),
    0) as tokens,
  e.started_at, e.finished_at
from episodes e
join cases c on c.id = e.case_id;
"""

VERDICTS: Final = """
select e.run_id, e.guidance, v.component, v.verdict, v.episode_id, count(*) as n,
  sum(v.round = (select min(round) from deviations x where x.episode_id = v.episode_id)) as first_n,
  sum(v.round = (select max(round) from deviations x where x.episode_id = v.episode_id)) as last_n
from episodes e join deviations v on v.episode_id = e.id where e.id = {episode}
"""
"""The rows of ``verdict_counts`` for one episode, the key of which is put in, before grouping."""

COSTS: Final = """
select k.episode_id, k.seat, k.model, count(*) as calls,
  sum(k.failure is not null) as failures, sum(k.attempts) as requests,
  sum(k.prompt_tokens) as prompt_tokens, sum(k.completion_tokens) as completion_tokens,
  sum(k.cost) as cost, sum(k.latency_ms) as latency_ms
from calls k where k.episode_id = {episode} group by k.episode_id, k.seat, k.model
"""
"""The rows of ``seat_costs`` for one episode."""

# Both add up what was counted when an episode ended, and read the rows of those only that are
# going on or were changed since: hundreds of thousands of rows are too many to read for an answer.
TOTALS: Final = """
create view bias_by_component as
with judged as (
  select run_id, guidance, component, verdict,
    sum(n) as n, sum(first_n) as first_n, sum(last_n) as last_n
  from verdict_counts group by run_id, guidance, component, verdict
  union all
  select e.run_id, e.guidance, v.component, v.verdict, 1,
    v.round = (select min(round) from deviations x where x.episode_id = e.id),
    v.round = (select max(round) from deviations x where x.episode_id = e.id)
  from episodes e cross join deviations v on v.episode_id = e.id
  where e.status = 'ok' and not exists (select 1 from verdict_counts x where x.episode_id = e.id)
)
select run_id, guidance, component, verdict,
  sum(n) as n,
  1.0 * sum(n) / sum(sum(n)) over all_verdicts as share,
  sum(first_n) as first_n,
  1.0 * sum(first_n) / sum(sum(first_n)) over all_verdicts as first_share,
  sum(last_n) as last_n,
  1.0 * sum(last_n) / sum(sum(last_n)) over all_verdicts as last_share
from judged
group by run_id, guidance, component, verdict
window all_verdicts as (partition by run_id, guidance, component);

create view cost_by_seat as
with paid as (
  select e.run_id, s.seat, s.model, s.calls, s.failures, s.requests, s.prompt_tokens,
    s.completion_tokens, s.cost, s.latency_ms
  from episodes e cross join seat_costs s on s.episode_id = e.id
  union all
  select e.run_id, k.seat, k.model, 1, k.failure is not null, k.attempts, k.prompt_tokens,
    k.completion_tokens, k.cost, k.latency_ms
  from episodes e cross join calls k on k.episode_id = e.id
  where not exists (select 1 from seat_costs x where x.episode_id = e.id)
)
select run_id, seat, model, sum(calls) as calls, sum(failures) as failures,
  sum(requests) as requests, sum(prompt_tokens) as prompt_tokens,
  sum(completion_tokens) as completion_tokens, sum(cost) as cost,
  sum(latency_ms) / sum(calls) as mean_latency_ms
from paid
group by run_id, seat, model;
"""

_PLAYED: Final = """
with played as (
  select e.id, e.run_id, e.case_id, c.patient_id, c.split, e.crisis, e.self_judged, e.guidance,
    e.status
  from episodes e join cases c on c.id = e.case_id
)
"""

# Every arm joins for itself: SQLite then hands the first rows out at once, and looks only at the
# episode or run that is asked for. A join around the union would have it made whole before.
# Targets hold what the seat itself said or stated: no join to cases.record, injections, guidance
# or the judge's remarks anywhere below.
TRAINING: Final = f"""
create view sft_candidates as {_PLAYED}
select e.id as episode_id, e.run_id, e.case_id, e.patient_id, e.split,
  t.speaker || '_turn' as task, t.idx, t.text as target, null as score, null as code, t.role_flip,
  max(e.crisis, t.crisis is not null) as crisis, e.self_judged, e.guidance, e.status
from played e join turns t on t.episode_id = e.id
union all
select e.id, e.run_id, e.case_id, e.patient_id, e.split, 'formulation', last.round,
  (select json_group_object(component, json_object('statement', statement, 'quotes', json(quotes)))
    from (select component, statement, quotes from formulations f
      where f.episode_id = e.id and f.round = last.round order by component)),
  (select avg(verdict = 'aligned') from formulations f
    left join deviations v using (episode_id, round, component)
    where f.episode_id = e.id and f.round = last.round),
  null, 0, e.crisis, e.self_judged, e.guidance, e.status
from played e join (
  select x.id, (select max(round) from formulations f where f.episode_id = x.id) as round
  from episodes x
) last on last.id = e.id
where last.round is not null
union all
select e.id, e.run_id, e.case_id, e.patient_id, e.split, 'diagnosis', d.idx,
  json_object('label', d.label, 'code', d.code, 'rationale', d.rationale), null, d.code, 0,
  e.crisis, e.self_judged, e.guidance, e.status
from played e join diagnoses d on d.episode_id = e.id
where d.chosen
union all
select e.id, e.run_id, e.case_id, e.patient_id, e.split, p.kind, p.attempt,
  json_object('name', p.name, 'rationale', p.rationale), p.score, null, 0,
  e.crisis, e.self_judged, e.guidance, e.status
from played e join plans p on p.episode_id = e.id
where p.chosen;

create view preference_pairs as {_PLAYED}
select e.id as episode_id, e.run_id, e.case_id, e.patient_id, e.split,
  better.kind as task, null as component, better.attempt as chosen_idx,
  worse.attempt as rejected_idx,
  json_object('name', better.name, 'rationale', better.rationale) as chosen,
  json_object('name', worse.name, 'rationale', worse.rationale) as rejected,
  better.score - worse.score as margin,
  e.crisis, e.self_judged, e.guidance, e.status
from played e
join plans better on better.episode_id = e.id
join plans worse on worse.episode_id = e.id and worse.kind = better.kind
  and better.score > worse.score
union all
select e.id, e.run_id, e.case_id, e.patient_id, e.split, 'formulation', bent.component,
  mended.round, bent.round, now.statement, before.statement, mended.similarity - bent.similarity,
  e.crisis, e.self_judged, e.guidance, e.status
from played e
join deviations bent on bent.episode_id = e.id
  and (bent.verdict = 'distorted' or bent.verdict = 'unsupported')
join deviations mended on mended.episode_id = e.id and mended.component = bent.component
  and mended.verdict = 'aligned'
  -- the next one that says something of it: between them it was unclear, or not stated
  and mended.round = (select min(round) from deviations v
    where v.episode_id = e.id and v.component = bent.component and v.round > bent.round
    and (v.verdict = 'aligned' or v.verdict = 'distorted' or v.verdict = 'unsupported'))
join formulations before on before.episode_id = e.id and before.round = bent.round
  and before.component = bent.component
join formulations now on now.episode_id = e.id and now.round = mended.round
  and now.component = bent.component and now.statement <> before.statement
union all
select e.id, e.run_id, e.case_id, e.patient_id, e.split, 'diagnosis', null, yes.idx, no.idx,
  json_object('label', yes.label, 'code', yes.code, 'rationale', yes.rationale),
  json_object('label', no.label, 'code', no.code, 'rationale', no.rationale), null,
  e.crisis, e.self_judged, e.guidance, e.status
from played e
join diagnoses yes on yes.episode_id = e.id
join diagnoses no on no.episode_id = e.id
where yes.chosen and not no.chosen and yes.status = 'mapped' and yes.code is not no.code;
"""

# What an evaluation in the arena counts, one row an episode. A share that cannot be taken is null,
# so that an average leaves it out: alignment, say, where the first formulation was unreadable.
MEASURES: Final = """
create view arena_measures as
with played as (
  select e.*, c.patient_id, c.split, c.presentation,
    json_extract(c.record, '$.reference[0].code') as reference_code,
    -- the first answer could be read, whether it stated something or nothing; one that was never
    -- given is neither
    case
      when exists (select 1 from calls k where k.episode_id = e.id and k.attempt = e.attempts
        and k.node = 'formulate' and k.visit = 0 and k.reask = 0
        and k.failure is not null and k.failure not like 'empty: %') then 0
      when exists (select 1 from formulations f where f.episode_id = e.id and f.round = 0) then 1
    end as valid,
    (select code from diagnoses d where d.episode_id = e.id and d.chosen) as code
  from episodes e join cases c on c.id = e.case_id
)
select p.id as episode_id, p.run_id, p.case_id, p.patient_id, p.split, p.presentation, p.sample,
  p.seed, p.status, p.self_judged,
  p.valid as valid_format,
  case when p.valid then exists (select 1 from formulations f
    where f.episode_id = p.id and f.round = 0 and f.statement <> '') end as stated_at_0,
  case when p.valid then
    (select decision = 'aligned' from decisions d where d.episode_id = p.id and d.round = 0)
  end as aligned_at_0,
  case when p.valid then
    (select avg(verdict = 'aligned') from deviations v where v.episode_id = p.id and v.round = 0)
  end as components_at_0,
  case when p.valid then
    (select avg(verdict in ('distorted', 'unsupported')) from deviations v
      where v.episode_id = p.id and v.round = 0)
  end as biases_at_0,
  case when p.valid then
    (select avg((verdict = 'aligned') - (verdict in ('distorted', 'unsupported')))
      from deviations v where v.episode_id = p.id and v.round = 0)
  end as understanding_at_0,
  (select max(decision = 'aligned') from decisions d where d.episode_id = p.id) as aligned,
  (select min(round) from decisions d where d.episode_id = p.id and d.decision = 'aligned')
    as rounds_to_alignment,
  case when p.reference_code is not null and p.status = 'ok'
    then coalesce(p.code = p.reference_code, 0) end as diagnosis_exact,
  case when p.reference_code is not null and p.status = 'ok'
    then coalesce(substr(p.code, 1, 3) = substr(p.reference_code, 1, 3), 0)
  end as diagnosis_block,
  (select max(score) from plans x where x.episode_id = p.id and x.kind = 'treatment' and x.chosen)
    as treatment_score,
  (select max(score) from plans x where x.episode_id = p.id and x.kind = 'medication' and x.chosen)
    as medication_score,
  p.crisis,
  (select max(role_flip) from turns t where t.episode_id = p.id and t.speaker = 'therapist')
    as therapist_flips,
  (select max(role_flip) from turns t where t.episode_id = p.id and t.speaker = 'patient')
    as patient_flips
from played p;
"""

EXCLUSIONS: Final = """
create view exclusions as
select e.run_id, f.episode_id, 'episode' as place, null as idx,
  'crisis: ' || group_concat(distinct f.kind) as reason
from flags f join episodes e on e.id = f.episode_id
where f.screen = 'crisis' and f.qualifier is null
group by f.episode_id
union all
select e.run_id, f.episode_id, f.place, f.idx, 'reply: ' || group_concat(distinct f.kind)
from flags f join episodes e on e.id = f.episode_id
where f.screen = 'reply' and f.qualifier is null
group by f.episode_id, f.place, f.idx
union all
select e.run_id, t.episode_id, 'turn', t.idx, 'role flip'
from turns t join episodes e on e.id = t.episode_id
where t.role_flip;
"""

LINEAGE: Final = """
create view lineage as
select i.run_id, i.iteration, i.candidate as model, i.adapter_hash, i.accepted, i.dataset_id,
  d.row_id, d.task, d.split, d.episode_id, e.run_id as episode_run_id,
  e.iteration as played_in, e.case_id, t.idx as turn, t.speaker, t.text
from iterations i
join dataset_rows d on d.dataset_id = i.dataset_id
join episodes e on e.id = d.episode_id
join turns t on t.episode_id = d.episode_id
  and (d.task not in ('patient_turn', 'therapist_turn') or t.idx = d.idx)
where i.candidate is not null;
"""
"""From a trained model to what was said: a turn's row comes from that turn, all others from the
whole dialogue."""
