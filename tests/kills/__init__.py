"""`make kill-test N=40`: runs, campaigns and graphs of runs killed with SIGKILL at random moments, and gone on with."""
