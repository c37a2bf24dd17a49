# Serai's schedulers: three, each on a machine of its own; one of them leads.
#
# Nomad starts them, and Consul says who leads. They need no disk that outlives them: what has to
# be kept is in Consul (what `serai decisions` and `serai replay` look back on is not: it is lost with
# the disk), and the blobs where `blobs` of the configuration says. With `peers` in place
# of S3 they lie on these machines: fix them by `class`, one for each scheduler. A scheduler that is
# away costs no request: gateways go on by themselves, and only new decisions wait.
#
# variables
#   serai    folder of the virtual environment with `pip install 'serai[scheduler,consul,nomad]'`
#   config   configuration on each of these machines, from `scheduler.example.toml`: `advertise`
#            names the machine that it lies on
#   port     port of the operator API, the one in the configuration
#   count    schedulers: 1, or 3 for one of them to fail
#   class    node class of the machines that run them, "" for any
#
# ports: the operator API, static, so that it is found where it was.
#
# on update: one after another, each after the one before is ready. The one that leads gives its
# lease back when it ends (SIGTERM), and another leads within a second; requests to the operator API
# that it is answering finish first. A single one (`count=1`) is away between its end and its start.

variable "serai" {
  type    = string
  default = "/opt/serai"
}

variable "config" {
  type    = string
  default = "/etc/serai/scheduler.toml"
}

variable "port" {
  type    = number
  default = 7070
}

variable "count" {
  type    = number
  default = 3
}

variable "class" {
  type    = string
  default = ""
}

job "serai-scheduler" {
  type        = "service"
  datacenters = ["*"]
  priority    = 90

  dynamic "constraint" {
    for_each = var.class == "" ? [] : [var.class]
    content {
      attribute = "${node.class}"
      value     = constraint.value
    }
  }

  constraint {
    operator = "distinct_hosts"
    value    = "true"
  }

  spread {
    attribute = "${node.datacenter}"
  }

  update {
    max_parallel     = 1
    health_check     = "checks"
    min_healthy_time = "5s"
    healthy_deadline = "2m"
  }

  group "scheduler" {
    count = var.count

    network {
      mode = "host"
      port "operator" {
        static = var.port
      }
    }

    restart {
      attempts = 10
      interval = "10m"
      delay    = "2s"
      mode     = "delay"
    }

    task "scheduler" {
      driver       = "raw_exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "60s"

      config {
        command = "${var.serai}/bin/serai-scheduler"
        args    = ["--config", var.config]
      }

      resources {
        cpu    = 500
        memory = 512
      }

      service {
        name         = "serai-scheduler"
        provider     = "consul"
        port         = "operator"
        address_mode = "host"

        # A TCP check: the operator API speaks TLS, and who leads is no matter of health.
        check {
          name     = "listens"
          type     = "tcp"
          interval = "5s"
          timeout  = "2s"
        }
      }
    }
  }
}
