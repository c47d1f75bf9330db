"""Two devices, every topic either can name: neither hears nor speaks for the other."""

import itertools
import uuid

import pytest
from wire import Device

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def filters(own, other):
    """Filters that name everything, the other device, or levels with wildcards in every place."""
    levels = ["devices", other, "messages", "devicebound", "#"]
    for wild in itertools.product([False, True], repeat=4):
        yield "/".join("+" if w else level for w, level in zip(wild, levels)) + "/#"
    for path in ["devices/{}/messages/devicebound/#", "devices/{}/messages/events/#", "devices/{}/#", "devices/{}",
                 "devices/{}/messages/#", "devices/{}/modules/m/#", "devices/{}/modules/+/inputs/#"]:
        for name in (other, own, "+", own + "/../" + other):
            yield path.format(name)
    yield from ["#", "+", "+/#", "/#", "/+", "devices/#", "devices/+", "$iothub/#", "$iothub/twin/#",
                "$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/#",
                "$iothub/methods/POST/#", "$iothub/+/res/#", "$SYS/#", "$dps/#", "$dps/registrations/res/#",
                "$share/g/#", "$share/g/devices/" + other + "/#", "lane/#", "lane/00", "up/#", "down/#"]


def topics(own, other):
    for name in (other, "+", "#", "", other + "/messages/events/../" + own):
        yield from (f"devices/{name}/messages/events/", f"devices/{name}/messages/events",
                    f"devices/{name}/messages/devicebound/x=y", f"devices/{name}/modules/m/messages/events/")
    yield from (f"devices/{own}/modules/m/messages/events/", f"devices/{own}/messages/devicebound/x=y",
                f"/devices/{other}/messages/events/", f"devices//{other}/messages/events/",
                f"devices/{other.upper()}/messages/events/", "devices/messages/events/", "$iothub/twin/res/200/?$rid=1",
                "$iothub/twin/PATCH/properties/desired/?$version=1", "$iothub/methods/POST/reboot/?$rid=1",
                "$dps/registrations/res/200/?$rid=1", "lane/00", "lane/stop", "$SYS/broker", "up/x", "#", "+", "/")


@pytest.fixture
def pair(registry):
    names = [f"iso-{uuid.uuid4()}" for _ in range(2)]
    for name in names:
        registry.create_device_with_sas(name, KEY, KEY, "enabled")
    yield names
    for name in names:
        registry.delete_device(name)


def test_neither_hears_the_other(simulator, pair):
    own, other = pair
    hub = simulator.hub()["address"]
    talker = Device(simulator.ca, hub, other, KEY)
    assert talker.subscribe("#") == 1
    granted = 0
    for topic_filter in dict.fromkeys(filters(own, other)):
        listener = Device(simulator.ca, hub, own, KEY)
        code = listener.subscribe(topic_filter)
        if code is not None:
            granted += code != 0x80
            assert talker.say(f"devices/{other}/messages/events/", "secret"), topic_filter
            talker.socket.sendall(b"")
            assert talker.say("$iothub/twin/GET/?$rid=theirs"), topic_filter
            assert [topic for topic in listener.heard() if "theirs" in topic or other in topic] == [], topic_filter
        listener.close()
    assert granted >= 5, "some filters are the device's own"
    talker.close()


def test_neither_speaks_for_the_other(simulator, pair):
    own, other = pair
    hub = simulator.hub()["address"]
    listener = Device(simulator.ca, hub, other, KEY)
    assert listener.subscribe("#") == 1
    for topic in topics(own, other):
        for qos in (0, 1):
            speaker = Device(simulator.ca, hub, own, KEY)
            assert not speaker.say(topic, "forged", qos), topic
            speaker.close()
    assert listener.heard() == []
    listener.close()
    assert simulator.events(other) == [] and simulator.events(own) == []


def test_neither_signs_for_the_other(simulator, registry, pair):
    own, other = pair
    registry.update_device_with_sas(other, "*", "b3RoZXIta2V5LW90aGVyLWtleS1vdGhlci1rZXkhISE=",
                                    "b3RoZXIta2V5LW90aGVyLWtleS1vdGhlci1rZXkhISE=", "enabled")
    with pytest.raises(AssertionError):
        Device(simulator.ca, simulator.hub()["address"], other, KEY)
