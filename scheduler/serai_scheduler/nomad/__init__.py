"""Nomad as the engine of a cluster."""
