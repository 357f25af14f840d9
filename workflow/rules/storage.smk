"""Results in a bucket or another storage: snakemake --default-storage-provider s3 --default-storage-prefix s3://... .

Then jobs work in the folder in which Snakemake keeps local copies of what lies there, as if it were the checkout's.
"""

IN_STORAGE = getattr(workflow.storage_settings, "default_storage_provider", None) is not None


def local_copies():
    """The folder below which local copies have the names that the files have below the root."""
    prefix = (workflow.storage_settings.default_storage_prefix or "").rstrip("/")
    example = workflow.storage_registry.default_storage_provider.object(f"{prefix}/results")
    return example.local_path().absolute().parent


def work_in(copies):
    """Have every job take this folder for the root. Presets are linked there; data is read where it is."""
    copies.mkdir(parents=True, exist_ok=True)
    for name in ("config", "requirements.lock"):
        link = copies / name
        if not link.is_symlink():
            link.symlink_to((paths.root() / name).absolute())
    data = settings.data_root(PRESET).absolute()
    shell.prefix(f"export LAYERPRUNE_ROOT={shlex.quote(str(copies))} LAYERPRUNE_DATA={shlex.quote(str(data))}; ")


if IN_STORAGE:
    work_in(local_copies())
