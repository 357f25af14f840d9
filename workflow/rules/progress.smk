"""Progress names what has ended, as in `Finished digits/lenet5/gated/default/seed0`, where Snakemake says a job's number."""

import logging

from snakemake.logging import logger


class NamesInsteadOfNumbers(logging.Filter):
    """Remembers what each job is when it starts, and says so when it ends. Lets every line pass."""

    def __init__(self):
        super().__init__()
        self.names = {}

    def filter(self, record):
        if hasattr(record, "rule_name") and hasattr(record, "jobid"):
            self.names[record.jobid] = name_of_job(record.rule_name, getattr(record, "wildcards", None) or {})
        elif getattr(record, "job_id", None) in self.names and str(record.msg).startswith("Finished jobid"):
            record.msg = f"Finished {self.names[record.job_id]}"
        return True


def name_of_job(kind, wildcards):
    """A run by its name; of other jobs the kind and what it is made for."""
    words = [f"seed{value}" if name == "seed" else str(value) for name, value in wildcards.items()]
    return Path(*words).as_posix() if kind == "train" else " ".join([kind, *words])


logger.addFilter(NamesInsteadOfNumbers())
