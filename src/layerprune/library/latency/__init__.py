"""How long inference takes, beside multiply-adds: of runs' networks, of files, of anybody's modules.

Weights do not matter. Networks that are compared take turns, so that a machine that slows down slows all of them, and
ratios stay right. Milliseconds are those of one forward pass of the whole batch, which is on the device already.

    conditions  under what is measured            machine   what it is measured on, alone
    engines     a network made ready to be called timing    warm-up, turns, quartiles
    subjects    what is measured, combination by combination
    studies     the runs of a preset              singles   folders of runs, .pt2 and .onnx files
    library     layerprune.measure_latency

Not in measure/: what lies there decides a run's numbers and is part of its record's source digest.
"""
