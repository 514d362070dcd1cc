-- The core: jobs, batches, leases, outcomes, sessions, duties, events, reports.
-- least-controller: 0.1.0
--
-- job_id comes first in the key of every big table and in every statement on one, so that the schema can be distributed
-- by it. Big tables (batches, outcome_segments, events) are only ever appended to. Rows that change are few and narrow,
-- and their tables are vacuumed by settings of their own. A task has no row. docs/internals/storage.md tells the rest.

-- What hardly changes of a job: written once, when it is created.
CREATE TABLE drover.jobs (
  job_id uuid PRIMARY KEY,
  namespace text NOT NULL,
  request bytea NOT NULL,
  operation text NOT NULL,
  min_revision integer NOT NULL CHECK (min_revision >= 0),
  stores jsonb NOT NULL,
  worker_stores jsonb NOT NULL,
  creator text NOT NULL,
  manifest_pin text NOT NULL,
  policy_enabled boolean NOT NULL,
  policy_failed_fraction double precision NOT NULL,
  policy_minimum_executed bigint NOT NULL,
  policy_failed_tasks bigint,
  policy_pause boolean NOT NULL,
  report_wanted boolean NOT NULL,
  created_at timestamptz NOT NULL
);
COMMENT ON COLUMN drover.jobs.stores IS 'names of the job''s stores with their fingerprints at creation';

-- What changes of a job: one narrow row, updated by each claim and each group of outcomes. Most updates touch no indexed
-- column and find room in the page (fillfactor), so they leave no index entry behind and are pruned on the way.
CREATE TABLE drover.job_state (
  job_id uuid PRIMARY KEY,
  state smallint NOT NULL,
  previous_state smallint NOT NULL,
  priority integer NOT NULL,
  version bigint NOT NULL,
  prepared boolean NOT NULL DEFAULT false,
  confirmation_required boolean NOT NULL,
  next_batch integer NOT NULL DEFAULT 0,
  batches integer NOT NULL DEFAULT 0,
  tasks bigint NOT NULL DEFAULT 0,
  succeeded bigint NOT NULL DEFAULT 0,
  failed bigint NOT NULL DEFAULT 0,
  unconfirmed bigint NOT NULL DEFAULT 0,
  state_at timestamptz NOT NULL,
  started_at timestamptz,
  ended_at timestamptz,
  active_time interval NOT NULL DEFAULT '0',
  report_state smallint NOT NULL,
  report_settled_at timestamptz,
  report_files integer NOT NULL DEFAULT 0,
  report_files_written integer NOT NULL DEFAULT 0,
  reason_code text NOT NULL DEFAULT '',
  reason_message text NOT NULL DEFAULT '',
  reason_caller text NOT NULL DEFAULT '',
  failures jsonb,
  -- lifecycle::CheckConstraintSql(); a test compares. 0 stands before New.
  CONSTRAINT job_state_legal CHECK (
    (previous_state, state) IN ((0,1), (1,2), (1,10), (2,3), (2,4), (2,8), (2,10), (2,12), (3,4), (3,10), (4,5), (4,7), (4,10), (4,12), (5,6), (5,7), (5,8), (5,10), (5,12), (6,5), (6,7), (6,8), (6,10), (6,12), (7,4), (7,5), (7,10), (7,12), (8,9), (10,11), (12,13))
  ),
  CONSTRAINT job_state_priority CHECK (priority >= 0),
  CONSTRAINT job_state_version CHECK (version >= 1),
  CONSTRAINT job_state_cursor CHECK (next_batch >= 0 AND next_batch <= batches),
  CONSTRAINT job_state_counts CHECK (succeeded >= 0 AND failed >= 0 AND succeeded + failed <= tasks),
  CONSTRAINT job_state_unconfirmed CHECK (unconfirmed >= 0 AND unconfirmed <= tasks - succeeded - failed),
  CONSTRAINT job_state_report CHECK (report_state BETWEEN 0 AND 5 AND report_files_written BETWEEN 0 AND report_files)
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.2,
        autovacuum_vacuum_cost_delay = 0);

-- ListClaimable (each controller, every 100 ms), ListIdleActive, HighestRunningPriority, ListPausable (every second):
-- jobs that may be claimed or may own a lease, highest priority first. Ended jobs are not in it.
CREATE INDEX job_state_live ON drover.job_state (priority DESC, job_id) WHERE state IN (4, 5, 6, 7, 10, 12);
-- ListJobs by states (a person's call), CountJobs (every scrape).
CREATE INDEX job_state_by_state ON drover.job_state (state, job_id);

-- A run of consecutive tasks; never changed. The payload is compressed already, so TOAST must not try again.
CREATE TABLE drover.batches (
  job_id uuid NOT NULL,
  batch_no integer NOT NULL CHECK (batch_no >= 0),
  tasks integer NOT NULL CHECK (tasks BETWEEN 1 AND 4096),
  first_task bigint NOT NULL CHECK (first_task >= 0),
  payload bytea NOT NULL,
  PRIMARY KEY (job_id, batch_no)
);
ALTER TABLE drover.batches ALTER COLUMN payload SET STORAGE EXTERNAL;

-- The right of a session to run tasks of a batch. No owner: it came back, and waits to be claimed again. No foreign key
-- to sessions: a claim would wait for a session's row while it holds job_state (docs/internals/protocol.md).
CREATE TABLE drover.leases (
  job_id uuid NOT NULL,
  lease_id bigint NOT NULL CHECK (lease_id > 0),
  first_task bigint NOT NULL,
  batch_no integer NOT NULL,
  batch_tasks integer NOT NULL,
  task_count integer NOT NULL,
  done integer NOT NULL DEFAULT 0,
  last_seq bigint NOT NULL DEFAULT 0,
  attachment bigint NOT NULL,
  session_id uuid,
  came_back smallint NOT NULL DEFAULT 0,
  maybe_ran boolean NOT NULL DEFAULT false,
  tasks bytea,
  notes bytea,
  PRIMARY KEY (job_id, batch_no, lease_id),
  CONSTRAINT leases_owner CHECK ((session_id IS NULL) = (came_back <> 0) AND came_back BETWEEN 0 AND 2),
  -- A lease ends with its last task: none with nothing left may stay.
  CONSTRAINT leases_count CHECK (done >= 0 AND done < task_count AND task_count <= batch_tasks)
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.2,
        autovacuum_vacuum_cost_delay = 0);
COMMENT ON COLUMN drover.leases.tasks IS 'the tasks it covers, run lengths; null: all of the batch';
COMMENT ON COLUMN drover.leases.maybe_ran IS 'a holder of these tasks was lost: some may have run without a trace';

-- Claim (leases that came back go first), ListClaimable, PurgeEndedLeases.
CREATE INDEX leases_ownerless ON drover.leases (job_id, batch_no, lease_id) WHERE session_id IS NULL;
-- ReturnOlderLeases (each attach), ListOwnedLeases (every few seconds), ListStrandedLeases, ListSessions.
CREATE INDEX leases_by_session ON drover.leases (session_id, attachment) WHERE session_id IS NOT NULL;
-- "does this job own a lease?": ListIdleActive, HighestRunningPriority, ListPausable, a job's end.
CREATE INDEX leases_owned ON drover.leases (job_id) WHERE session_id IS NOT NULL;

-- Outcomes of one lease, recorded together. No payload: all succeeded in the default way.
CREATE TABLE drover.outcome_segments (
  job_id uuid NOT NULL,
  lease_id bigint NOT NULL,
  seq bigint NOT NULL CHECK (seq >= 1),
  batch_no integer NOT NULL,
  succeeded integer NOT NULL CHECK (succeeded >= 0),
  failed integer NOT NULL CHECK (failed >= 0),
  tasks bytea,
  payload bytea,
  PRIMARY KEY (job_id, batch_no, lease_id, seq)
);
ALTER TABLE drover.outcome_segments ALTER COLUMN payload SET STORAGE EXTERNAL;
COMMENT ON COLUMN drover.outcome_segments.tasks IS 'the tasks executed, run lengths; null: all of the batch';

-- ReadSegments(only_failed): failed tasks without reading the rest. Small while few fail.
CREATE INDEX outcome_segments_failed ON drover.outcome_segments (job_id, batch_no) WHERE failed > 0;

-- One life of one worker process. expires_at is compared with this database's clock only, and is in no index, so that
-- renewals are updates within the page; a few thousand rows are read whole by the janitor.
CREATE TABLE drover.sessions (
  session_id uuid PRIMARY KEY,
  attachment bigint NOT NULL CHECK (attachment >= 1),
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  draining boolean NOT NULL,
  token_hash text NOT NULL,
  name text NOT NULL,
  version text NOT NULL,
  controller text NOT NULL,
  hello bytea NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.2,
        autovacuum_vacuum_cost_delay = 0);

-- The right of one controller to do one piece of a job's work. due_at: from when on anybody may take it; while it is
-- held, the end of the holder's time.
CREATE TABLE drover.duties (
  job_id uuid NOT NULL,
  kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 3),
  part integer NOT NULL CHECK (part >= 0),
  tries integer NOT NULL DEFAULT 0,
  epoch bigint NOT NULL DEFAULT 0,
  due_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL,
  woken boolean NOT NULL DEFAULT false,
  owner text,
  progress bytea,
  PRIMARY KEY (job_id, kind, part)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.2,
        autovacuum_vacuum_cost_delay = 0);
COMMENT ON COLUMN drover.duties.woken IS 'something happened while it was held: due at once when it is let go of';

-- AcquireDuties (each controller, several times a second).
CREATE INDEX duties_due ON drover.duties (due_at);

-- Request ids of CreateJob, so that a repeated call finds its job.
CREATE TABLE drover.create_requests (
  namespace text NOT NULL,
  request_id text NOT NULL,
  fingerprint text NOT NULL,
  job_id uuid NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (namespace, request_id)
);

-- What happened to a job, in order: the outbox and the audit record.
CREATE TABLE drover.events (
  job_id uuid NOT NULL,
  version bigint NOT NULL,
  at timestamptz NOT NULL,
  state smallint NOT NULL,
  previous_state smallint,
  priority integer NOT NULL,
  type text NOT NULL,
  reason_code text NOT NULL DEFAULT '',
  reason_message text NOT NULL DEFAULT '',
  caller text NOT NULL DEFAULT '',
  PRIMARY KEY (job_id, version)
);

-- A job's report: planned once (created_at is then set), its files written by duties.
CREATE TABLE drover.reports (
  job_id uuid PRIMARY KEY,
  created_at timestamptz,
  deadline timestamptz,
  manifest_key text NOT NULL DEFAULT '',
  error text NOT NULL DEFAULT '',
  CONSTRAINT reports_planned CHECK ((created_at IS NULL) = (deadline IS NULL))
);

CREATE TABLE drover.report_files (
  job_id uuid NOT NULL,
  part integer NOT NULL CHECK (part >= 0),
  first_batch integer NOT NULL,
  end_batch integer NOT NULL,
  failed_rows boolean NOT NULL,
  written boolean NOT NULL DEFAULT false,
  file_rows bigint NOT NULL DEFAULT 0,
  bytes bigint NOT NULL DEFAULT 0,
  key text NOT NULL,
  upload_id text NOT NULL DEFAULT '',
  md5 text NOT NULL DEFAULT '',
  sha256 text NOT NULL DEFAULT '',
  PRIMARY KEY (job_id, part)
);
