{# Macros for what surrounds the work of a kernel: reading operands, the chain of elementwise operations, storing. #}

{# Four elements from `element` on. Rows whose width is no multiple of 4 begin anywhere, so theirs are read one by one. #}
{% macro four(buffer, aligned) -%}
{% if aligned %}{{ buffer }}[element / 4u]{% else %}vec4({{ buffer }}[element], {{ buffer }}[element + 1u], {{ buffer }}[element + 2u], {{ buffer }}[element + 3u]){% endif %}
{%- endmacro %}

{# What lies at `element` of a product's source. #}
{% macro stored(source, added) -%}
{% if added %}
    if is_second {
        return {{ four("added_source", source.aligned) }};
    }
{% endif %}
    return {{ four("source", source.aligned) }};
{%- endmacro %}

{# v, which is x through what the source is read through. #}
{% macro through(source, added) -%}
{% if added %}
    var v: vec4<f32>;
    if is_second {
        v = {{ added.through }};
    } else {
        v = {{ source.through }};
    }
{% else %}
    let v = {{ source.through }};
{% endif %}
{%- endmacro %}

{% macro element_type(aligned) -%}{% if aligned %}vec4<f32>{% else %}f32{% endif %}{%- endmacro %}

{% macro operand(o) %}
@group(0) @binding({{ o.binding }}) var<storage, read> buffer_{{ o.name }}: array<{{ element_type(o.aligned) }}>;

fn {{ o.name }}(at: Place) -> vec4<f32> {
{% if o.kind == "scalar" %}
    return vec4(buffer_{{ o.name }}[at.{{ "sample" if o.of_sample else "row" }}]);
{% else %}
    let element = at.{{ "of_sample" if o.of_sample else "element" }};
    return {{ four("buffer_" ~ o.name, o.aligned) }};
{% endif %}
}
{% endmacro %}

{% macro parameters(binding, aligned) %}
@group(0) @binding({{ binding }}) var<storage, read> parameters: array<{{ element_type(aligned) }}>;

fn parameter(element: u32) -> vec4<f32> {
    return {{ four("parameters", aligned) }};
}
{% endmacro %}

{% macro chain(name, lines) %}
fn {{ name }}(at: Place, given: vec4<f32>) -> vec4<f32> {
    var v = given;
{% for line in lines %}
{% if line.kind == "assign" %}
    v = {{ line.value }};
{% elif line.kind == "scale" %}
    v *= {{ line.factor }};
{% elif line.kind == "add" %}
    v += {{ line.value }};
{% elif line.kind == "add_scaled" %}
    v += {{ line.factor }} * {{ line.value }};
{% elif line.kind == "multiply" %}
    v *= {{ line.value }};
{% elif line.kind == "mask" %}
    v = select(vec4(0.0), v, {{ line.sign }} * {{ line.value }} > vec4(0.0));
{% elif line.kind == "divide" %}
    v = quotient(v, stabilize_{{ line.stabilizer }}({{ line.value }}, {{ line.epsilon }}));
{% elif line.kind == "divide_into" %}
    v = quotient({{ line.value }}, stabilize_{{ line.stabilizer }}(v, {{ line.epsilon }}));
{% elif line.kind == "damp" %}
    v *= damping_{{ line.stabilizer }}({{ line.value }}, {{ line.epsilon }});
{% endif %}
{% endfor %}
    return v;
}
{% endmacro %}

{# Writes four elements at a place, as far as the dispatch has columns. #}
{% macro put(buffer, v, aligned) -%}
{% if aligned %}
{{ buffer }}[at.element / 4u] = {{ v }};
{% else %}
for (var i = 0u; i < min(4u, step.columns - column); i++) {
        {{ buffer }}[at.element + i] = {{ v }}[i];
    }
{% endif %}
{%- endmacro %}

{# What a kernel writes: what its epilogue comes to goes on to the target, and to those beside it by a chain for each. Columns count from the
   first of this dispatch; those beyond its last are dropped. #}
{% macro store(binding, aligned, outputs, first="step.first", dropped="") %}
@group(0) @binding({{ binding }}) var<storage, read_write> destination: array<{{ element_type(aligned) }}>;
{% if outputs.then %}
{{ chain("go_on", outputs.then) }}
{% endif %}
{% for also in outputs.also %}
@group(0) @binding({{ also.binding }}) var<storage, read_write> destination_{{ loop.index }}: array<{{ element_type(aligned) }}>;
{{ chain("go_on_" ~ loop.index, also.lines) }}
{% endfor %}

fn finish(row: u32, column: u32, given: vec4<f32>) {
    if column >= step.columns{{ dropped }} {
        return;
    }
    let at = place(row, {{ first }} + column, step.width);
    let v = epilogue(at, given);
{% for also in outputs.also %}
    let v_{{ loop.index }} = go_on_{{ loop.index }}(at, v);
    {{ put("destination_" ~ loop.index, "v_" ~ loop.index, aligned) }}
{% endfor %}
{% if outputs.then %}
    let last = go_on(at, v);
    {{ put("destination", "last", aligned) }}
{% else %}
    {{ put("destination", "v", aligned) }}
{% endif %}
}
{% endmacro %}
