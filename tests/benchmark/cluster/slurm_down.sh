#!/bin/sh
# End what slurm_up.sh FOLDER started, by the process numbers that it left there.
folder=$1
export SLURM_CONF="$folder/slurm.conf"
scancel --partition=tests 2>/dev/null
sleep 1
for name in slurmd slurmctld munged; do
    [ -s "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")"
done
exit 0
