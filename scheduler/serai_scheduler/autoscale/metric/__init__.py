"""Metrics of Prometheus that APIs scale by: asked for in the background, judged and held here."""
