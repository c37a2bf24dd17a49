# A model behind Serai's gateways by plain `nomad job run`, without Serai's scheduler.
#
# For people who keep their jobs in files of their own. What this job registers in Consul is what the
# gateways follow: a service `serai-api-NAME` whose meta says which version and replica an instance
# is, and how many requests it takes at once. The route of the API (its endpoint, limits, retries)
# still comes from Serai: an API without a route takes no traffic. `serai render NAME` prints the job
# that Serai itself would run for a deployed API.
#
# variables
#   api       name of the API, a DNS label of at most 42 characters
#   version   name of the version, such as v1-0badcafe; for a new one beside it, copy
#             this file under another job name: under the same name it takes this one's place
#   image     image with an HTTP server that listens on 8080 ($PORT)
#   count     replicas
#   capacity  requests that one replica works on at once
#
# ports: one dynamic port of the machine for each replica, `http`, which is 8080 in the container.
#
# on update: Nomad replaces the replicas of this job one after another, each new one after the one
# before has passed its check. A replica that ends leaves Consul first, then has `shutdown_delay`
# until the gateways know, then SIGTERM, then `kill_timeout` for the answers in flight (Nomad's
# clients cut it at their own `max_kill_timeout`, 30 s unless set).

variable "api" {
  type    = string
  default = "model"
}

variable "version" {
  type    = string
  default = "v1-00000001"
}

variable "image" {
  type    = string
  default = "registry.example/team/model:1.0"
}

variable "count" {
  type    = number
  default = 1
}

variable "capacity" {
  type    = number
  default = 1
}

job "model" {
  type        = "service"
  datacenters = ["*"]

  meta {
    api     = var.api
    version = var.version
  }

  update {
    max_parallel      = 1
    health_check      = "checks"
    min_healthy_time  = "2s"
    healthy_deadline  = "10m"
    progress_deadline = "20m" # above both the deadline before and kill_timeout
  }

  group "replicas" {
    count = var.count

    network {
      mode = "host"
      port "http" {
        to = 8080
      }
    }

    restart {
      attempts = 2
      interval = "10m"
      delay    = "1s"
      mode     = "fail"
    }

    task "replica" {
      driver         = "docker"
      kill_signal    = "SIGTERM"
      kill_timeout   = "610s"
      shutdown_delay = "3s"

      config {
        image        = var.image
        ports        = ["http"]
        init         = true
        security_opt = ["no-new-privileges"]
      }

      env {
        PORT = "8080"
      }

      resources {
        cpu    = 500
        memory = 512
      }

      service {
        name         = "serai-api-${var.api}"
        provider     = "consul"
        port         = "http"
        address_mode = "host"

        meta {
          version  = var.version
          replica  = "${var.api}.${var.version}.${NOMAD_ALLOC_INDEX}"
          process  = "0"
          capacity = var.capacity
        }

        check {
          name                     = "ready"
          type                     = "http"
          path                     = "/readyz"
          interval                 = "1s"
          timeout                  = "2s"
          initial_status           = "critical"
          failures_before_critical = 3
        }
      }
    }
  }
}
