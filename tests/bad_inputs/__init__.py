"""A table of bad and odd inputs, which tests/test_bad_inputs.py gives to the tools."""

from tests.bad_inputs import (
    checks,
    coded_files,
    curves,
    data_sets,
    keys,
    pictures,
    processes,
    runs,
    sweeps,
)

TABLES = (runs, keys, data_sets, pictures, coded_files, sweeps, curves, checks, processes)
# Rows that fail at present, by name, and why: to be removed with the fault.
TODO: dict[str, str] = {
    "weights: a pickle that runs a program": "detectron2 reads pickles with all they hold",
}
ROWS = [row for table in TABLES for row in table.ROWS]
