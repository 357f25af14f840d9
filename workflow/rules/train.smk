"""Data and runs. A run declares what it writes at its end; what it resumes from lies in state/, undeclared.

Snakemake deletes declared outputs before every attempt, so a retry of an interrupted run resumes from its state.
"""


rule stage:
    output:
        paths.data_manifest(PRESET_NAME, "{dataset}"),
    log:
        log_file(f"{PRESET_NAME}/{{dataset}}/stage"),
    benchmark:
        log_file(f"{PRESET_NAME}/{{dataset}}/stage", "benchmark.tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1500,
        runtime=30,
    params:
        preset=PRESET_NAME,
    shell:
        "python -m layerprune stage {wildcards.dataset} --preset {params.preset} > {log} 2>&1"


rule train:
    input:
        data=paths.data_manifest(PRESET_NAME, "{dataset}"),
        parents=starts_from,
    output:
        record=paths.record(ANY_RUN),
        curves=paths.curves(ANY_RUN),
        arch=paths.arch(ANY_RUN),
        weights=paths.weights(ANY_RUN),
    log:
        log_file(ANY_RUN),
    benchmark:
        log_file(ANY_RUN, "benchmark.tsv")
    # First seeds first: an interrupted study is then balanced over methods.
    priority: lambda wildcards: 100 - int(wildcards.seed)
    conda:
        ENVIRONMENT
    threads: lambda wildcards: PRESET.resources.threads * PRESET.processes(wildcards.dataset)
    resources:
        mem_mb=4000,
        runtime=120,
        gpu=gpus_of_a_run,
    params:
        preset=PRESET_NAME,
        settings=settings_of,
    shell:
        "python -m layerprune run --preset {params.preset} --dataset {wildcards.dataset} --arch {wildcards.arch}"
        " --method {wildcards.method} --variant {wildcards.variant} --seed {wildcards.seed}"
        " --threads {threads} > {log} 2>&1"
