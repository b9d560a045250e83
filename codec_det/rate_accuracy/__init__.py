"""What the results of many runs say: curves of accuracy over rate, and how far they are apart.

:mod:`.records` reads results, :mod:`.curves` groups them, :mod:`.bjontegaard_deltas` compares two
curves, :mod:`.bootstrap` says how sure that is; :mod:`.plots`, :mod:`.tables` and
:mod:`.curve_data` show it.
"""
