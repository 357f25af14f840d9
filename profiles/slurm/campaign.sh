#!/bin/bash
# A campaign's plan in parts, each a job of an array: sbatch --array=1-64 --time=02:00:00 profiles/slurm/campaign.sh PLAN 117
# The last word is the minutes of a part, a few less than --time. Each job leaves an archive in OUT, outbox/ if not set.
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-task=1
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --signal=B:TERM@120

layerprune campaign "$1" --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --minutes "$2" --out "${OUT:-outbox}" &
trap 'kill -TERM %1' TERM
wait %1 || wait %1 # the first returns at the signal, the second when the archive is written
