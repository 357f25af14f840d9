"""Targets that need no input and name no output: they always run, and never start a training."""


rule partial:
    log:
        log_file(f"{PRESET_NAME}/partial"),
    retries: 0
    conda:
        ENVIRONMENT
    params:
        preset=PRESET_NAME,
        claims=f"&& python -m layerprune claims --preset {PRESET_NAME}" if claims_of_preset() else "",
        program=Path(workflow.basedir, "workflow", "scripts", "table_page.py"),
        pages=pages(),
    shell:
        "(python -m layerprune tables --preset {params.preset} --partial &&"
        " python -m layerprune figures --preset {params.preset} --partial {params.claims} &&"
        ' for page in {params.pages}; do python {params.program:q} "$page.md" "$page.html" || exit 1; done) 2>&1'
        " | tee {log:q}"


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
