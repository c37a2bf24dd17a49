"""How many replicas an API is to have: what was asked of it, what that needs, and why."""
