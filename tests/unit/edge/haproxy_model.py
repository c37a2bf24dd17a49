"""The little of HAProxy that the plan relies on: what each command does to servers and the map."""

import itertools
from dataclasses import dataclass, field, replace

from serai_agent.edge.answers import Seen, SeenServer, SeenSlot

MAP = "route.map"


@dataclass
class ModelHaproxy:
    """Takes the same commands as HAProxy and refuses what HAProxy refuses."""

    slots: list[str]
    servers: dict[tuple[str, str], SeenServer] = field(default_factory=dict)
    routes: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def seen(self) -> Seen:
        slots = {name: SeenSlot(name, 0, 0, 0) for name in self.slots}
        return Seen(dict(self.routes), tuple(self.servers.values()), slots)

    def finish_requests(self) -> None:
        self.servers = {key: replace(s, in_flight=0) for key, s in self.servers.items()}

    def run(self, command: str) -> None:
        """Carry out one command, or note that it is refused."""
        words = command.split()
        done = {
            ("add", "server"): self._add_server,
            ("del", "server"): self._del_server,
            ("enable", "health"): self._enable_health,
            ("enable", "server"): self._enable_server,
            ("set", "maxconn"): self._set_maxconn,
            ("set", "server"): self._set_server,
            ("add", "map"): self._set_map,
            ("set", "map"): self._set_map,
            ("del", "map"): self._del_map,
        }[words[0], words[1]](words)
        if not done:
            self.refused.append(command)

    def _change(self, place: str, **changes: object) -> bool:
        slot, name = place.split("/")
        server = self.servers.get((slot, name))
        if server is None:
            return False
        self.servers[slot, name] = replace(server, **changes)  # type: ignore[arg-type]
        return True

    def _add_server(self, words: list[str]) -> bool:
        slot, name = words[2].split("/")
        options = dict(itertools.pairwise(words))
        number = int(options["id"])
        taken = any(s.slot == slot and s.id == number for s in self.servers.values())
        if slot not in self.slots or (slot, name) in self.servers or taken:
            return False
        self.servers[slot, name] = SeenServer(
            slot=slot,
            name=name,
            id=number,
            address=words[3],
            maxconn=int(options["maxconn"]),
            in_flight=0,
            up=False,
            drain=False,
            maintenance=True,
            watched=False,
        )
        return True

    def _del_server(self, words: list[str]) -> bool:
        slot, name = words[2].split("/")
        server = self.servers.get((slot, name))
        if server is None or not server.maintenance or server.in_flight:
            return False
        del self.servers[slot, name]
        return True

    def _enable_health(self, words: list[str]) -> bool:
        return self._change(words[2], watched=True)

    def _enable_server(self, words: list[str]) -> bool:
        return self._change(words[2], maintenance=False, up=True)

    def _set_maxconn(self, words: list[str]) -> bool:
        return self._change(words[3], maxconn=int(words[4]))

    def _set_server(self, words: list[str]) -> bool:
        place, what, value = words[2:5]
        if what == "weight":
            # A weight of 0 is a drain that only a weight ends.
            return self._change(place, weight=int(value), drain=False)
        changes = {
            "ready": {"drain": False, "maintenance": False},
            "drain": {"drain": True, "maintenance": False},
            "maint": {"maintenance": True, "up": False},
        }[value]
        return self._change(place, **changes)

    def _set_map(self, words: list[str]) -> bool:
        known = words[3] in self.routes
        if words[2] != MAP or known != (words[0] == "set"):
            return False
        self.routes[words[3]] = words[4]
        return True

    def _del_map(self, words: list[str]) -> bool:
        return self.routes.pop(words[3], None) is not None
