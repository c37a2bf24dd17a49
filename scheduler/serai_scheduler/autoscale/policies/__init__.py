"""The rules that can decide a count: Serai's own, a fixed one, and those of its peers."""
