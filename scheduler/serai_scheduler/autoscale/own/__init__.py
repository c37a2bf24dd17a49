"""Policies that users bring: asked in child processes, judged and held here."""
