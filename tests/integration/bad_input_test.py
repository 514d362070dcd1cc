"""What a client gets wrong at the API of a real controller: each mistake has its own clear error, names the field, and
leaves nothing behind in the database."""

import contextlib
import subprocess
import uuid

import drover_env
import job_oracles

TAGGING = {"store": "s3", "put_object_tagging": {"tags": [{"key": "a", "value": "b"}]}}


def unknown_field(message, number=999):
    """The message's bytes with a field that its type does not have."""
    tag = number << 3
    return message.SerializeToString() + bytes([tag & 0x7F | 0x80, tag >> 7, 1])


class BadInputTest(job_oracles.JobTestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = drover_env.Env("badinput")
        cls.addClassCleanup(cls.env.close)
        cls.postgres = cls.env.start_postgres()
        # Nothing listens at the store: what is refused is refused without asking it.
        cls.env.write_stores([cls.env.file_store(), cls.env.s3_store(endpoint="http://127.0.0.1:9")])
        cls.secret = f"secret-{uuid.uuid4()}"
        cls.env.start_controllers(1, env={drover_env.SECRET_KEY_ENV: cls.secret}, flags=["--log-level", "debug"])
        cls.pb = drover_env.python_stubs().job_service_pb2
        cls.manifest = cls.env.put_manifest([("bucket", "a")])

    def rows(self):
        """{table: number of rows} of the whole schema."""
        tables = [row[0] for row in self.postgres.sql(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'drover'")]
        self.assertGreater(len(tables), 8)
        union = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM drover.{table}" for table in tables)
        return {table: int(count) for table, count in self.postgres.sql(union)}

    @contextlib.contextmanager
    def refused_and_nothing_done(self, code, reason):
        before = self.rows()
        with self.refused(code, reason) as held:
            yield held
        self.assertEqual(before, self.rows())

    def create(self, operation=None, manifest=None, **fields):
        return self.env.create_job({"no_op": {}} if operation is None else operation,
                                   self.manifest if manifest is None else manifest, **fields)

    def call_raw(self, method, data):
        return self.env.channel().unary_unary(f"/drover.v1.JobService/{method}")(data, timeout=20)

    # ---- fields

    def test_wrong_fields_are_named_each_with_what_is_wrong(self):
        s3_manifest = {"csv": {"location": {"store": "s3", "bucket": "manifests", "key": "k.csv"}, "etag": "e"}}
        no_etag = {"csv": {"location": s3_manifest["csv"]["location"]}}
        with_etag = {"csv": {**self.manifest["csv"], "etag": "x"}}
        location = "job.manifest.csv.location"

        def at(**fields):
            return {"csv": {"location": {**self.manifest["csv"]["location"], **fields}}}

        cases = [
            # (what, path, what the description contains)
            (dict(operation={"store": "nowhere", "put_object_tagging": {}}), "job.operation.store", "nowhere"),
            (dict(operation={"store": "nowhere", "put_object_tagging": {}}), "job.operation.store", "files, s3"),
            (dict(operation={"put_object_tagging": {}}), "job.operation.store", "required"),
            (dict(operation={"store": "files", "put_object_tagging": {}}), "job.operation.store", "kind s3"),
            (dict(operation={}), "job.operation", "required"),
            (dict(operation={"store": "s3", "copy_object": {}}), "job.operation.copy_object", "onto itself"),
            (dict(operation={"store": "s3", "copy_object": {"target_bucket": "No"}}),
             "job.operation.copy_object.target_bucket", "No"),
            (dict(operation={"store": "s3", "copy_object": {"target_store": "files"}}),
             "job.operation.copy_object.target_store", "kind s3"),
            (dict(operation={"store": "s3", "copy_object": {"target_bucket": "bkt", "storage_class": "cold"}}),
             "job.operation.copy_object.storage_class", "A-Z"),
            (dict(operation={"store": "s3", "copy_object": {"target_bucket": "bkt", "new_tags": [{"key": "a"}]}}),
             "job.operation.copy_object.new_tags", "REPLACE"),
            (dict(operation={"store": "s3", "put_object_tagging": {"tags": [{"key": "a"}, {"key": "a"}]}}),
             "job.operation.put_object_tagging.tags[1].key", "twice"),
            (dict(operation={"store": "s3", "put_object_tagging": {"tags": [{"key": "k" * 129}]}}),
             "job.operation.put_object_tagging.tags[0].key", "128"),
            (dict(operation={"store": "s3", "put_object_tagging": {"tags": [{"key": f"{i}"} for i in range(11)]}}),
             "job.operation.put_object_tagging.tags", "at most 10"),
            (dict(operation={"no_op": {"duration": "61s"}}), "job.operation.no_op.duration", "1m"),
            (dict(operation={"no_op": {"failure_fraction": 1.5}}), "job.operation.no_op.failure_fraction", "0 to 1"),
            (dict(manifest={}), "job.manifest", "required"),
            (dict(manifest=at(store="nowhere")), f"{location}.store", "nowhere"),
            (dict(manifest=at(key="")), f"{location}.key", "required"),
            (dict(manifest=at(key="a/../b")), f"{location}.key", "a/../b"),
            (dict(manifest=at(key="/etc/passwd")), f"{location}.key", "/etc/passwd"),
            (dict(manifest=at(bucket="..")), f"{location}.bucket", ".."),
            (dict(manifest=at(key="k" * 1025)), f"{location}.key", "1024"),
            (dict(manifest=no_etag), "job.manifest.csv.etag", "required"),
            (dict(manifest=with_etag), "job.manifest.csv.etag", "files have no ETag"),
            (dict(manifest={"csv": {**self.manifest["csv"], "sha256": "abc"}}), "job.manifest.csv.sha256", "64"),
            (dict(manifest={"csv": {**self.manifest["csv"], "fields": ["MANIFEST_FIELD_KEY"]}}),
             "job.manifest.csv.fields", "MANIFEST_FIELD_BUCKET"),
            (dict(priority=-1), "job.priority", "2147483647"),
            (dict(description="x" * 257), "job.description", "256"),
            (dict(description="a\nb"), "job.description", "control"),
            (dict(report={"store": "nowhere", "bucket": "b"}), "job.report.store", "nowhere"),
            (dict(report={"store": "s3", "bucket": "B"}), "job.report.bucket", "B"),
            (dict(report={"store": "files", "bucket": "b", "prefix": "/x"}), "job.report.prefix", "slash"),
            (dict(failure_policy={"failed_fraction": 0}), "job.failure_policy.failed_fraction", "more than 0"),
            (dict(failure_policy={"minimum_executed": 0}), "job.failure_policy.minimum_executed", "at least 1"),
            (dict(failure_policy={"failed_tasks": -1}), "job.failure_policy.failed_tasks", "0 or more"),
            (dict(failure_policy={"disabled": True, "action": "PAUSE"}), "job.failure_policy.disabled", "no other"),
            (dict(retry_policy={"max_attempts": 21}), "job.retry_policy.max_attempts", "20"),
            (dict(request_id="x" * 65), "request_id", "64"),
            (dict(request_id="ü"), "request_id", "ASCII"),
        ]
        before = self.rows()
        for what, path, text in cases:
            with self.subTest(path, text=text):
                with self.refused("INVALID_ARGUMENT", "INVALID_FIELD") as held:
                    self.create(**what)
                self.assertIn(path, held[0].fields, held[0])
                self.assertIn(text, held[0].fields[path])
        self.assertEqual(before, self.rows())

    def test_all_wrong_fields_are_named_at_once(self):
        with self.refused_and_nothing_done("INVALID_ARGUMENT", "INVALID_FIELD") as held:
            self.create(operation={"store": "nowhere", "put_object_tagging": {}}, manifest={}, priority=-7,
                        description="x" * 300)
        self.assertEqual({"job.operation.store", "job.manifest", "job.priority", "job.description"},
                         set(held[0].fields))

    def test_description_of_256_characters_is_not_too_long(self):
        job = self.create(description="ü" * 256)
        self.assertEqual("ü" * 256, self.env.get_job(job).description)

    def test_what_is_not_carried_out_is_unimplemented_by_its_path(self):
        cases = [
            (dict(operation={"store": "s3", "restore_object": {}}), "job.operation.restore_object"),
            (dict(operation={"store": "s3", "restore_object": {"expiration_days": 1, "tier": "BULK"}}),
             "job.operation.restore_object.expiration_days"),
            (dict(operation={"store": "s3", "copy_object": {"target_bucket": "bkt", "redirect_location": "/x"}}),
             "job.operation.copy_object.redirect_location"),
            (dict(operation={"store": "s3", "copy_object": {"target_bucket": "bkt", "legal_hold": True}}),
             "job.operation.copy_object.legal_hold"),
            (dict(operation={"custom": {"name": "x"}}), "job.operation.custom.name"),
            (dict(manifest={"inventory": {"etag": "e"}}), "job.manifest.inventory.etag"),
            (dict(labels={"a": "b"}), "job.labels"),
            (dict(worker_selector={"a": "b"}), "job.worker_selector"),
            (dict(namespace="n"), "job.namespace"),
            (dict(rate_policy={"max_tasks_per_second": 5}), "job.rate_policy.max_tasks_per_second"),
            (dict(schedule_policy={"start_after": "2030-01-01T00:00:00Z"}), "job.schedule_policy.start_after"),
        ]
        before = self.rows()
        for what, path in cases:
            with self.subTest(path):
                with self.refused("UNIMPLEMENTED", "FIELD_NOT_SUPPORTED") as held:
                    self.create(**what)
                self.assertIn(path, held[0].fields, held[0])
        self.assertEqual(before, self.rows())

    def test_fields_that_only_the_service_sets(self):
        with self.refused_and_nothing_done("INVALID_ARGUMENT", "OUTPUT_ONLY_FIELD") as held:
            self.create(job_id="01a20d97-0000-7000-8000-000000000000", state="COMPLETE")
        self.assertEqual({"job.job_id", "job.state"}, set(held[0].fields))

    # ---- messages

    def test_unknown_parameters_of_an_operation(self):
        request = self.pb.CreateJobRequest(request_id=str(uuid.uuid4()))
        from google.protobuf import json_format

        json_format.ParseDict({"operation": TAGGING, "manifest": self.manifest}, request.job)
        # By hand: the field is put into the innermost message, and the lengths around it grow.
        tagging = request.job.operation.put_object_tagging
        tagging.MergeFromString(unknown_field(tagging))
        with self.refused_and_nothing_done("INVALID_ARGUMENT", "UNKNOWN_FIELD") as held:
            self.call_raw("CreateJob", request.SerializeToString())
        self.assertEqual({"job.operation.put_object_tagging.#999"}, set(held[0].fields))
        self.assertIn("PutObjectTagging", held[0].fields["job.operation.put_object_tagging.#999"])

    def test_unknown_fields_of_each_call(self):
        for method in ("CreateJob", "GetJob", "ListJobs", "UpdateJobPriority", "ConfirmJob", "CancelJob", "PauseJob",
                       "ResumeJob"):
            with self.subTest(method):
                with self.refused_and_nothing_done("INVALID_ARGUMENT", "UNKNOWN_FIELD") as held:
                    self.call_raw(method, unknown_field(getattr(self.pb, f"{method}Request")()))
                self.assertEqual({"#999"}, set(held[0].fields))

    def test_unknown_enum_value(self):
        manifest = {"csv": {**self.manifest["csv"], "fields": ["MANIFEST_FIELD_BUCKET", "MANIFEST_FIELD_KEY", 77]}}
        with self.refused_and_nothing_done("INVALID_ARGUMENT", "UNKNOWN_FIELD") as held:
            self.create(manifest=manifest)
        self.assertEqual({"job.manifest.csv.fields[2]"}, set(held[0].fields))

    def test_message_that_is_too_large(self):
        import grpc

        before = self.rows()
        request = self.pb.CreateJobRequest(request_id="x" * (9 << 20))
        with self.assertRaises(grpc.RpcError) as caught:
            self.env.jobs().CreateJob(request, timeout=20)
        self.assertEqual(grpc.StatusCode.RESOURCE_EXHAUSTED, caught.exception.code())
        self.assertRegex(caught.exception.details(), r"larger than max .*8388608")
        self.assertEqual(before, self.rows())
        # The controller is as well as before.
        self.env.get_job(self.create())

    def test_large_message_below_the_limit_gets_an_error_that_fits(self):
        with self.refused_and_nothing_done("INVALID_ARGUMENT", "INVALID_FIELD") as held:
            self.create(operation={"store": "s3", "put_object_tagging": {
                "tags": [{"key": "k" * 1000, "value": "v" * 1000} for _ in range(3000)]}}, description="d" * 1_000_000)
        self.assertIn("job.description", held[0].fields)

    def test_bytes_that_are_no_message(self):
        import grpc

        before = self.rows()
        with self.assertRaises(grpc.RpcError) as caught:
            self.call_raw("CreateJob", b"\xff\xff\xff\xff\xff")
        # What gRPC's callback API answers for a message that can't be parsed; no handler is asked.
        self.assertEqual(grpc.StatusCode.UNIMPLEMENTED, caught.exception.code())
        self.assertEqual(before, self.rows())
        self.env.get_job(self.create())

    # ---- request ids

    def test_request_id_makes_a_repeated_call_harmless(self):
        request_id = f"again-{uuid.uuid4()}"
        first = self.create(request_id=request_id, description="one")
        before = self.rows()
        again = self.create(request_id=request_id, description="one")
        self.assertEqual(first.job_id, again.job_id)
        self.assertEqual(before, self.rows())

    def test_request_id_used_again_for_another_request(self):
        request_id = f"again-{uuid.uuid4()}"
        first = self.create(request_id=request_id, description="one")
        with self.refused_and_nothing_done("ALREADY_EXISTS", "REQUEST_ID_REUSED") as held:
            self.create(request_id=request_id, description="two")
        self.assertEqual(first.job_id, held[0].metadata["job_id"])

    def test_request_id_is_required(self):
        from google.protobuf import json_format

        request = self.pb.CreateJobRequest()
        json_format.ParseDict({"operation": {"no_op": {}}, "manifest": self.manifest}, request.job)
        with self.refused_and_nothing_done("INVALID_ARGUMENT", "INVALID_FIELD") as held:
            self.env.jobs().CreateJob(request, timeout=20)
        self.assertEqual({"request_id"}, set(held[0].fields))

    def test_validate_only_creates_nothing_and_shows_the_defaults(self):
        from google.protobuf import json_format

        before = self.rows()
        request = self.pb.CreateJobRequest(request_id="only", validate_only=True)
        json_format.ParseDict({"operation": {"no_op": {}}, "manifest": self.manifest}, request.job)
        job = self.env.jobs().CreateJob(request, timeout=20).job
        self.assertEqual(("", 0.5, 5), (job.job_id, job.failure_policy.failed_fraction, job.retry_policy.max_attempts))
        self.assertEqual(before, self.rows())

    # ---- pages

    def test_pages_of_jobs_and_tokens_of_other_queries(self):
        jobs = [self.create(description=f"page {number}").job_id for number in range(7)]
        token, found = "", []
        while True:
            page = self.env.jobs().ListJobs(self.pb.ListJobsRequest(page_size=3, page_token=token), timeout=20)
            self.assertLessEqual(len(page.jobs), 3)
            found += [job.job_id for job in page.jobs]
            token = page.next_page_token
            if not token:
                break
            last_token = token
        self.assertEqual(jobs[::-1], [job for job in found if job in jobs])
        self.assertEqual(len(found), len(set(found)))
        self.assertEqual(len(found), self.rows()["jobs"])

        for name, request, reason in (
                ("other states", dict(page_token=last_token, states=["COMPLETE"]), "PAGE_TOKEN_QUERY"),
                ("damaged", dict(page_token=last_token[:-2] + ("AA" if not last_token.endswith("AA") else "BB")),
                 "PAGE_TOKEN_INVALID"),
                ("made up", dict(page_token="abc"), "PAGE_TOKEN_INVALID")):
            with self.subTest(name), self.refused("INVALID_ARGUMENT", reason):
                self.env.jobs().ListJobs(self.pb.ListJobsRequest(**request), timeout=20)
        fleet = drover_env.python_stubs().fleet_service_pb2
        with self.refused("INVALID_ARGUMENT", "PAGE_TOKEN_QUERY"):
            self.env.fleet().ListWorkers(fleet.ListWorkersRequest(page_token=last_token), timeout=20)

    def test_page_sizes_out_of_range(self):
        for size in (-1, 1001):
            with self.subTest(size), self.refused("INVALID_ARGUMENT", "INVALID_FIELD") as held:
                self.env.jobs().ListJobs(self.pb.ListJobsRequest(page_size=size), timeout=20)
            self.assertIn("1000", held[0].fields["page_size"].replace(",", ""))
        with self.refused("INVALID_ARGUMENT", "UNKNOWN_FIELD") as held:
            self.env.jobs().ListJobs(self.pb.ListJobsRequest(states=["NEW", 99]), timeout=20)
        self.assertEqual({"states[1]"}, set(held[0].fields))

    # ---- jobs

    def test_jobs_that_are_not_there(self):
        for call in (lambda job_id: self.env.get_job(job_id),
                     lambda job_id: list(self.env.jobs().WatchJob(self.pb.WatchJobRequest(job_id=job_id), timeout=20)),
                     lambda job_id: self.env.jobs().UpdateJobPriority(
                         self.pb.UpdateJobPriorityRequest(job_id=job_id, priority=1), timeout=20)):
            with self.refused("NOT_FOUND", "JOB_NOT_FOUND") as held:
                call("01a20d97-0000-7000-8000-000000000000")
            self.assertEqual("01a20d97-0000-7000-8000-000000000000", held[0].metadata["job_id"])
            for job_id in ("", "1", "'; DROP TABLE drover.jobs; --", "01A20D97-0000-7000-8000-000000000000"):
                with self.refused("INVALID_ARGUMENT", "INVALID_FIELD") as held:
                    call(job_id)
                self.assertEqual({"job_id"}, set(held[0].fields))

    # ---- secrets

    def test_no_secret_is_kept_in_the_database_or_shown_in_a_log(self):
        with self.refused("INVALID_ARGUMENT", "INVALID_FIELD"):
            self.create(operation={"store": "nowhere", "put_object_tagging": {}})
        self.create(operation=TAGGING, report={"store": "s3", "bucket": "bkt"})
        dump = subprocess.run(["/usr/lib/postgresql/15/bin/pg_dump", self.postgres.uri], check=True,
                              capture_output=True, text=True).stdout
        self.assertIn("put_object_tagging", dump)
        for text in (dump, self.env.controllers[0].log()):
            self.assertNotIn(self.secret, text)
            self.assertNotIn(self.secret.encode().hex(), text)


if __name__ == "__main__":
    import unittest

    unittest.main()
