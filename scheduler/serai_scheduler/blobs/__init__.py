"""Stored content: where bundles and locks lie, and the HTTP interface that they arrive by."""

from serai_scheduler.blobs.http import routes
from serai_scheduler.blobs.storage import FolderBlobs, ObjectBlobs, open_blobs

__all__ = ["FolderBlobs", "ObjectBlobs", "open_blobs", "routes"]
