"""Consul as Serai uses it: its key-value store, its locks and its registry of services."""
