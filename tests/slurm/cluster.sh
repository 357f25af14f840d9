#!/usr/bin/env bash
# A SLURM cluster of one node on this machine, two stand-in GPUs included, all of it in one folder and as this user.
#     cluster.sh up FOLDER      starts it; then: export PATH=FOLDER/bin:$PATH
#     cluster.sh down FOLDER    stops it
# Needs Debian's slurm-wlm and munge, their daemons neither running nor configured. FOLDER: a short, absolute path.
set -euo pipefail

export PATH=$PATH:/usr/sbin
folder=$2
conf=$folder/slurm.conf
export SLURM_CONF=$conf

wait_for() { # SECONDS COMMAND...
    local tries=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "cluster.sh: gave up waiting for: $*" >&2; return 1; }
        sleep 0.1
    done
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

configure() {
    local host cores memory
    host=$(hostname -s)
    cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # which counts no further than these two
    memory=$(($(awk '/^MemTotal/ {print $2}' /proc/meminfo) / 1024 - 500))
    # A GPU needs a device file, or jobs are not told which is theirs; any device will do, as nothing opens it.
    echo "NodeName=$host Name=gpu File=/dev/tty[0-1]" >"$folder/gres.conf"
    cat >"$conf" <<EOF
ClusterName=layerprune-test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
StateSaveLocation=$folder/ctld
SlurmdSpoolDir=$folder/d
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobCompType=jobcomp/none
KillWait=10
MinJobAge=600
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores Boards=1 SocketsPerBoard=1 CoresPerSocket=$cores ThreadsPerCore=1 RealMemory=$memory Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES DefaultTime=60 MaxTime=INFINITE State=UP
EOF
}

# SLURM_CONF would do, but Snakemake's plugin takes every SLURM_ variable out of a job's environment.
wrap_commands() {
    local name
    for name in sbatch scancel scontrol sinfo squeue srun; do
        printf '#!/bin/sh\nexport SLURM_CONF=%s\nexec %s "$@"\n' "$conf" "$(command -v $name)" >"$folder/bin/$name"
        chmod +x "$folder/bin/$name"
    done
}

up() {
    install -d -m 700 "$folder" "$folder/bin" "$folder/ctld" "$folder/d"
    head -c 1024 /dev/urandom >"$folder/munge.key"
    chmod 400 "$folder/munge.key"
    configure
    wrap_commands
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
    wait_for 10 munge --socket="$folder/munge.socket" --no-input
    slurmctld
    wait_for 20 sh -c 'scontrol ping | grep -q "is UP"'
    slurmd
    wait_for 20 sh -c 'sinfo -h -o %t | grep -qx idle'
}

down() {
    local name pid
    for name in slurmd slurmctld munged; do
        [ -f "$folder/$name.pid" ] || continue
        pid=$(cat "$folder/$name.pid")
        kill "$pid" 2>/dev/null || continue
        wait_for 20 sh -c "! kill -0 $pid" || kill -9 "$pid" # what it still writes would outlive its folder
    done
}

case $1 in
up) up ;;
down) down ;;
*) echo "cluster.sh up|down FOLDER" >&2 && exit 2 ;;
esac
