"""A worker that says whatever a test wants: a bare client of WorkerService.Work, on Debian's python3-grpcio."""

import queue
import threading
import time

import grpc

import drover_env


class Rogue:
    """One stream. Messages that come are kept in `received`; `status` is the stream's end, once it has ended."""

    def __init__(self, controller):
        self.stubs = drover_env.python_stubs()
        self.pb = self.stubs.worker_service_pb2
        self.received = []
        self.ended = threading.Event()
        self.code = None
        self.details = ""
        self._out = queue.Queue()
        # A channel of its own: its end must not touch other streams. Raw bytes, so that garbage can be sent.
        self._channel = grpc.insecure_channel(controller.address, options=[
            ("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1)])
        call = self._channel.stream_stream("/drover.v1.WorkerService/Work", request_serializer=lambda data: data,
                                           response_deserializer=self.pb.WorkResponse.FromString)
        self._call = call(iter(self._out.get, None), wait_for_ready=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        try:
            for message in self._call:
                self.received.append(message)
        except grpc.RpcError:
            pass
        self.code = self._call.code()
        self.details = self._call.details()
        self.ended.set()

    def send_bytes(self, data):
        self._out.put(data)

    def send(self, **message):
        """send(status=Status(...)) and the like."""
        self.send_bytes(self.pb.WorkRequest(**message).SerializeToString())

    def half_close(self):
        self._out.put(None)

    def close(self):
        self._call.cancel()
        self._out.put(None)
        self.ended.wait(10)
        self._channel.close()

    def wait_end(self, timeout=20):
        """Waits for the end of the stream; its code."""
        if not self.ended.wait(timeout):
            raise drover_env.Failure(f"the stream still goes on; it has received {self.received[-5:]}")
        return self.code

    def of(self, kind):
        """The messages of that kind so far, e.g. "grant"."""
        return [getattr(message, kind) for message in list(self.received) if message.WhichOneof("message") == kind]

    def wait_for(self, kind, count=1, timeout=20):
        """Waits for `count` messages of that kind; the list of them."""
        def there():
            if len(self.of(kind)) < count and self.ended.is_set():
                raise drover_env.Failure(f"the stream ended with {self.code}: {self.details}")
            return self.of(kind)[count - 1:]

        drover_env.wait_until(f"{count} messages {kind}", there, timeout, interval=0.01)
        return self.of(kind)

    # ---- what a worker says

    def hello(self, like, **fields):
        """A Hello like that of an honest worker (bytes of a Hello), with some fields changed."""
        hello = self.pb.Hello.FromString(like)
        for name in ("session_id", "resume_token", "held_leases", "attachment"):
            hello.ClearField(name)
        hello.name = "rogue"
        hello.attachment = 1
        hello.MergeFrom(self.pb.Hello(**fields))
        return hello

    def attach(self, like, credit=0, **fields):
        """Says Hello and asks for work; returns the Welcome."""
        self.send(hello=self.hello(like, **fields))
        welcome = self.wait_for("welcome")[0]
        self.send(status=self.pb.Status(number=1, credit=credit))
        return welcome

    def keep_alive(self, first_number=2, interval=0.3):
        """Sends a Status now and then, from a thread, until the stream ends; without credit."""
        def send():
            number = first_number
            while not self.ended.is_set():
                self.send(status=self.pb.Status(number=number))
                number += 1
                time.sleep(interval)

        threading.Thread(target=send, daemon=True).start()

    def segment(self, grant, sequence=1, succeeded=(), **fields):
        """A segment of a granted lease; `succeeded`: (first, end) pairs."""
        base = {"lease_id": grant.lease_id, "sequence": sequence, "job_id": grant.job_id, "batch_no": grant.batch_no}
        ranges = [self.pb.TaskRange(first=first, end=end) for first, end in succeeded]
        return self.pb.Segment(**{**base, "succeeded": ranges, **fields})
