#!/usr/bin/env bash
# Rebuild rows of this leaderboard from nothing: both cohorts from their seeds, then training,
# samples and scorecard of each row; then compare the scorecard with the one in entries/.
#
# Usage: leaderboards/atlas/rebuild.sh [ROW ...]     (without ROW: the two that take seconds)
#
# Everything goes into the folder that WORK names, by default build/atlas. What is there already is
# kept. The exit status is 1 where a row has drifted.
#
# On another processor the simulated volumes differ in their last digits, so the board's protocol
# is frozen on them again, and the intervals of the two scorecards must overlap (overlap.py).
set -euo pipefail

board=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${WORK:-build/atlas}
synthbench=${SYNTHBENCH:-synthbench}
mkdir -p "$work"

# The subjects of the two cohorts are others: their seeds differ.
[[ -d $work/training ]] ||
    "$synthbench" data atlas --n 70 --seed 1 --shape 48 56 48 --out "$work/training"
[[ -d $work/reference ]] ||
    "$synthbench" data atlas --n 71 --seed 2 --shape 48 56 48 --out "$work/reference"

score() {
    "$synthbench" score --benchmark "$1" --real "$work/reference" \
        --train "$work/training" --synth "$synth" --name "${name%-s[0-9]}" --out "$card"
}

frozen=$board
drifted=0
(($#)) || set -- pca-gaussian mixup
for name in "$@"; do
    run=$work/runs/$name synth=$work/synth/$name card=$work/$name.json
    case $name in
        # The network in the package, as it is: it has seen 512 other simulated subjects.
        shipped) run=atlas ;;
        # The same network, 100 steps on this cohort. A name ends with the seed of the training.
        ddpm3d-init-s[0-9])
            training=(ddpm3d --preset tiny --init atlas --set steps=100 --set learning_rate=2.0e-4
                --set "seed=${name: -1}") ;;
        # A generator that is trained from nothing.
        *-s[0-9]) training=("${name%-s?}" --preset tiny --set "seed=${name: -1}") ;;
        *) training=("$name") ;;
    esac
    [[ $run == atlas || -f $run/weights.safetensors ]] ||
        "$synthbench" train "${training[@]}" --real "$work/training" --out "$run"
    "$synthbench" sample "$run" --n 70 --out "$synth"
    if ! score "$frozen" 2> "$work/score.log"; then
        cat "$work/score.log" >&2
        grep -q "was frozen on another real cohort" "$work/score.log" || exit 2
        echo "this processor simulates other last digits: the protocol is frozen on them" >&2
        frozen=$work/boards/atlas
        [[ -d $frozen ]] || "$synthbench" benchmark init atlas --folder "$work/boards" \
            --real "$work/reference" --protocol "$board"
        score "$frozen"
    fi
    committed=$board/entries/$name.json
    [[ -f $committed ]] || continue
    if [[ $frozen == "$board" ]]; then
        "$synthbench" drift "$committed" "$card" || drifted=1
    else
        python3 "$board/overlap.py" "$committed" "$card" || drifted=1
    fi
done
exit "$drifted"
