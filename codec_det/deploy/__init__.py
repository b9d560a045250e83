"""Deployment: models for camera and receiver from a run, and what tools do with files of them."""
