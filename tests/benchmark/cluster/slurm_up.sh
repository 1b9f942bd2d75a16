#!/bin/sh
# Start a Slurm system of one node for tests, with all its state below FOLDER and on 127.0.0.1 only.
# usage: slurm_up.sh FOLDER CONTROL_PORT NODE_PORT      then: export SLURM_CONF=FOLDER/slurm.conf
set -eu
folder=$1 control_port=$2 node_port=$3
node=$(hostname -s)
memory=$(awk '/^MemTotal/ {print int($2 / 1024) - 500}' /proc/meminfo)

mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
chmod 755 "$folder"
chmod 700 "$folder/munge"
head -c 1024 /dev/urandom >"$folder/munge/key"
chmod 400 "$folder/munge/key"

cat >"$folder/slurm.conf" <<CONFIG
ClusterName=tests
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$control_port
SlurmdPort=$node_port
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
MpiDefault=none
SwitchType=switch/none
TaskPlugin=task/none
# Control groups need more rights than a container has; processes are found by their parents instead.
ProctrackType=proctrack/linuxproc
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2
# Jobs that use more than they asked for are ended, soon.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
KillWait=3
MinJobAge=600
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=tests Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONFIG
export SLURM_CONF="$folder/slurm.conf"

munged --force --socket="$folder/munge/socket" --key-file="$folder/munge/key" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge/seed"
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
tries=0
until sinfo --noheader --format=%T 2>/dev/null | grep -q idle; do
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || { tail -n 20 "$folder"/*.log >&2; exit 1; }
    sleep 0.5
done
