// Relevance at the output: a workgroup chooses each target of a sample and fills its row; targets that are alike share the
// sample's one row.
{% import "lib/chain.wgsl" as lib %}
{% include "lib/step.wgsl" %}
{% include "lib/functions.wgsl" %}

const LANES = {{ lanes }}u;

// What relevance starts as: batch.start.
const LOGIT = 0u;
const ONE = 1u;
const SOFTMAX = 2u;
const SIGMOID = 3u;
const NEGATIVE_LOGIT = 4u;
const CONTRAST = 5u;
const GIVEN = 6u;

const NONE = 0xffffffffu;

@group(0) @binding(4) var<storage, read> logits: array<f32>;
@group(0) @binding(6) var<storage, read_write> explained: array<u32>;
@group(0) @binding(7) var<storage, read> given: array<f32>;
{% for o in operands %}{{ lib.operand(o) }}{% endfor %}
{% if parameters %}{{ lib.parameters(5, aligned) }}{% endif %}
{{ lib.chain("epilogue", epilogue) }}
{{ lib.store(3, aligned, outputs) }}
var<workgroup> ranks: array<vec2<u32>, LANES>;
var<workgroup> sums: array<f32, LANES>;

// A number that orders logits as they are ordered, with NaN below all and both zeros equal.
fn rank_of(logit: f32) -> u32 {
    let bits = bitcast<u32>(logit);
    let size = bits & 0x7fffffffu;
    if size > 0x7f800000u {
        return 0u;
    }
    return select(0x80000000u + size, 0x80000000u - size, bits >> 31u == 1u);
}

// Whether the first (rank, index) comes before the second: a larger logit, or the first of equals.
fn is_before(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x > b.x || a.x == b.x && a.y < b.y;
}

// The first of logits `from..to` that comes after `last` and is not `except`. All lanes get it.
fn next_in_rank(lane: u32, sample: u32, from_index: u32, to: u32, last: vec2<u32>, except: u32) -> vec2<u32> {
    var best = vec2(0u, NONE);
    for (var i = from_index + lane; i < to; i += LANES) {
        let candidate = vec2(rank_of(logits[sample * step.width + i]), i);
        if is_before(last, candidate) && i != except && is_before(candidate, best) {
            best = candidate;
        }
    }
    ranks[lane] = best;
    for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach && is_before(ranks[lane + reach], ranks[lane]) {
            ranks[lane] = ranks[lane + reach];
        }
    }
    let found = workgroupUniformLoad(&ranks[0]);
    return found;
}

// Σ e^(f − largest) over logits `from..to`. All lanes get it.
fn sum_of_exponentials(lane: u32, sample: u32, from_index: u32, to: u32, largest: f32) -> f32 {
    var sum = 0.0;
    for (var i = from_index + lane; i < to; i += LANES) {
        sum += exponential(vec4(logits[sample * step.width + i] - largest)).x;
    }
    sums[lane] = sum;
    for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            sums[lane] += sums[lane + reach];
        }
    }
    return workgroupUniformLoad(&sums[0]);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sample = group.y * groups.x + group.x;
    if sample >= batch.samples {
        return;
    }
    let classes = step.geometry[0].x;
    let is_ranked = batch.is_ranked == 1u;
    var last = vec2(NONE, 0u);
    for (var k = 0u; k < {% if alike %}1u{% else %}step.targets{% endif %}; k++) {
        let row = sample * step.targets + k;
        if is_ranked {
            last = next_in_rank(lane, sample, 0u, step.width, last, NONE);
            if lane == 0u {
                explained[row] = last.y;
            }
        } else {
            last.y = explained[row];
        }
        let chosen = last.y;
        let logit = logits[sample * step.width + chosen];
        let begin = chosen / classes * classes;
        var start = logit;
        var other = NONE;
        if batch.start == ONE {
            start = 1.0;
        } else if batch.start == NEGATIVE_LOGIT {
            start = -logit;
        } else if batch.start == SIGMOID {
            start = sigmoid(vec4(logit)).x;
        } else if batch.start == SOFTMAX {
            let largest = next_in_rank(lane, sample, begin, begin + classes, vec2(NONE, 0u), NONE);
            let peak = logits[sample * step.width + largest.y];
            start = exponential(vec4(logit - peak)).x / sum_of_exponentials(lane, sample, begin, begin + classes, peak);
        } else if batch.start == CONTRAST {
            other = next_in_rank(lane, sample, begin, begin + classes, vec2(NONE, 0u), chosen).y;
        }
        for (var column = 4u * lane; column < step.width; column += 4u * LANES) {
            let columns = vec4(column, column + 1u, column + 2u, column + 3u);
            var v = select(vec4(0.0), vec4(start), columns == vec4(chosen));
            if batch.start == GIVEN {
                let element = row * step.width + column;
                v = vec4(given[element], given[element + 1u], given[element + 2u], given[element + 3u]);
            } else if other != NONE {
                v = select(v, vec4(-logits[sample * step.width + other]), columns == vec4(other));
            }
            finish({% if alike %}sample{% else %}row{% endif %}, column, v);
        }
    }
}
