// Elements copied, reordered or looked up, then through elementwise operations.
{% import "lib/chain.wgsl" as lib %}
{% include "lib/step.wgsl" %}
{% include "lib/functions.wgsl" %}

{% for o in operands %}{{ lib.operand(o) }}{% endfor %}
{% if parameters %}{{ lib.parameters(5, aligned) }}{% endif %}
{{ lib.chain("epilogue", epilogue) }}
{{ lib.store(3, aligned, outputs) }}
{% if work == "copy" %}
fn fetch(row: u32, column: u32) -> vec4<f32> {
    let at = place(row, column, step.width);
    return {{ source }};
}
{% elif work == "zeros" %}
fn fetch(row: u32, column: u32) -> vec4<f32> {
    return vec4(0.0);
}
{% elif work == "along" %}
@group(0) @binding(4) var<storage, read> source: array<{{ lib.element_type(quads) }}>;
// For each position, where its entries begin, and where the last one's end; each entry is a position of the source and a weight's bits.
@group(0) @binding(6) var<storage, read> table: array<u32>;

fn read_source(element: u32) -> vec4<f32> {
    let x = {% if quads %}source[element / 4u]{% else %}vec4(source[element]){% endif %};
    return {{ through }};
}

// The sum at a column, or at four of them that are at one position.
fn at_column(row: u32, column: u32) -> vec4<f32> {
    let blocks = step.geometry[0];
    let position = column % blocks.x / blocks.z;
    let first = row * step.depth + column / blocks.x * blocks.y + column % blocks.z;
    var sum = vec4(0.0);
    for (var entry = table[position]; entry < table[position + 1u]; entry += 2u) {
        sum = fma(read_source(first + table[entry] * blocks.z), vec4(bitcast<f32>(table[entry + 1u])), sum);
    }
    return sum;
}

fn fetch(row: u32, column: u32) -> vec4<f32> {
{% if quads %}
    return at_column(row, column);
{% else %}
    var v = vec4(0.0);
    for (var i = 0u; i < min(4u, step.columns - column); i++) {
        v[i] = at_column(row, column + i).x;
    }
    return v;
{% endif %}
}
{% else %}
{% if work == "lookup" %}
@group(0) @binding(4) var<storage, read> indices: array<i32>;
@group(0) @binding(6) var<storage, read> table: array<f32>;

fn element(row: u32, column: u32) -> f32 {
    let lookups = step.geometry[0].x;
    let entry_size = step.geometry[0].y;
    let index = indices[row * lookups + column / entry_size];
    // Negative indices count from the end.
    let entry = select(u32(index), u32(index + i32(step.entries)), index < 0);
    return table[entry * entry_size + column % entry_size];
}
{% else %}
@group(0) @binding(4) var<storage, read> source: array<f32>;
{% if work == "transpose" %}
@group(0) @binding(6) var<storage, read> positions: array<u32>;

fn element(row: u32, column: u32) -> f32 {
    return source[row * step.depth + positions[column]];
}
{% else %}
// The element at `column` of strips `length` long, the first at `first` and each `distance` behind the one before.
fn in_strips(column: u32, length: u32, distance: u32, first: u32) -> u32 {
    return column / length * distance + first + column % length;
}

fn element(row: u32, column: u32) -> f32 {
    let strips = step.geometry[0];
    return source[row * step.depth + in_strips(column, strips.x, strips.y, strips.z)];
}
{% endif %}
{% endif %}

fn fetch(row: u32, column: u32) -> vec4<f32> {
    let x = vec4(element(row, column), element(row, column + 1u), element(row, column + 2u), element(row, column + 3u));
    return {{ through }};
}
{% endif %}
{% if work == "scatter" %}

// Columns count the source's elements; each goes to its own place.
fn scatter(row: u32, column: u32, v: vec4<f32>) {
    let strips = step.geometry[1];
    for (var i = 0u; i < min(4u, step.columns - column); i++) {
        destination[row * step.width + in_strips(column + i, strips.x, strips.y, strips.z)] = v[i];
    }
}
{% endif %}

@compute @workgroup_size({{ lanes }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let cell = (group.y * groups.x + group.x) * {{ lanes }}u + local;
    let cells = (step.columns + 3u) / 4u;
    let row = cell / cells;
    if row < rows() {
        let column = 4u * (cell % cells);
        {{ "scatter" if work == "scatter" else "finish" }}(row, column, fetch(row, column));
    }
}
