"""The runtime's benchmark."""
