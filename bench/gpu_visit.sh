#!/usr/bin/env bash
# A visit to a machine with a GPU and no network: checks first, then a campaign with the minutes that are left.
# Each part is limited in time, and what fails is said in the summary and does not stop the next part.
# usage: OUT=folder bench/gpu_visit.sh [MINUTES [PLAN [LANES]]]   on a tree with .visit/ (bench/gpu_visit_pack.sh)
#   LANES: a number, auto, or 0: no lanes, runs in processes of their own.
#   TESTS: what pytest is to run of the tests marked gpu; where they passed on such a machine, a few will do.
#   DEVICE=cpu rehearses it, without CUDA tests and measurements: DEVICE=cpu bench/gpu_visit.sh 2 rehearsal
set -uo pipefail
cd "$(dirname "$0")/.."
began=$(date +%s)
minutes=${1:-9} plan=${2:-gpu-first} lanes=${3:-auto} device=${DEVICE:-cuda}
out=${OUT:-.visit/out}
tests=${TESTS:-tests/test_recorded_steps.py tests/test_lanes.py tests/test_training.py tests/test_devices.py}
mkdir -p "$out"
summary=$out/summary.txt
: >"$summary"

left() { awk "BEGIN { print int($began + 60 * $minutes - $(date +%s)) }"; }
part() { # NAME SECONDS COMMAND...: its output into a file, its status and length into the summary
    local name=$1 limit=$2 start status
    shift 2
    start=$(date +%s)
    timeout --kill-after=10 "$limit" "$@" >"$out/$name.log" 2>&1
    status=$?
    echo "$name: status $status after $(($(date +%s) - start)) s" | tee -a "$summary"
    tail -n 3 "$out/$name.log" | sed 's/^/    /' | tee -a "$summary"
    return $status
}

cp .visit/commit .commit 2>/dev/null
export LAYERPRUNE_DATA=${LAYERPRUNE_DATA:-$PWD/.visit/data} PYTHONPATH=$PWD/src:$PWD OMP_NUM_THREADS=1
python=${PYTHON:-python3}
if ! $python -c "import pydantic, typer, ruamel.yaml, safetensors" 2>/dev/null; then
    # Beside what is installed, not over it: only what is missing is taken.
    part install 120 $python -m pip install --quiet --no-index --find-links .visit/wheels \
        pydantic typer ruamel.yaml safetensors filelock jinja2
fi
part versions 60 $python -c "
import platform, torch, torchvision
print(platform.python_version(), torch.__version__, torchvision.__version__)
print(torch.cuda.get_device_name(), torch.cuda.get_device_capability(), torch.version.cuda) if torch.cuda.is_available() else print('no CUDA device')"
if [ "$device" = cuda ]; then
    part cuda-tests 90 $python -m pytest -q --maxfail=20 -p no:cacheprovider -m gpu $tests
    part measurements 150 $python -m bench on-gpu --quick --json "$out/on-gpu.json"
fi
campaign() { # NAME WORDS...: what the time left allows; fails where the campaign itself broke down
    local name=$1 seconds status
    shift
    seconds=$(left)
    if [ "$seconds" -le "$least" ]; then
        echo "$name: no time left" | tee -a "$summary"
        return 0
    fi
    part "$name" "$seconds" $python -m layerprune campaign "$plan" --device "$device" --out "$out" --fill \
        --minutes "$(awk "BEGIN { print ($seconds - 15) / 60 }")" "$@"
    status=$?
    grep -A 12 '^## Lanes' "$out/$name.log" >>"$summary"
    # 1: some run failed; 75 and 124: the time was up. Anything else is no campaign.
    [ $status -le 1 ] || [ $status -eq 75 ] || [ $status -eq 124 ]
}

least=60
[ "$lanes" = 0 ] || campaign campaign --lanes "$lanes" || lanes=0
[ "$lanes" != 0 ] || campaign campaign-without-lanes
echo "done after $(($(date +%s) - began)) s" | tee -a "$summary"
