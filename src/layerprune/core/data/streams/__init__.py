"""Images decoded while training goes on: for data sets that do not fit into memory."""
