{% if added %}

// Of two products that are summed, k runs over the first, then over the second, which begins where every shape of tile begins a
// step: between the two it meets zeros.
@group(0) @binding({{ added.binding }}) var<storage, read> added_source: array<{{ lib.element_type(source.aligned) }}>;

// Whether k is in the second product.
var<private> is_second: bool;
{% endif %}
