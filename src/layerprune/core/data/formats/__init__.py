"""Readers of file formats that some data sets share; a loader imports the ones it needs."""
