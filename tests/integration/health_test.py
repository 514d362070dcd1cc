"""What load balancers and grpcurl ask a controller: health follows the database, and reflection tells every service."""

import time

import drover_env
import job_oracles

SERVICES = ("", "drover.v1.JobService", "drover.v1.FleetService", "drover.v1.WorkerService")
SERVING, NOT_SERVING = 1, 2


def delimited(number, data):
    """A length-delimited field of a protobuf message; short ones only."""
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def fields(data):
    """[(number, value)] of a protobuf message: ints and bytes."""
    found, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(data):
        tag = varint()
        value = varint()
        if tag & 7 == 2:
            at, value = at + value, data[at:at + value]
        found.append((tag >> 3, value))
    return found


class HealthTest(job_oracles.JobTestCase):
    def setUp(self):
        self.env = drover_env.Env("health")
        self.addCleanup(self.env.close)
        self.postgres = self.env.start_postgres()
        self.env.write_stores()

    def check(self, controller, service=""):
        request = delimited(1, service.encode()) if service else b""
        answer = self.env.channel(controller).unary_unary("/grpc.health.v1.Health/Check")(request, timeout=5)
        return dict(fields(answer)).get(1, 0)

    def test_serving_only_while_the_database_answers(self):
        import grpc

        self.env.start_controllers(1)
        controller = self.env.controllers[0]
        self.assertEqual([SERVING] * 4, [self.check(controller, service) for service in SERVICES])
        with self.assertRaises(grpc.RpcError) as caught:
            self.check(controller, "no.such.Service")
        self.assertEqual(grpc.StatusCode.NOT_FOUND, caught.exception.code())

        watch = self.env.channel(controller).unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=60)
        seen = (dict(fields(answer)).get(1, 0) for answer in watch)
        self.assertEqual(SERVING, next(seen))
        self.postgres.kill()
        self.assertEqual(NOT_SERVING, next(seen))
        self.assertEqual([NOT_SERVING] * 4, [self.check(controller, service) for service in SERVICES])
        with self.refused("UNAVAILABLE", "DATABASE_UNAVAILABLE") as held:
            self.env.get_job("01a20d97-0000-7000-8000-000000000000")
        self.assertNotIn(str(self.postgres.directory), held[0].message)  # nothing of the server's inside
        self.postgres.start()
        self.assertEqual(SERVING, next(seen))

        # A database that is there but does not answer is as bad.
        for pid in self.postgres.backends():
            self.postgres.sql(f"SELECT pg_terminate_backend({pid})")
        self.postgres.sql("ALTER ROLE drover NOLOGIN")
        self.assertEqual(NOT_SERVING, next(seen))
        self.postgres.sql("ALTER ROLE drover LOGIN")
        self.assertEqual(SERVING, next(seen))

        # Told to stop, it says so before it goes.
        controller.signal(15)
        self.assertEqual(NOT_SERVING, next(seen))
        self.assertEqual(0, controller.wait())

    def test_controller_that_starts_before_its_database_waits_for_it(self):
        uri = self.postgres.uri
        self.postgres.stop()
        controller = self.env.start_controller(database=uri, wait=False)
        time.sleep(2)
        self.assertTrue(controller.running, controller.log())
        self.assertNotEqual(SERVING, self.env.health(controller))
        self.postgres.start()
        self.env.wait_serving(controller)

    def test_reflection_tells_every_service_and_file(self):
        self.env.start_controllers(1)

        def ask(request):
            call = self.env.channel().stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
            return dict(fields(next(call(iter([request]), timeout=10))))

        listed = ask(delimited(7, b"*"))[6]
        names = {dict(fields(service))[1].decode() for number, service in fields(listed) if number == 1}
        self.assertEqual({*SERVICES[1:], "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}, names)

        from google.protobuf import descriptor_pb2

        drover_env.python_stubs()
        for symbol, name in (("drover.v1.JobService", "drover/v1/job_service.proto"),
                             ("drover.v1.Job", "drover/v1/job.proto"),
                             ("drover.v1.WorkerService", "drover/v1/worker_service.proto")):
            files = [descriptor_pb2.FileDescriptorProto.FromString(value)
                     for number, value in fields(ask(delimited(4, symbol.encode()))[4]) if number == 1]
            self.assertIn(name, [file.name for file in files])


if __name__ == "__main__":
    import unittest

    unittest.main()
