"""The whole study of one preset, as a graph of runs, tables and figures.

snakemake                                    everything of the preset `quick`
snakemake [target] --config preset=laptop    the same of another preset, config/<preset>.yaml (targets go first)
snakemake mnist [-F]                         one dataset's runs, tables and figures (-F: all of them again)
snakemake cifar10_resnet20                   one network's runs on one dataset, then tables and figures of what exists
snakemake tables | figures | claims          only these, with the runs that they need
snakemake partial                            tables and figures of what exists; trains nothing
snakemake verify                             is every record there, current and plausible? trains nothing

Every target follows from the preset, as layerprune.suite.config reads it.
"""

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/storage.smk"
include: "workflow/rules/progress.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        lambda wildcards: runs_of(DATASETS) + tables_of(DATASETS) + figures_of(DATASETS) + claims_of_preset(),


rule tables:
    input:
        lambda wildcards: runs_of(DATASETS) + tables_of(DATASETS),


rule figures:
    input:
        lambda wildcards: runs_of(DATASETS) + figures_of(DATASETS),


rule claims:
    input:
        lambda wildcards: runs_of(DATASETS) + claims_of_preset(),


for name in catalog.NAMES:

    rule:
        name:
            name
        input:
            lambda wildcards, dataset=name: outcome_of(dataset),


include: "workflow/rules/train.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/check.smk"
include: "workflow/rules/targets.smk"
