"""Operating a cluster as people do: the command line against one of its schedulers."""

import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any

from tests.support.serai import SERAI

DEPLOY_LIMIT_S = 180.0


@dataclass(frozen=True)
class Operator:
    """Runs `serai` on behalf of somebody who has a token for a scheduler.

    `ca` is a file with the certificates that it is checked by, "" for the system's.
    """

    url: str
    token: str
    ca: str = ""

    def run(
        self, *arguments: str, timeout_s: float = DEPLOY_LIMIT_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; with another exit status than 0 it is returned, too."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("SERAI_")}
        return subprocess.run(
            [SERAI, *arguments],
            env={
                **kept,
                "SERAI_URL": self.url,
                "SERAI_TOKEN": self.token,
                **({"SERAI_CA": self.ca} if self.ca else {}),
            },
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """Return what a command prints as JSON."""
        done = self.run(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def statuses(self) -> dict[str, dict[str, Any]]:
        """Return what the scheduler says of each API, by its name."""
        return {one["name"]: one for one in self.json("get")["apis"]}

    def has_a_node(self) -> bool:
        """Say whether the scheduler answers, and knows a node that is up and takes replicas."""
        done = self.run("nodes", "-o", "json")
        nodes = json.loads(done.stdout)["nodes"] if done.returncode == 0 else []
        return any(one["state"] == "up" and one["takes"] for one in nodes)
