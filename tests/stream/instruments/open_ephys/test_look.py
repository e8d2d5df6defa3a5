import threading

import pytest
import zmq
from open_ephys_process import free_ports
from pydantic import ValidationError

from stream.errors import ConfigError
from stream.instruments.open_ephys import broadcaster, look
from stream.instruments.open_ephys.broadcaster import OpenEphysEvents, OpenEphysEventsSettings
from stream.instruments.open_ephys.interface import OpenEphys, OpenEphysSettings


@pytest.fixture
def short_look(monkeypatch):
    monkeypatch.setattr(look, "LOOK_S", 0.5)
    monkeypatch.setattr(broadcaster, "LOOK_S", 0.5)


def _outputs(**settings):
    return OpenEphys(OpenEphysSettings.model_validate(settings)).outputs({})


def _event_outputs(**settings):
    return OpenEphysEvents(OpenEphysEventsSettings.model_validate(settings)).outputs({})


@pytest.mark.parametrize("outputs", [_outputs, _event_outputs])
def test_what_is_no_host_is_refused_in_a_sentence(outputs):
    with pytest.raises(ConfigError, match=r"'tcp://10\.0\.0\.3' is no host: write a name"):
        outputs(host="tcp://10.0.0.3")


def test_what_is_sent_is_learned_before_the_start(gui):
    specs = _outputs(port=gui.port)
    assert list(specs) == ["", "ttl", "samples"]
    spikes, samples, ttl = specs[""], specs["samples"], specs["ttl"]
    assert (spikes.kind, spikes.names) == ("spikes", tuple(f"Electrode {u + 1}" for u in range(6)))
    assert (samples.kind, samples.shape, samples.unit) == ("samples", (None, 4), "uV")
    assert samples.names == ("CH1", "CH2", "CH3", "CH4")
    assert samples.meta["rate_hz"] == 30_000
    assert (ttl.kind, ttl.names[:2]) == ("trigger", ("line 1 up", "line 1 down"))


def test_units_that_are_listed_are_taken_in_that_order_without_waiting_for_their_spikes(gui):
    units = ("Electrode 5", "Electrode 1", "never fires")
    assert _outputs(port=gui.port, units=units)[""].names == units
    for wrong in (("a", "a"), ()):
        with pytest.raises(ValidationError, match=r"once|at least 1"):
            OpenEphysSettings(units=wrong)


def test_another_stream_is_refused_and_the_one_that_is_there_is_named(gui, short_look):
    with pytest.raises(ConfigError, match=r"sends 'Probe-A', not 'Probe-B'; choose the stream"):
        _outputs(port=gui.port, stream="Probe-B")
    with pytest.raises(ConfigError, match=r"there is 'Probe-A', not 'Probe-B'"):
        _event_outputs(port=gui.port + 4, stream="Probe-B")


def test_nothing_at_a_port_is_said(short_look):
    port = free_ports(4)
    with pytest.raises(
        ConfigError, match=rf"nothing answers at tcp://127.0.0.1:{port}; start Open"
    ):
        _outputs(port=port)
    with pytest.raises(ConfigError, match="nothing answers"):
        _event_outputs(port=port)


def test_the_control_port_is_recognised(gui, short_look):
    with pytest.raises(ConfigError, match="publishes nothing; write the data port"):
        _outputs(port=gui.port + 1)
    with pytest.raises(ConfigError, match="may be the listening port of a ZMQ Interface"):
        _event_outputs(port=gui.port + 1)


def test_one_plugin_taken_for_the_other_is_told_apart(gui, short_look):
    with pytest.raises(ConfigError, match=r"is an Event Broadcaster; write use: openephys.events"):
        _outputs(port=gui.port + 4)
    with pytest.raises(ConfigError, match=r"is a ZMQ Interface; write use: openephys\."):
        _event_outputs(port=gui.port)


def test_a_plugin_that_moved_on_because_its_port_was_taken_is_found(double, monkeypatch):
    port = free_ports(4)
    with zmq.Context() as context, context.socket(zmq.PUB) as taken:
        taken.bind(f"tcp://127.0.0.1:{port}")
        moved = double(port=port, sorted=True)
        assert moved.port == port + 2
        with monkeypatch.context() as patch:
            patch.setattr(look, "LOOK_S", 0.5)
            with pytest.raises(ConfigError, match=rf"is taken: write port: {port + 2}"):
                _outputs(port=port)
        # Its electrodes have two sorted units each.
        names = _outputs(port=moved.port, sorted=True)[""].names
        assert names == tuple(f"Electrode {e}:{i}" for e in (1, 2, 3) for i in (1, 2))


def test_a_gui_that_does_not_acquire_is_said(short_look):
    with zmq.Context() as context, context.socket(zmq.PUB) as silent:
        port = silent.bind_to_random_port("tcp://127.0.0.1")
        with pytest.raises(ConfigError, match=r"answers, but nothing came in .*start the acquisit"):
            _outputs(port=port)
        with pytest.raises(ConfigError, match="answers, but no spike and no TTL edge came"):
            _event_outputs(port=port)


def test_what_is_no_plugin_at_all_is_said(short_look):
    with zmq.Context() as context, context.socket(zmq.PUB) as alien:
        port = alien.bind_to_random_port("tcp://127.0.0.1")
        done = threading.Event()

        def talk():
            while not done.wait(0.02):
                alien.send_multipart([b"weather", b"rain"])

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            with pytest.raises(ConfigError, match="no ZMQ Interface: a message of 2 frames began"):
                _outputs(port=port)
            with pytest.raises(ConfigError, match="is no Event Broadcaster"):
                _event_outputs(port=port)
        finally:
            done.set()
            thread.join()


def test_without_continuous_channels_the_rate_must_be_said(gui, short_look):
    gui.do("channels 0")
    with pytest.raises(ConfigError, match="no continuous channel is sent, and so no rate"):
        _outputs(port=gui.port)
    specs = _outputs(port=gui.port, rate="30 kHz")
    gui.do("channels 4")
    assert "samples" not in specs
    assert specs[""].meta["rate_hz"] == 30_000


def test_a_rate_that_is_not_that_of_the_stream_is_refused(gui, short_look):
    with pytest.raises(ConfigError, match="the stream has 30000 Hz"):
        _outputs(port=gui.port, rate="20 kHz")


def test_raw_events_need_a_rate(raw_gui, short_look):
    port = raw_gui
    with pytest.raises(ConfigError, match="the raw format does not say the rate"):
        _event_outputs(port=port)
    specs = _event_outputs(port=port, rate="30 kHz")
    assert set(specs[""].names) <= {f"Electrode {u + 1}" for u in range(6)}
    assert specs[""].meta["stream"] == "1"
