"""Targets that need no input and name no output: they always run, and never start a training."""


rule partial:
    log:
        log_file(f"{PRESET_NAME}/partial"),
    retries: 0
    conda:
        ENVIRONMENT
    params:
        preset=PRESET_NAME,
    shell:
        "(python -m layerprune tables --preset {params.preset} --partial &&"
        " python -m layerprune figures --preset {params.preset} --partial) 2>&1 | tee {log}"


rule verify:
    log:
        log_file(f"{PRESET_NAME}/verify"),
    retries: 0
    conda:
        ENVIRONMENT
    params:
        preset=PRESET_NAME,
    shell:
        "python -m layerprune verify --preset {params.preset} 2>&1 | tee {log}"
