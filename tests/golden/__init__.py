"""Golden values: what makes a version in place of a digest of the source safe.

Numbers of small runs (studies/, by way of the command that users give) and of what runs are made of (pieces.py) are
committed in values/, each with the versions under which it was made. tests/test_golden.py makes them anew: where a
number has changed but no version it fails and says which to raise; where a version was raised it asks for new values,
    python -m tests.golden
which writes only what has a new version or new settings. A refactoring changes neither. tests/mutation plants faults in
the package and has these tests notice them.

Whole numbers, keep lists and words are compared exactly. Of the others RELATIVE = 0.005 of the largest entry of a
list may be missing, and one example of an accuracy. This comes from the whole set, made with torch's and oneDNN's
kernels for SSE4.1, AVX2 and AVX-512 (on an AMD CPU, as if it were an older one) on one thread and two, and once more
after every weight at the start was multiplied by 1 + e, e normal with a standard deviation of 1e-7, which is
rounding. No whole number differed, nor any accuracy but bfloat16's; the largest spread was 4.8e-4 (scores of `cka`,
which are 1 minus a similarity near 1), a tenth of the tolerance. Two kinds are compared more loosely: training in
bfloat16 (0.1, and five examples; spread 6.3e-3 and two examples), and torchvision's decoder, which rounds pixels
otherwise with other kernels (0.03; spread 2.0e-3). Runs are short, of 3 to 20 steps with small learning rates,
because longer ones of networks with batch normalisation are chaotic: after 18 steps at a rate of 0.05 losses differed
by 1 %. Whoever adds a case should look at its spread.

On CUDA gates are drawn by the device's own generator, so that runs with such gates have other numbers there whatever
the tolerance; the others are compared by a test marked `gpu`, without TF32.
"""
