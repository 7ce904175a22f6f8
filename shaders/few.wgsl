// target[row, n] = sum over k of source(row, k) * B(k, n) for {{ rows }} row{{ "s" if rows > 1 }} a workgroup: reading the weights is all the work, and
// each is read once. B is W backward and its transpose forward: block.wgsl.
{# A stretch of 128 bytes of W is what 32 invocations read together: forward 8 lanes of k for each column, backward 8 quads. #}
{% set quads = 8 if backward else 4 %}
{% set lanes = 256 // quads %}
//
// A workgroup makes {{ quads }} quads of columns. {{ lanes }} lanes share each of them: a lane takes one quad of k in {{ lanes }}, and a tree adds up what they
// have. The order of that sum depends on the depth alone; it is not the order of the other kernels.

var<workgroup> sums: array<array<vec4<f32>, 128>, {{ rows }}>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = tile_of(group.y * groups.x + group.x, (step.columns + {{ quads * 4 - 1 }}u) / {{ quads * 4 }}u);
    let first_row = tile.y * {{ rows }}u;
    if first_row >= rows() {
        return;
    }

    let column = (tile.x * {{ quads }}u + local % {{ quads }}u) * 4u;
    let end = depth(tile.z);
{% for r in range(rows) %}
    let lead{{ r }} = lead(min(first_row + {{ r }}u, rows() - 1u));
    var sum{{ r }} = vec4<f32>();
{% endfor %}

{% if added %}
    for (var product = 0u; product < 2u; product += 1u) {
    is_second = product == 1u;
{% endif %}
    for (var k = local / {{ quads }}u * 4u; k < end; k += {{ lanes * 4 }}u) {
        let b = block(column, k);
{% for r in range(rows) %}
        let a{{ r }} = source4(lead{{ r }}, k);
{% for i in range(4) %}
        sum{{ r }} = fma(vec4(a{{ r }}[{{ i }}]), b[{{ i }}], sum{{ r }});
{% endfor %}
{% endfor %}
    }
{% if added %}
    }
{% endif %}

    // At each level the upper half of the invocations hands over to the lower. Each does so in the slot that it alone has read
    // before, so that one barrier a level is enough.
    for (var reach = 128u; reach >= {{ quads }}u; reach /= 2u) {
        if local >= reach && local < 2u * reach {
{% for r in range(rows) %}
            sums[{{ r }}][local % 128u] = sum{{ r }};
{% endfor %}
        }
        workgroupBarrier();
        if local < reach {
{% for r in range(rows) %}
            sum{{ r }} += sums[{{ r }}][(local + reach) % 128u];
{% endfor %}
        }
    }

    if local < {{ quads }}u {
{% for r in range(rows) %}
        if first_row + {{ r }}u < rows() {
            finish(first_row + {{ r }}u, column, sum{{ r }});
        }
{% endfor %}
    }
}
