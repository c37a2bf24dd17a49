# HAProxy of the gateway machines: takes requests, and is steered by the agent of its machine.
#
# It is a job of its own, so that an agent that is updated or dies leaves it alone. It begins with
# the routes and servers that were carried out last, which are in the agent's folder, and needs
# neither schedulers nor Consul for that. The agent attaches to it by sockets in the same folder and
# registers the service `serai-gateway` in Consul with a check on HAProxy itself.
#
# variables
#   serai    folder of the virtual environment with `pip install 'serai[agent,consul,gateway]'`
#   config   configuration of the agent on each machine; its [gateway] table says `start = false`
#   meta     key of a node's meta that marks gateway machines, with the value "true"
#   port     port of the gateway, the one in the configuration
#
# The configuration names the gateway's `certificate` as well. Without one HAProxy is not started
# beyond loopback, unless the configuration says `insecure = true`. A renewed one is taken over when
# the agent is started again.
#
# ports: the gateway's, static.
#
# on update: one machine after another gets SIGUSR1, as with `nomad job stop`. HAProxy takes no more
# connections (clients are refused and take the next gateway) and ends when all that is in flight
# has ended, or after `kill_timeout` (Nomad's clients cut it at their own `max_kill_timeout`, 30 s
# unless set); then the new one starts. To let clients hear of it first, run
# `serai-agent --config FILE --drain` on the machine: it turns the check red and waits. An update of
# `agent.nomad.hcl` alone leaves HAProxy as it is.

variable "serai" {
  type    = string
  default = "/opt/serai"
}

variable "config" {
  type    = string
  default = "/etc/serai/agent.toml"
}

variable "meta" {
  type    = string
  default = "serai_gateway"
}

variable "port" {
  type    = number
  default = 8080
}

job "serai-gateway" {
  type        = "system"
  datacenters = ["*"]
  priority    = 95

  constraint {
    attribute = "$${meta.${var.meta}}"
    value     = "true"
  }

  update {
    max_parallel = 1
    stagger      = "30s"
  }

  group "gateway" {
    network {
      mode = "host"
      port "gateway" {
        static = var.port
      }
    }

    restart {
      attempts = 20
      interval = "10m"
      delay    = "1s"
      mode     = "delay"
    }

    task "haproxy" {
      driver       = "raw_exec"
      kill_signal  = "SIGUSR1"
      kill_timeout = "9m"

      config {
        command = "${var.serai}/bin/serai-agent"
        args    = ["--config", var.config, "--gateway"]
      }

      resources {
        cpu    = 1000
        memory = 512
      }
    }
  }
}
