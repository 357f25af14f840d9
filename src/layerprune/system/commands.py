"""Other programs asked for one answer. Imports no torch."""

import subprocess


def output_of(*words: str) -> str:
    """What a command prints, stripped; empty where it is not installed, fails or takes longer than 20 seconds."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
