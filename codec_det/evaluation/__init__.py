"""Evaluation: what a data set cost, how accurate the detector was, and the record of both."""
