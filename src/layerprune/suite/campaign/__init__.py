"""A campaign: as many runs of a plan, in order of priority, as a given time allows on this machine. Imports no torch.

Runs are processes of `layerprune run`, so locks, states and resumption are theirs. What was made leaves the machine as
one archive, which `layerprune results add` merges elsewhere. Needs no Snakemake and no network.
"""
