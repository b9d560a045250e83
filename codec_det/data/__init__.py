"""Data sets and image files: what the detector is trained and measured on."""
