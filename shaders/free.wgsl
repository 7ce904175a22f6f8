{% set quads = columns // 4 %}
{% set own = rows // lines %}
// target[row, n] = sum over k of source(row, k) * B(k, n) without workgroup memory, for adapters that are software: they serve
// every lane's memory access one by one, so that only loads per multiply-add count. B is W backward and its transpose forward:
// block.wgsl.
//
// An invocation makes {{ own }} rows by {{ columns }} columns. {{ lines }} lines of {{ lanes }} lanes are a workgroup: a line has rows of its own, and its lanes take
// quads of columns in turn. Every output is a sum of slices of k in order, each one chain of multiply-adds, as in tiled.wgsl.

@compute @workgroup_size({{ lanes * lines }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = tile_of(group.y * groups.x + group.x, (step.columns + {{ columns * lanes - 1 }}u) / {{ columns * lanes }}u);
    if tile.y * {{ rows }}u >= rows() {
        return;
    }
    let first_row = tile.y * {{ rows }}u + local / {{ lanes }}u * {{ own }}u;
    let column = (tile.x * {{ quads * lanes }}u + local % {{ lanes }}u) * 4u;
{% for r in range(own) %}
    let lead{{ r }} = lead(min(first_row + {{ r }}u, rows() - 1u));
{% for c in range(quads) %}
    var sum{{ r }}_{{ c }} = vec4<f32>();
{% endfor %}
{% endfor %}

{% if windowed %}
    var tap = 0u;
    var channel = 0u;
    var weights = weights_of(tap);
{% for r in range(own) %}
    var pixel{{ r }} = reach(lead{{ r }}, tap);
{% endfor %}
{% endif %}
{% if added %}
    let own_end = depth(tile.z);
    let second = (own_end + {{ deepest - 1 }}u) / {{ deepest }}u * {{ deepest }}u;
    let end = second + own_end;
{% else %}
    let end = depth(tile.z);
{% endif %}
    // At least once: a phase that takes no tap has zeros to store.
    var begin = 0u;
    loop {
        let until = min(begin + step.slice, end);
        for (var k = begin; k < until; k += 4u) {
{% if added %}
            if k >= own_end && k < second {
                continue;
            }
            is_second = k >= second;
{% if windowed %}
            if k == second {
                channel = 0u;
                tap = 0u;
                weights = weights_of(tap);
{% for r in range(own) %}
                pixel{{ r }} = reach(lead{{ r }}, tap);
{% endfor %}
            }
{% else %}
            let k_of_source = select(k, k - second, is_second);
{% endif %}
{% endif %}
{% for r in range(own) %}
            let a{{ r }} = {{ "fetch(pixel" ~ r ~ ", channel)" if windowed else "source4(lead" ~ r ~ ", k_of_source)" if added else "source4(lead" ~ r ~ ", k)" }};
{% endfor %}
{% for c in range(quads) %}
            let b{{ c }} = block_of(column + {{ c * lanes * 4 }}u, {{ "channel, weights" if windowed else "k_of_source, 0u" if added else "k, 0u" }});
{% for r in range(own) %}
{% for i in range(4) %}
            sum{{ r }}_{{ c }} = fma(vec4(a{{ r }}[{{ i }}]), b{{ c }}[{{ i }}], sum{{ r }}_{{ c }});
{% endfor %}
{% endfor %}
{% endfor %}
{% if windowed %}
            channel += 4u;
            if channel >= step.depth {
                channel = 0u;
                tap += 1u;
                weights = weights_of(tap);
{% for r in range(own) %}
                pixel{{ r }} = reach(lead{{ r }}, tap);
{% endfor %}
            }
{% endif %}
        }

        // The rows move up to where the first one was: with a copy of what stores them for each, the adapter's compiler takes twice as
        // long. Zeros move in behind them.
        for (var row = first_row; row < first_row + {{ own }}u; row += 1u) {
{% for c in range(quads) %}
            if until < end {
                carry(row, column + {{ c * lanes * 4 }}u, begin, sum0_{{ c }});
            } else {
                conclude(row, column + {{ c * lanes * 4 }}u, end, sum0_{{ c }});
            }
{% endfor %}
{% for r in range(1, own) %}
{% for c in range(quads) %}
            sum{{ r - 1 }}_{{ c }} = sum{{ r }}_{{ c }};
{% endfor %}
{% endfor %}
{% for c in range(quads) %}
            sum{{ own - 1 }}_{{ c }} = vec4<f32>();
{% endfor %}
        }
        continuing {
            begin += step.slice;
            break if begin >= end;
        }
    }
}
