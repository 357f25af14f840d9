"""How long inference takes, beside multiply-adds: of runs' networks, of files, of anybody's modules.

Weights do not matter. Compared networks alternate, so that a machine that slows down slows all of them, and
ratios stay right. Milliseconds are those of one forward pass of the whole batch, which is on the device already.

    measuring    layerprune.measure_latency, and what it measures, combination by combination
    engines      a module or an ONNX file, what it takes, what it costs; and how it is made ready to be called
    cuda_graphs  a forward pass as one launch on a GPU
    machine      what it is measured on, alone

suite/latency.py measures runs' folders and files.
"""
