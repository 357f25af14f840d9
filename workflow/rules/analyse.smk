"""Tables and figures of a dataset. Where its data is absent they are made from the records that lie there."""


rule tables_of_dataset:
    input:
        lambda wildcards: files_of_runs(wildcards.dataset, paths.record),
    output:
        runs=report(
            paths.runs_table(PRESET_NAME, "{dataset}"),
            caption="../report/data.rst",
            category="Data",
            labels={"data set": "{dataset}", "file": "runs.csv"},
        ),
        summary=report(
            paths.summary_table(PRESET_NAME, "{dataset}"),
            caption="../report/data.rst",
            category="Data",
            labels={"data set": "{dataset}", "file": "summary.csv"},
        ),
        csv=paths.table(PRESET_NAME, "{dataset}", "csv"),
        markdown=paths.table(PRESET_NAME, "{dataset}", "md"),
        # A folder: a table per network of the preset.
        compact=directory(compact_folder("{dataset}")),
    log:
        log_file(f"{PRESET_NAME}/{{dataset}}/tables"),
    benchmark:
        log_file(f"{PRESET_NAME}/{{dataset}}/tables", "benchmark.tsv")
    retries: 0
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards: memory_to_read(wildcards.dataset),
        runtime=10,
    params:
        preset=PRESET_NAME,
        partial=tolerate_gaps,
    shell:
        "python -m layerprune tables --preset {params.preset} --dataset {wildcards.dataset} {params.partial} > {log} 2>&1"


rule table_page:
    input:
        program=local(str(HOUSE / "workflow" / "scripts" / "table_page.py")),
        table=paths.table(PRESET_NAME, "{dataset}", "md"),
    output:
        report(
            paths.table(PRESET_NAME, "{dataset}", "html"),
            caption="../report/table.rst",
            category="Tables",
            labels={"data set": "{dataset}", "table": "methods"},
        ),
    log:
        log_file(f"{PRESET_NAME}/{{dataset}}/table_page"),
    conda:
        ENVIRONMENT
    shell:
        "python {input.program:q} {input.table:q} {output:q} > {log:q} 2>&1"


# One network on one data set, such as cifar10_resnet20: its runs, then tables and figures of what is there by then.
# Without an output it always runs; the data set's own tables still wait for all its runs.
for name, arch in NETWORKS:

    rule:
        name:
            network_target(name, arch)
        input:
            lambda wildcards, dataset=name, arch=arch: files_of_runs(dataset, paths.record, arch=arch),
        log:
            log_file(f"{PRESET_NAME}/{name}/{arch}"),
        retries: 0
        conda:
            ENVIRONMENT
        params:
            preset=PRESET_NAME,
            dataset=name,
        shell:
            "(python -m layerprune tables --preset {params.preset} --dataset {params.dataset} --partial &&"
            " python -m layerprune figures --preset {params.preset} --dataset {params.dataset} --partial) 2>&1 | tee {log}"


rule figures_of_dataset:
    input:
        lambda wildcards: files_of_runs(wildcards.dataset, paths.record, paths.curves),
        summary=paths.summary_table(PRESET_NAME, "{dataset}"),
    output:
        # A folder: the drawing package decides which figures there are.
        report(
            directory(figure_folder("{dataset}")),
            patterns=["{figure}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            labels={"data set": "{dataset}", "figure": "{figure}"},
        ),
    log:
        log_file(f"{PRESET_NAME}/{{dataset}}/figures"),
    benchmark:
        log_file(f"{PRESET_NAME}/{{dataset}}/figures", "benchmark.tsv")
    retries: 0
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards: memory_to_read(wildcards.dataset),
        runtime=10,
    params:
        preset=PRESET_NAME,
        partial=tolerate_gaps,
    shell:
        "python -m layerprune figures --preset {params.preset} --dataset {wildcards.dataset} {params.partial} > {log} 2>&1"


rule ledger:
    input:
        lambda wildcards: [path for dataset in DATASETS for path in files_of_runs(dataset, paths.record)],
        evidence=[local(str(path)) for path in evidence()],
        rules=local(str(paths.claim_rules())),
    output:
        report(
            paths.claims(PRESET_NAME, "csv"),
            caption="../report/claims.rst",
            category="Data",
            labels={"data set": "all", "file": "claims.csv"},
        ),
        markdown=paths.claims(PRESET_NAME, "md"),
        headline=paths.headline(PRESET_NAME),
    log:
        log_file(f"{PRESET_NAME}/claims"),
    benchmark:
        log_file(f"{PRESET_NAME}/claims", "benchmark.tsv")
    retries: 0
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory_to_read(*DATASETS),
        runtime=10,
    params:
        preset=PRESET_NAME,
    shell:
        "python -m layerprune claims --preset {params.preset} > {log} 2>&1"


use rule table_page as ledger_page with:
    input:
        program=local(str(HOUSE / "workflow" / "scripts" / "table_page.py")),
        table=paths.claims(PRESET_NAME, "md"),
    output:
        report(
            paths.claims(PRESET_NAME, "html"),
            caption="../report/claims.rst",
            category="Claims",
            labels={"data set": "all", "table": "claims"},
        ),
    log:
        log_file(f"{PRESET_NAME}/claims_page"),
