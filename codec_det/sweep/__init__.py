"""Sweeps: the grid of runs of a study, from one YAML file to curves.

A point is one run of tools/train_net.py in a folder of its own. :mod:`.study` reads the YAML,
:mod:`.points` makes checked points of it, :mod:`.state` tells from the results on disk which are
done, :mod:`.schedule` runs the others, one after the other here or, by :mod:`.machines`, on many
machines.
"""
