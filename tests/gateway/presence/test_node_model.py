"""Gateways with a lossy network between them as a state machine: in the end all of them know who is really here."""

from collections import Counter
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from beaconfire_gateway.presence.own import GRACE_S
from beaconfire_gateway.presence.peers import SILENT_S
from beaconfire_gateway.presence.view import MAX_PAUSE_S, View
from beaconfire_gateway.wire.messages import Person, PresenceChange, Status
from tests.gateway.models import Model, unreached
from tests.gateway.presence.nodes import Cluster

USERS = ("ann", "bob", "cem")
ROOMS = ("campaign:c1", "campaign:c1/settlement:s1")
EVERYTHING = {"joined", "left", "lost", "status", "killed", "started", "stopped", "frozen", "cut off", "dropped"}
SETTLED_S = SILENT_S + GRACE_S + 5


class Presence(Model):
    """Three gateways and more, with faults. `check` heals everything, and waits."""

    reached: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        self.cluster = Cluster(3)
        self.sessions = 0
        self.watchers: dict[str, _Watcher] = {}

    @rule(data=st.data(), user=st.sampled_from(USERS), room=st.sampled_from(ROOMS))
    def join(self, data: Any, user: str, room: str) -> None:
        gateway = self._gateway(data)
        if gateway in self.cluster.frozen:
            return
        known = [one for one, (owner, _, _) in self.cluster.sessions[gateway].items() if owner == user]
        session = data.draw(st.sampled_from([*sorted(known), ""])) or f"s{self.sessions}"
        self.sessions += 1
        self.cluster.join(gateway, session, user, room)
        self.reached["joined"] += 1

    @rule(data=st.data(), room=st.sampled_from(ROOMS))
    @precondition(lambda self: self._has_sessions())
    def leave(self, data: Any, room: str) -> None:
        self.cluster.leave(*self._session(data), room)
        self.reached["left"] += 1

    @rule(data=st.data())
    @precondition(lambda self: self._has_sessions())
    def lose(self, data: Any) -> None:
        self.cluster.lose(*self._session(data))
        self.reached["lost"] += 1

    @rule(data=st.data(), status=st.sampled_from(Status))
    @precondition(lambda self: self._has_sessions())
    def set_status(self, data: Any, status: Status) -> None:
        self.cluster.set_status(*self._session(data), status)
        self.reached["status"] += 1

    @rule(data=st.data())
    @precondition(lambda self: len(self.cluster.nodes) > 1)
    def kill(self, data: Any) -> None:
        self.cluster.kill(self._gateway(data))
        self.reached["killed"] += 1

    @rule(data=st.data())
    @precondition(lambda self: len(self.cluster.nodes) - len(self.cluster.frozen) > 1)
    def stop(self, data: Any) -> None:
        gateway = self._gateway(data)
        if gateway not in self.cluster.frozen:
            self.cluster.stop(gateway)
            self.reached["stopped"] += 1

    @rule()
    @precondition(lambda self: len(self.cluster.nodes) < 5)
    def start(self) -> None:
        self.cluster.start()
        self.reached["started"] += 1

    @rule(data=st.data())
    def freeze_or_thaw(self, data: Any) -> None:
        gateway = self._gateway(data)
        if gateway in self.cluster.frozen:
            self.cluster.thaw(gateway)
        else:
            self.cluster.freeze(gateway)
            self.reached["frozen"] += 1

    @rule(data=st.data())
    def cut_or_mend(self, data: Any) -> None:
        self.cluster.cut_off ^= {self._gateway(data)}
        self.reached["cut off"] += 1

    @rule(data=st.data(), turns=st.integers(1, 12))
    def turn(self, data: Any, turns: int) -> None:
        losing = data.draw(st.sets(st.sampled_from(sorted(self.cluster.nodes))))
        self.reached["dropped"] += bool(losing)
        for _ in range(turns):
            self.cluster.turn(losing=losing)
            self._look()

    @rule(seconds=st.sampled_from([1, 3, 9, 14]))
    def wait(self, seconds: int) -> None:
        for _ in range(seconds * 5):
            self.cluster.turn()
            self._look()

    @rule(room=st.sampled_from(ROOMS), data=st.data())
    def watch(self, room: str, data: Any) -> None:
        gateway = self._gateway(data)
        if f"{gateway} {room}" not in self.watchers:
            self.watchers[f"{gateway} {room}"] = _Watcher(self.cluster, gateway, room)

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        cluster = self.cluster
        cluster.cut_off.clear()
        for gateway in list(cluster.frozen):
            cluster.thaw(gateway)
        for _ in range(round((SETTLED_S + MAX_PAUSE_S) * 5)):
            cluster.turn()
            self._look()

        for gateway in cluster.nodes:
            assert cluster.known(gateway) == cluster.truth()
        for watcher in self.watchers.values():
            if watcher.gateway in cluster.nodes:
                assert watcher.known() == cluster.truth().get(watcher.room, {})

    def _look(self) -> None:
        for watcher in self.watchers.values():
            if watcher.gateway in self.cluster.nodes and watcher.gateway not in self.cluster.frozen:
                watcher.look(self.cluster.now)

    def _gateway(self, data: Any) -> str:
        return str(data.draw(st.sampled_from(sorted(self.cluster.nodes))))

    def _has_sessions(self) -> bool:
        return any(self._all_sessions())

    def _all_sessions(self) -> list[tuple[str, str]]:
        return [
            (gateway, session)
            for gateway, sessions in self.cluster.sessions.items()
            if gateway not in self.cluster.frozen
            for session in sessions
        ]

    def _session(self, data: Any) -> tuple[str, str]:
        gateway, session = data.draw(st.sampled_from(sorted(self._all_sessions())))
        return gateway, session


class _Watcher:
    """A client that keeps what it is told of a room, as PROTOCOL.md says."""

    def __init__(self, cluster: Cluster, gateway: str, room: str) -> None:
        self.gateway = gateway
        self.room = room
        self._view = View(cluster.nodes[gateway].roster, room)
        self._users: dict[str, Person] = {one.user_id: one for one in self._view.presence().users}

    def look(self, now: float) -> None:
        change = self._view.look(now)
        if change is not None:
            self._apply(change)
            assert len(self._users) == change.count
            assert self._users == {one.user_id: one for one in self._view.presence().users}

    def known(self) -> dict[str, tuple[int, Status]]:
        return {one.user_id: (one.devices, one.status) for one in self._users.values()}

    def _apply(self, change: PresenceChange) -> None:
        for person in (*change.joined, *change.changed):
            assert (person.user_id in self._users) == (person in change.changed)
            self._users[person.user_id] = person
        for user in change.left:
            del self._users[user]


def test_every_gateway_knows_who_is_here_once_all_faults_are_over() -> None:
    """Whatever was lost, killed, frozen or cut off, all gateways and clients agree with the truth in the end."""
    assert unreached(Presence, EVERYTHING, max_examples=60, steps=30) == set()
