# Serai's agent on every machine: it reports, fetches bundles and builds environments, and on
# gateway machines steers HAProxy.
#
# variables
#   serai    folder of the virtual environment with `pip install 'serai[agent,consul,gateway]'`
#   config   configuration on each machine, from `agent.example.toml`: its `node` is Nomad's name of
#            the machine ("" where that is the host's), and on gateway machines its [gateway] table
#            says `start = false`: Nomad ends all that a task has started when the task ends
#
# ports: only what the configuration opens on the machine itself (loopback unless told otherwise).
#
# on update: all at once, and no request notices. Replicas and HAProxy are no children of the agent;
# a gateway machine needs `gateway.nomad.hcl` (or a systemd unit) for HAProxy. On each machine the
# new agent starts when the old one has ended, within a second as a rule. A new release in a folder
# of its own is an update too: `nomad job run -var serai=/opt/serai-2 agent.nomad.hcl`. An agent
# that dies comes again after two seconds.

variable "serai" {
  type    = string
  default = "/opt/serai"
}

variable "config" {
  type    = string
  default = "/etc/serai/agent.toml"
}

job "serai-agent" {
  type        = "system"
  datacenters = ["*"]
  priority    = 90

  update {
    max_parallel = 0
  }

  group "agent" {
    restart {
      attempts = 10
      interval = "10m"
      delay    = "2s"
      mode     = "delay"
    }

    task "agent" {
      driver       = "raw_exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "20s"

      config {
        command = "${var.serai}/bin/serai-agent"
        args    = ["--config", var.config]
      }

      resources {
        cpu    = 200
        memory = 512
      }
    }
  }
}
