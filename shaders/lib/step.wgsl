// What a dispatch is told. Extents, coefficients and ε are numbers, so that one text serves every layer.
struct Step {
    depth: u32,                   // elements of a source row
    width: u32,                   // elements of a target row
    first: u32,                   // the first target column of this dispatch
    columns: u32,                 // how many columns this dispatch computes
    stride: u32,                  // vec4s from one row of the weight to the next
    rows: u32,                    // rows a sample
    parts: u32,                   // rows that lie side by side in one row of the target's buffer
    targets: u32,                 // K: rows of relevance a sample
    positive: f32,                // c₊, the coefficient of positive weights
    negative: f32,                // c₋
    entries: u32,                 // of a lookup's table
    units: u32,                   // phases · groups of a convolution, each with tiles of its own
    added_positive: f32,          // c₊ of the second of two products that are summed
    added_negative: f32,          // c₋
    slice: u32,                   // steps of k that are summed from zero
    unused: u32,
    geometry: array<vec4<u32>, 2>, // what a move or a start is told beside
    window: array<vec4<i32>, 7>,  // how a window's targets reach their sources
    offsets: array<vec4<u32>, 4>, // where each parameter begins
    periods: array<vec4<u32>, 4>, // after how many columns each parameter repeats
    numbers: array<vec4<f32>, 8>, // factors, slopes and ε of the chain
}

// What changes from chunk to chunk.
struct Batch {
    samples: u32,
    start: u32,     // what relevance starts as
    is_ranked: u32, // 1 where targets are chosen by their logits, 0 where they are given
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> batch: Batch;

fn rows() -> u32 {
    return batch.samples * step.rows;
}

// Where an element lies: in buffers that have the target's rows, in those with one row a sample, and in parameters.
struct Place {
    element: u32,
    of_sample: u32,
    column: u32, // in the buffer's row
    within: u32, // among the columns of one of the rows that lie side by side
    row: u32,
    sample: u32,
}

{% if not lattice %}
fn place(row: u32, column: u32, width: u32) -> Place {
    var at: Place;
    at.element = row * width + column;
    at.within = column;
    at.row = row{% if parts %} / step.parts{% endif %};
    at.column = column{% if parts %} + row % step.parts * width{% endif %};
    at.sample = at.row{% if several %} / step.targets{% endif %};
    at.of_sample = {% if several %}at.sample * width{% if parts %} * step.parts{% endif %} + at.column{% else %}at.element{% endif %};
    return at;
}
{% endif %}
