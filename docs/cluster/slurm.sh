#!/bin/bash
#SBATCH --job-name=monju
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=02:00:00
# From the repository's folder on a shared disk, its virtual environment active:
#   sbatch docs/cluster/slurm.sh --data sst2 --out trained/sst2
#   sbatch docs/cluster/slurm.sh --out trained/sst2 --resume     after a time limit
set -euo pipefail

# only processes with this job's token may join
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0

port=$((20000 + SLURM_JOB_ID % 10000)) # two jobs may share a machine
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname --ip-address | awk '{print $1}')
start=(ray start --num-cpus="$SLURM_CPUS_PER_TASK" --block)

srun --nodes=1 --ntasks=1 --nodelist="$first" \
    "${start[@]}" --head --node-ip-address="$ip" --port="$port" --include-dashboard=false &
until ray status --address="$ip:$port" > /dev/null 2>&1; do sleep 2; done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$first" \
        "${start[@]}" --address="$ip:$port" &
fi

# a run is spread over the machines that are there when it begins
python - "$ip:$port" "$SLURM_JOB_NUM_NODES" <<'END'
import sys, time, ray
ray.init(sys.argv[1], logging_level="ERROR")
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(1)
END
python -m monju train --engine ray --address "$ip:$port" "$@"
