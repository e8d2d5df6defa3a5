from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import zmq
import zmq.auth

from stream.errors import ConfigError
from stream.node import Context, Counters, StreamSpec
from stream.nodes.zmq_tap import ZmqTap, ZmqTapSettings
from stream.packet import Packet, decode

RATES = StreamSpec(kind="rates", shape=(4,), dtype="float32", unit="Hz")
FRAMES = StreamSpec(kind="frame", shape=(512, 512, 3), dtype="uint8")

# What docs/wire-format.md lets a stranger write: it knows ZeroMQ, msgpack and numpy, not us.
STRANGER = """
import sys
import msgpack, numpy, zmq

socket = zmq.Context().socket(zmq.SUB)
socket.rcvtimeo = 20000
socket.subscribe(sys.argv[2])
socket.connect(sys.argv[1])
last = None
while True:
    stream, header, payload = socket.recv_multipart()
    header = msgpack.unpackb(header)
    values = numpy.frombuffer(payload, header["dtype"]).reshape(header["shape"])
    if header["seq"] != last:
        print(stream.decode(), header["kind"], header["seq"], header["t_ns"], header["gap"],
              header["source_ns"], header["source_end_ns"], *values, flush=True)
    last = header["seq"]
    if header["meta"].get("last"):
        break
assert "stream" not in sys.modules
"""


@pytest.fixture
def open_tap(tmp_path):
    opened = []

    def make(inputs=None, **settings):
        settings = {"bind": "tcp://127.0.0.1:*", **settings}
        node = ZmqTap(ZmqTapSettings(**settings))
        inputs = inputs or {"rates": RATES}
        assert node.outputs(inputs) == {}
        node.open(Context("tap", inputs, tmp_path, Counters()))
        opened.append(node)
        return node

    yield make
    for node in opened:
        node.close()


def rates(seq, *, last=False):
    return Packet(
        kind="rates", data=np.arange(4, dtype=np.float32) + seq, t_ns=100 + seq, source_ns=seq * 5,
        source_end_ns=seq * 5 + 5, gap=2, seq=seq, meta={"last": True} if last else {},
    )  # fmt: skip


def subscriber(context, node, topic="", **options):
    socket = context.socket(zmq.SUB)
    for name, value in {"linger": 0, "rcvtimeo": 10_000, **options}.items():
        setattr(socket, name, value)
    socket.subscribe(topic)
    socket.connect(node.address)
    return socket


def receive_first(node, stream, socket):
    """Publish until the subscription has arrived, and return the first packet that came."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        list(node.process(stream, rates(0)))
        if socket.poll(20):
            return decode(socket.recv_multipart())
    raise AssertionError("nothing arrived")


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context


def test_a_client_that_knows_only_zeromq_and_msgpack_reads_it(open_tap):
    node = open_tap()
    client = subprocess.Popen(
        [sys.executable, "-c", STRANGER, node.address, "rates"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while client.poll() is None and time.monotonic() < deadline:
        list(node.process("rates", rates(7, last=True)))
        select_wait(client)
    out, err = client.communicate(timeout=10)
    assert err == ""
    assert out == "rates rates 7 107 2 35 40 7.0 8.0 9.0 10.0\n"


def select_wait(process):
    """Give a process 50 ms to end."""
    try:
        process.wait(0.05)
    except subprocess.TimeoutExpired:
        return


def test_a_subscriber_gets_only_the_stream_that_it_names(open_tap, context):
    node = open_tap({"rates": RATES, "bins": RATES})
    socket = subscriber(context, node, "bins")
    stream, packet = receive_first(node, "bins", socket)
    assert stream == "bins"
    assert packet.data.tolist() == [0, 1, 2, 3]
    while socket.poll(100):
        socket.recv_multipart()
    list(node.process("rates", rates(1)))
    list(node.process("bins", rates(2)))
    stream, packet = decode(socket.recv_multipart())
    assert (stream, packet.seq) == ("bins", 2)


def test_it_serves_over_ipc_and_leaves_no_socket_file(tmp_path, open_tap, context):
    node = open_tap(bind=f"ipc://{tmp_path}/tap")
    _, packet = receive_first(node, "rates", subscriber(context, node))
    assert packet.kind == "rates"
    node.close()
    assert not (tmp_path / "tap").exists()


def test_a_subscriber_that_never_reads_loses_packets_and_slows_nobody(open_tap, context):
    node = open_tap({"cam": FRAMES})
    stalled = subscriber(context, node, rcvhwm=1)
    reader = subscriber(context, node)
    receive_first(node, "cam", stalled)
    receive_first(node, "cam", reader)
    frame = Packet(
        kind="frame", data=np.zeros((512, 512, 3), np.uint8), t_ns=0, source_ns=0, source_end_ns=0
    )
    while reader.poll(100):
        reader.recv_multipart()
    for _ in range(400):
        list(node.process("cam", frame))
        assert decode(reader.recv_multipart())[1].kind == "frame"
    assert node.context.counters.notes["overruns"] >= 1


def test_packets_that_wait_at_the_end_still_go_out(open_tap, context):
    node = open_tap()
    socket = subscriber(context, node)
    receive_first(node, "rates", socket)
    list(node.process("rates", rates(99)))
    node.close()
    seen = []
    while socket.poll(500):
        seen.append(decode(socket.recv_multipart())[1].seq)
    assert seen[-1] == 99


def test_subscribers_learn_that_a_stream_has_ended(open_tap, context):
    node = open_tap()
    socket = subscriber(context, node)
    receive_first(node, "rates", socket)
    list(node.process("rates", rates(41)))
    list(node.finish())
    packets = [decode(socket.recv_multipart())[1]]
    while packets[-1].kind != "end":
        packets.append(decode(socket.recv_multipart())[1])
    assert packets[-1].seq == 42


def test_a_strangers_bytes_do_not_disturb_it(open_tap, context):
    node = open_tap()
    raw = context.socket(zmq.STREAM)
    raw.linger = 0
    raw.connect(node.address)
    raw.send_multipart([raw.getsockopt(zmq.IDENTITY), b"\xff" * 5000])
    shouting = context.socket(zmq.XSUB)
    shouting.linger = 0
    shouting.connect(node.address)
    for _ in range(100):
        shouting.send(b"\x07" + b"x" * 100_000)
    _, packet = receive_first(node, "rates", subscriber(context, node))
    assert packet.seq == 0
    raw.close()
    shouting.close()


@pytest.mark.parametrize(
    "bind", ["tcp://0.0.0.0:5757", "tcp://*:5757", "tcp://eth0:5757", "tcp://[::]:1", "tcp://a:1"]
)
def test_an_address_that_other_hosts_reach_needs_keys(bind):
    with pytest.raises(ConfigError, match="needs CURVE keys"):
        ZmqTap(ZmqTapSettings(bind=bind)).outputs({"rates": RATES})


@pytest.mark.parametrize(
    "bind", ["tcp://127.0.0.1:1", "tcp://127.8.0.1:1", "tcp://localhost:1", "tcp://[::1]:1"]
)
def test_loopback_addresses_need_none(bind):
    assert ZmqTap(ZmqTapSettings(bind=bind)).outputs({"rates": RATES}) == {}


@pytest.mark.parametrize("bind", ["", "127.0.0.1:5757", "udp://127.0.0.1:1", "tcp://h", "ipc://"])
def test_what_is_no_address_is_refused(bind):
    with pytest.raises(ConfigError, match="is no address"):
        ZmqTap(ZmqTapSettings(bind=bind)).outputs({"rates": RATES})


def test_an_address_in_use_is_named(open_tap):
    taken = open_tap().address
    with pytest.raises(ConfigError, match=f"{taken} cannot be used"):
        open_tap(bind=taken)


def keys_for(folder, name):
    zmq.auth.create_certificates(folder, name)
    secret_file = folder / f"{name}.key_secret"
    secret_file.chmod(0o600)
    return secret_file, zmq.auth.load_certificate(secret_file)


def test_with_keys_only_listed_clients_read_it(tmp_path, open_tap, context):
    server_file, (server_public, _) = keys_for(tmp_path, "server")
    _, (public, secret) = keys_for(tmp_path, "friend")
    _, (other_public, other_secret) = keys_for(tmp_path, "stranger")
    allowed = tmp_path / "clients"
    allowed.write_text(f"# the friend\n{public.decode()}\n")
    node = open_tap(curve_secret_key_file=server_file, curve_clients_file=allowed)
    plain = subscriber(context, node)
    stranger = subscriber(
        context, node, curve_serverkey=server_public, curve_publickey=other_public,
        curve_secretkey=other_secret,
    )  # fmt: skip
    friend = subscriber(
        context, node, curve_serverkey=server_public, curve_publickey=public, curve_secretkey=secret
    )
    _, packet = receive_first(node, "rates", friend)
    assert packet.seq == 0
    for _ in range(20):
        list(node.process("rates", rates(1)))
        friend.recv_multipart()
    assert plain.poll(100) == 0
    assert stranger.poll(100) == 0


def test_key_files_that_cannot_be_used_are_refused(tmp_path):
    server_file, (public, _) = keys_for(tmp_path, "server")
    clients = tmp_path / "clients"

    def refuse(message, **settings):
        with pytest.raises(ConfigError, match=message):
            ZmqTap(ZmqTapSettings(bind="tcp://*:1", **settings)).outputs({"rates": RATES})

    both = {"curve_secret_key_file": server_file, "curve_clients_file": clients}
    refuse("belong together", curve_secret_key_file=server_file)
    refuse("cannot be read", **both)
    clients.write_text("# nobody\n")
    refuse("names no client", **both)
    clients.write_text("short\n")
    refuse(":1 is no public key", **both)
    clients.write_bytes(public + b"\n")
    refuse("public key only", **{**both, "curve_secret_key_file": tmp_path / "server.key"})
    server_file.chmod(0o644)
    refuse("chmod 600", **both)
