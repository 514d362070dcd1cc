-- Outcomes to read: failed tasks counted by kind, when a segment was recorded, the counts at a job's last resume.
-- least-controller: 0.1.0
--
-- A controller that does not know these columns and this table may go on beside one that does: what it records has no
-- time and is in no group, and the API shows failed tasks that are in no group as "(other)".

-- Failed tasks of a job by error code and HTTP status: at most 33 narrow rows a job, written by groups of outcomes that
-- have failures, and only while the job's row of job_state is locked; so nobody ever waits for one. The tasks by name are
-- (batch_no * 4096 + index); their keys stand in the batches, and are looked up when somebody asks.
CREATE TABLE drover.failure_groups (
  job_id uuid NOT NULL,
  tasks bigint NOT NULL CHECK (tasks > 0),
  http_status smallint NOT NULL CHECK (http_status BETWEEN -1 AND 999),
  code text NOT NULL,
  examples bigint[] NOT NULL,
  PRIMARY KEY (job_id, http_status, code)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.2,
        autovacuum_vacuum_cost_delay = 0);
COMMENT ON COLUMN drover.failure_groups.http_status IS '-1: the row of all kinds beyond the first 32';

ALTER TABLE drover.outcome_segments ADD COLUMN recorded_at timestamptz;

-- succeeded + failed, and failed, when a person last resumed the job: a policy that pauses counts from there.
ALTER TABLE drover.job_state
  ADD COLUMN resumed_executed bigint NOT NULL DEFAULT 0,
  ADD COLUMN resumed_failed bigint NOT NULL DEFAULT 0,
  ADD CONSTRAINT job_state_resumed CHECK (resumed_failed >= 0 AND resumed_failed <= resumed_executed AND resumed_failed <= failed
    AND resumed_executed <= succeeded + failed);
