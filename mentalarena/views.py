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
  treatment.name as treatment, treatment.score as treatment_score,
  medication.name as medication, medication.score as medication_score,
  (select count(*) from turns t where t.episode_id = e.id) as turns,
  (select count(*) from calls k where k.episode_id = e.id) as calls,
  (select coalesce(sum(prompt_tokens), 0) + coalesce(sum(completion_tokens), 0)
    from calls k where k.episode_id = e.id) as tokens,
  e.started_at, e.finished_at
from episodes e
join cases c on c.id = e.case_id
left join plans treatment on treatment.episode_id = e.id and treatment.kind = 'treatment'
  and treatment.attempt = (select attempt from plans p where p.episode_id = e.id
    and p.kind = 'treatment' order by chosen desc, score desc, attempt limit 1)
left join plans medication on medication.episode_id = e.id and medication.kind = 'medication'
  and medication.attempt = (select attempt from plans p where p.episode_id = e.id
    and p.kind = 'medication' order by chosen desc, score desc, attempt limit 1);

create view bias_by_component as
with judged as (
  select e.run_id, e.guidance, v.component, v.verdict,
    v.round = min(v.round) over (partition by v.episode_id) as is_first,
    v.round = max(v.round) over (partition by v.episode_id) as is_last
  from deviations v join episodes e on e.id = v.episode_id
  where e.status = 'ok'
)
select run_id, guidance, component, verdict,
  count(*) as n,
  1.0 * count(*) / sum(count(*)) over all_verdicts as share,
  sum(is_first) as first_n,
  1.0 * sum(is_first) / sum(sum(is_first)) over all_verdicts as first_share,
  sum(is_last) as last_n,
  1.0 * sum(is_last) / sum(sum(is_last)) over all_verdicts as last_share
from judged
group by run_id, guidance, component, verdict
window all_verdicts as (partition by run_id, guidance, component);

create view cost_by_seat as
select e.run_id, k.seat, k.model, count(*) as calls,
  sum(k.failure is not null) as failures, sum(k.attempts) as requests,
  sum(k.prompt_tokens) as prompt_tokens, sum(k.completion_tokens) as completion_tokens,
  sum(k.cost) as cost, avg(k.latency_ms) as mean_latency_ms
from calls k left join episodes e on e.id = k.episode_id
group by e.run_id, k.seat, k.model;
"""

# Targets hold what the seat itself said or stated: no join to cases.record, injections, guidance
# or the judge's remarks anywhere below.
TRAINING: Final = """
create view sft_candidates as
with material(episode_id, task, idx, target, score, code, role_flip, crisis) as (
  select episode_id, speaker || '_turn', idx, text, null, null, role_flip, crisis is not null
  from turns
  union all
  select episode_id, 'formulation', round,
    json_group_object(component, json_object('statement', statement, 'quotes', json(quotes))),
    avg(aligned), null, 0, 0
  from (
    select f.*, v.verdict = 'aligned' as aligned
    from formulations f left join deviations v using (episode_id, round, component)
    where f.round = (select max(round) from formulations g where g.episode_id = f.episode_id)
    order by f.episode_id, f.component
  )
  group by episode_id, round
  union all
  select episode_id, 'diagnosis', idx,
    json_object('label', label, 'code', code, 'rationale', rationale), null, code, 0, 0
  from diagnoses where chosen
  union all
  select episode_id, kind, attempt,
    json_object('name', name, 'rationale', rationale), score, null, 0, 0
  from plans where chosen
)
select m.episode_id, e.run_id, e.case_id, c.patient_id, c.split, m.task, m.idx, m.target,
  m.score, m.code, m.role_flip, max(e.crisis, m.crisis) as crisis, e.self_judged, e.guidance,
  e.status
from material m
join episodes e on e.id = m.episode_id
join cases c on c.id = e.case_id;

create view preference_pairs as
with stated as (
  select f.episode_id, f.component, f.round, f.statement, v.verdict, v.similarity,
    lag(f.round) over history as round_before,
    lag(f.statement) over history as statement_before,
    lag(v.verdict) over history as verdict_before,
    lag(v.similarity) over history as similarity_before
  from formulations f join deviations v using (episode_id, round, component)
  where v.verdict in ('aligned', 'distorted', 'unsupported')
  window history as (partition by f.episode_id, f.component order by f.round)
),
pairs(episode_id, task, component, chosen_idx, rejected_idx, chosen, rejected, margin) as (
  select better.episode_id, better.kind, null, better.attempt, worse.attempt,
    json_object('name', better.name, 'rationale', better.rationale),
    json_object('name', worse.name, 'rationale', worse.rationale),
    better.score - worse.score
  from plans better join plans worse
    on worse.episode_id = better.episode_id and worse.kind = better.kind
    and better.score > worse.score
  union all
  select episode_id, 'formulation', component, round, round_before, statement, statement_before,
    similarity - similarity_before
  from stated
  where verdict = 'aligned' and verdict_before in ('distorted', 'unsupported')
    and statement <> statement_before
  union all
  select yes.episode_id, 'diagnosis', null, yes.idx, no.idx,
    json_object('label', yes.label, 'code', yes.code, 'rationale', yes.rationale),
    json_object('label', no.label, 'code', no.code, 'rationale', no.rationale), null
  from diagnoses yes join diagnoses no on no.episode_id = yes.episode_id
  where yes.chosen and not no.chosen and yes.status = 'mapped' and yes.code is not no.code
)
select p.episode_id, e.run_id, e.case_id, c.patient_id, c.split, p.task, p.component,
  p.chosen_idx, p.rejected_idx, p.chosen, p.rejected, p.margin,
  e.crisis, e.self_judged, e.guidance, e.status
from pairs p
join episodes e on e.id = p.episode_id
join cases c on c.id = e.case_id;
"""
