"""From a project folder to what a deploy sends: its files, their lock, the upload."""
