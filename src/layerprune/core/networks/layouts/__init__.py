"""The names that other projects' checkpoints give to the weights of networks that are here too."""
